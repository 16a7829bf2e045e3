"""What serves, and what is recorded and kept."""

from __future__ import annotations

import ipaddress
import math
import sys
from datetime import timedelta
from enum import StrEnum
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, ByteSize, Field, model_validator

from ttrl.config.section import (
    Duration,
    FromAnywhere,
    HttpUrl,
    Patience,
    Port,
    Positive,
    Section,
    checked,
)
from ttrl.words import install

if TYPE_CHECKING:
    import sqlalchemy as sa

DRIVERS = {
    "sqlite": "sqlite",
    "sqlite+pysqlite": "sqlite",
    "postgresql": "postgresql+psycopg",
    "postgresql+psycopg": "postgresql+psycopg",
}
EXAMPLE = "postgresql+psycopg://user@host/db"


def parse(text: str) -> sa.URL:
    """Return a store's URL, with the driver that we use. Raises ValueError with a message that
    repeats nothing of the URL, which may hold a password."""
    import sqlalchemy as sa  # takes longer than all else that a command loads

    try:
        url = sa.make_url(text)
    except (sa.exc.ArgumentError, ValueError):
        raise ValueError(f"not a database URL such as {EXAMPLE}") from None
    if url.drivername not in DRIVERS:
        raise ValueError(f"the store must be SQLite (sqlite:///file) or PostgreSQL ({EXAMPLE})")
    if "@" in (url.host or ""):
        raise ValueError("write an @ in the password as %40")
    url = url.set(drivername=DRIVERS[url.drivername])
    if url.drivername == "sqlite" and (url.database in (None, "", ":memory:") or url.query):
        raise ValueError("an SQLite URL must be sqlite:///file, without options")
    return url


def shown(url: sa.URL) -> str:
    """Return the URL without its password, and without options, which may hold another."""
    return url.set(query={}).render_as_string(hide_password=True)


class ModelConfig(Section):
    """The base model."""

    name: str = ""
    """A model directory or a Hugging Face Hub name."""
    served_name: str = ""
    """The name that clients use; `name` when empty."""


class EngineKind(StrEnum):
    """The engine: vLLM, or the embedded engine for trials and tests."""

    VLLM = "vllm"
    EMBEDDED = "embedded"


class EngineConfig(Section):
    """The inference engine: started by ttrl, or a running one at `url`."""

    kind: EngineKind = EngineKind.VLLM
    """The engine to start: vLLM, or the embedded one for trials and tests."""
    url: HttpUrl | None = None
    """URL of a running engine; ttrl then starts none."""
    api_key: str | None = Field(default=None, repr=False)
    """The engine's own API key; clients never see it. If unset, an engine that ttrl starts gets a
    new one at each start of the daemon."""
    port: Port = 0
    """Loopback port of an engine that ttrl starts; 0 picks a free port."""
    flags: tuple[str, ...] = ()
    """Flags that are passed to vLLM."""
    python: str | None = None
    """The Python that has vLLM, if it is not the one that runs ttrl."""
    startup_timeout: Duration = timedelta(minutes=15)
    """Time in which an engine that ttrl starts must be ready."""
    request_timeout: Duration = timedelta(minutes=10)
    """Time limit of a request to the engine. For samples there is a second more for every 5 tokens
    of the limit: 37 minutes for 8192."""
    retries: Annotated[int, Field(ge=0, le=20)] = 6
    """Number of times that a run retries a request for samples after a timeout, a 429 or a server
    error: after 1, 2, 4, ... seconds, 30 at most, or as long as its Retry-After says. After that
    the question is left out of the step, or the probe of the gate."""
    canary_timeout: Duration = timedelta(seconds=60)
    """Time in which the engine must return one token or make progress on other requests; otherwise
    it is restarted."""
    proof_interval: Duration = timedelta(minutes=10)
    """How often the live version's log-probabilities are read back and compared with what the
    trainer computed for its weights."""
    max_loras: Annotated[int, Field(ge=5)] = 6
    """Number of adapters in use at once: live, previous, one draining, two candidates, spare."""
    memory_plan: bool = True
    """Estimate before the start whether engine and trainer fit on the GPU, and give vLLM the
    memory that the trainer leaves; warn if they likely do not fit, refuse if their weights alone
    do not."""

    @model_validator(mode="after")
    def _key_in_its_place(self) -> EngineConfig:
        if self.flags and (self.url is not None or self.kind is EngineKind.EMBEDDED):
            raise ValueError(
                "engine.flags are for a vLLM that ttrl starts, but here it starts none"
            )
        if self.url is not None and urlsplit(self.url).username is not None:
            raise ValueError("do not put the engine's key into its URL; set engine.api_key")
        if any(flag.partition("=")[0].replace("_", "-") == "--api-key" for flag in self.flags):
            raise ValueError(
                "do not put the key into engine.flags, where every user of this machine can see "
                "it; set engine.api_key"
            )
        return self


def _for_clients(path: str) -> None:
    if path[:1] != "/" or path in ("/v1/load_lora_adapter", "/v1/unload_lora_adapter"):
        raise ValueError(
            f"{path} cannot be forwarded: a route begins with /, and what only operators may do "
            "is never forwarded"
        )


class GatewayConfig(Section):
    """The API for clients."""

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: Port = 8000
    """Port to listen on; 0 picks a free one."""
    workers: Annotated[int, Field(ge=1, le=64)] = 1
    """Number of processes that answer clients on this port. The first is the daemon, which alone
    trains, schedules and watches the engine. Each has an equal share of `max_requests`,
    `max_connections` and `record.queue`; the limits of a key hold over all of them."""
    routes: tuple[Annotated[str, checked(_for_clients)], ...] = (
        "/v1/responses",
        "/v1/messages",
        "/v1/messages/count_tokens",
        "/v1/embeddings",
        "/tokenize",
        "/detokenize",
    )
    """Further POST routes that are forwarded; nothing else is."""
    max_body: ByteSize = ByteSize(8 * 1024**2)
    """Maximum size of a request, such as 8MiB; a larger one gets 413."""
    max_n: Positive = 16
    """Maximum number of answers to a prompt. A request with more prompts, or texts to embed, counts
    as as many requests as that would take."""
    drain_timeout: Duration = timedelta(seconds=30)
    """Time that requests in progress have at a shutdown before they are cut off."""
    keys: FromAnywhere | None = None
    """The file of API keys, made by `ttrl keys add`; if unset, every client on this machine has
    access."""
    hosts: tuple[str, ...] = ()
    """Host names besides `host` and loopback that a gateway without keys accepts, such as the Host
    that a reverse proxy passes on."""
    max_requests: Positive = 1000
    """Maximum number of concurrent requests; others get 503 with Retry-After at once."""
    max_connections: Positive = 4000
    """Maximum number of open connections; beyond it the one that has been idle longest is
    closed."""
    cors: tuple[str, ...] = ()
    """Origins whose web pages may ask, such as https://chat.example.org; `*` is every page that a
    user of this machine has open, which vLLM allows by default."""
    keep_alive: Duration = timedelta(seconds=75)
    """Time after which a connection that rests is closed: longer than clients and load balancers
    keep one (OpenAI's 5 s, nginx's and AWS's 60 s), so that they end it."""
    head_timeout: Patience = timedelta(seconds=10)
    """Time in which a request's head must arrive, from the connection's start or its first byte."""
    stall: Patience = timedelta(seconds=60)
    """Time after which a client that reads nothing of its answer is disconnected; a slow reader is
    not."""

    def share(self, limit: int) -> int:
        """Return what each worker has of a limit that holds over all of them."""
        return math.ceil(limit / self.workers)

    @model_validator(mode="after")
    def _locked(self) -> GatewayConfig:
        if self.keys is None and not _loopback(self.host):
            raise ValueError(
                "a gateway that other machines can reach needs API keys: set gateway.keys to a "
                "file and run `ttrl keys add NAME`, or set gateway.host to 127.0.0.1"
            )
        if self.workers > 1 and sys.platform != "linux":
            raise ValueError("several gateway.workers need Linux")
        if self.max_connections <= self.max_requests:
            raise ValueError(
                f"max_connections ({self.max_connections}) must be more than max_requests "
                f"({self.max_requests}), since each request has a connection"
            )
        return self


class AdminConfig(Section):
    """The operator's page, the API for the `ttrl` command, and metrics without a key."""

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: Port | None = 8090
    """0 picks a free port; null turns the page off and serves the rest on a loopback port."""
    key: Annotated[str, Field(min_length=16)] | None = Field(default=None, repr=False)
    """The login key of the page; if unset, a new one is made at each start, and `ttrl page` prints
    it in a link."""

    @model_validator(mode="after")
    def _locked(self) -> AdminConfig:
        if self.port is not None and self.key is None and not _loopback(self.host):
            raise ValueError(
                "a page that other machines can reach needs admin.key; make one with `openssl "
                "rand -hex 16`"
            )
        return self


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


PATTERNS = (
    "EMAIL_ADDRESS", "PHONE_NUMBER", "CREDIT_CARD", "IBAN_CODE", "IP_ADDRESS", "US_SSN", "CRYPTO",
    "MAC_ADDRESS",
)  # fmt: skip
"""What is known by its form, and taken out if nothing else is asked for."""
MORE_PATTERNS = ("URL", "DATE_TIME", "UUID")
BY_MODEL = ("PERSON", "LOCATION", "ORGANIZATION", "NRP")
"""What only a model of a language finds; `NRP` is nationality, religion, politics."""
ENTITIES = (*PATTERNS, *MORE_PATTERNS, *BY_MODEL)


class StoreConfig(Section):
    """Where questions, votes, runs and versions are stored."""

    url: Annotated[str, checked(parse)] | None = Field(default=None, repr=False)
    """A SQLAlchemy URL such as postgresql+psycopg://user@host/db; if unset, SQLite in the state
    directory."""


Digest = Annotated[str, Field(pattern="^[0-9a-fA-F]{64}$"), AfterValidator(str.lower)]


Pattern = Annotated[str, Field(min_length=1, max_length=256)]
Patterns = Annotated[
    tuple[Pattern, ...],
    BeforeValidator(lambda value: (value,) if isinstance(value, str) else value),
]
"""Patterns of shells, of which one must match the whole text; one may stand without a list."""


class Rule(Section):
    """Whether requests teach that have all of what it names: the client's key by its name, the
    model as the client asked for it, headers, the user's last message, and the system prompt."""

    name: Annotated[str, Field(pattern="^[a-z0-9_]{1,32}$")]
    teach: bool = False
    key: Patterns = ()
    model: Patterns = ()
    header: dict[Annotated[str, Field(pattern="^[A-Za-z0-9-]{1,64}$")], Patterns] = Field(
        default={}
    )
    user: Patterns = ()
    system: Patterns = ()


class RecordConfig(Section):
    """What is recorded of the traffic."""

    enabled: bool = True
    """Record the questions of the traffic."""
    max_chars: Positive = 32_000
    """Longer questions are answered but not recorded."""
    queue: Positive = 10_000
    """Maximum number of questions that wait to be written; further ones are not recorded."""
    only_keys: tuple[Digest, ...] = ()
    """SHA-256, in hexadecimal (`printf %s KEY | sha256sum`), of the keys whose questions are
    recorded; if empty, all."""
    rules: Annotated[tuple[Rule, ...], Field(max_length=64)] = ()
    """Which requests teach: the first rule that matches decides, and without one a request does
    (docs/privacy.md)."""
    default_rules: bool = True
    """Try at last the built-in rules, which leave out what chat interfaces ask on their own:
    titles, tags, follow-ups and the like."""
    redact: bool | tuple[str, ...] = False
    """Replace PII by placeholders before a question is stored (needs the extra `privacy`). true:
    e-mail and IP addresses, telephone, card, account and social security numbers; or a list of
    entities such as [EMAIL_ADDRESS, PERSON]."""
    redact_model: str = ""
    """A spaCy pipeline, a package or a directory, that finds names of people; `redact: true` then
    replaces them as well."""

    @property
    def entities(self) -> tuple[str, ...]:
        if isinstance(self.redact, tuple):
            return self.redact
        names = ("PERSON",) if self.redact_model else ()
        return (*PATTERNS, *names) if self.redact else ()

    @model_validator(mode="after")
    def _one_rule_of_a_name(self) -> RecordConfig:
        names = [rule.name for rule in self.rules]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"record.rules has two rules with the name {min(twice)}")
        return self

    @model_validator(mode="after")
    def _can_redact(self) -> RecordConfig:
        if unknown := sorted(set(self.entities) - set(ENTITIES)):
            raise ValueError(f"unknown entities {', '.join(unknown)}; known: {', '.join(ENTITIES)}")
        if self.entities and find_spec("presidio_analyzer") is None:
            raise ValueError(f"record.redact needs the extra `privacy`: {install('privacy')}")
        names = sorted(set(self.entities) & set(BY_MODEL))
        if names and not self.redact_model:
            raise ValueError(
                f"{', '.join(names)} can only be found by a model: set record.redact_model"
            )
        return self


class FeedbackConfig(Section):
    """What clients may say of answers (`POST /v1/feedback`), and what is kept for it."""

    enabled: bool = False
    """Take feedback. Of each answer the hash of its id, its question's hash, the client, the
    version and the time are then kept, never its text."""
    days: Positive = 7
    """How long after an answer feedback on it is taken."""
    answers: Positive = 200_000
    """Maximum number of answers without feedback to take it on; the oldest are forgotten."""
    per_hour: Positive = 60
    """Maximum number of requests with feedback in an hour from one key, or from all clients without
    keys together; further ones get 429. Each of `gateway.workers` counts its own."""
    agree: Annotated[int, Field(ge=2)] = 2
    """Number of keys whose corrections of a question must agree to make it a labelled probe."""


class KeepConfig(Section):
    """How long data are kept; older data are deleted automatically."""

    questions_for: Patience | None = timedelta(days=90)
    """Time since a question was last asked; null: forever."""
    questions: Positive | None = None
    """Maximum number of questions that are not held out: the oldest are deleted."""
    bytes: Annotated[ByteSize, Field(ge=64 * 2**20)] | None = None
    """Maximum size of an SQLite store: the oldest samples are deleted, then the oldest
    questions."""
    runs_for: Patience | None = timedelta(days=30)
    """Time since the end of a run for which its samples, observations and log are kept; null:
    forever."""
    adapters: Positive = 10
    """Number of newest versions whose files are kept, and of held ones; besides those that are
    live or may become live again."""
