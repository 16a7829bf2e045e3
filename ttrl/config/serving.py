"""What users meet, and what answers them."""

from __future__ import annotations

import ipaddress
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import ByteSize, Field, field_validator, model_validator

from ttrl.config.section import Patience, Positive, Section
from ttrl.times import Duration


class ModelConfig(Section):
    """The base model."""

    name: str = ""
    """A model directory or a hub name, as vLLM takes it."""
    served_name: str = ""
    """The name that clients use; `name` when empty."""


class EngineKind(StrEnum):
    """What answers: vLLM, or the embedded engine for trying and testing."""

    VLLM = "vllm"
    EMBEDDED = "embedded"


class EngineConfig(Section):
    """The inference engine: started by us, or somebody else's at `url`."""

    kind: EngineKind = EngineKind.VLLM
    url: str | None = None
    """An engine that is already running; nothing is started then."""
    api_key: str | None = Field(default=None, repr=False)
    """The engine's own key, for us; clients never see it. One that we start without gets a new one
    at each start of the daemon."""
    port: Annotated[int, Field(ge=0, le=65535)] = 0
    """Where our own engine listens on loopback; 0 picks a free port."""
    flags: tuple[str, ...] = ()
    """Handed to vLLM as they are."""
    python: str | None = None
    """The Python that has vLLM, when it is not the one that runs ttrl."""
    startup_timeout: Duration = timedelta(minutes=15)
    request_timeout: Duration = timedelta(minutes=10)
    canary_timeout: Duration = timedelta(seconds=60)
    """In which an engine must give one token, or generate for others; else it hangs and is started
    again."""
    proof_interval: Duration = timedelta(minutes=10)
    """How often the live version's log-probabilities are read back and compared with what the
    trainer computed for its weights."""
    max_loras: Annotated[int, Field(ge=5)] = 6
    """Adapters that may be in use at once: live, previous, one draining, two candidates, spare."""
    memory_plan: bool = True
    """Reckon before anything starts whether engine and trainer fit on the GPU; refuse if not."""

    @model_validator(mode="after")
    def _flags_for_vllm(self) -> EngineConfig:
        if self.flags and (self.url is not None or self.kind is EngineKind.EMBEDDED):
            raise ValueError("flags are for a vLLM that ttrl starts, and it starts none here")
        if any(flag.partition("=")[0].replace("_", "-") == "--api-key" for flag in self.flags):
            raise ValueError(
                "every user of this machine sees a key among the flags; engine.api_key is for it"
            )
        return self

    @field_validator("url")
    @classmethod
    def _usable_url(cls, value: str | None) -> str | None:
        if value is not None:
            parts = urlsplit(value)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ValueError("an engine's address is written like http://127.0.0.1:8001")
            if parts.username is not None:
                raise ValueError("an engine's key goes into engine.api_key, not into its address")
        return value


NEVER_FORWARDED = frozenset({"/v1/load_lora_adapter", "/v1/unload_lora_adapter"})
"""Which versions the engine has is no client's business."""


class GatewayConfig(Section):
    """What clients meet."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    routes: tuple[str, ...] = (
        "/v1/responses",
        "/v1/messages",
        "/v1/embeddings",
        "/tokenize",
        "/detokenize",
    )
    """Further POST routes that are forwarded; nothing else is."""
    max_body: ByteSize = ByteSize(8 * 1024**2)
    max_n: Positive = 16
    drain_timeout: Duration = timedelta(seconds=30)
    keys: Path | None = None
    """A file of the keys of those who may ask, which `ttrl keys add` makes; without one everybody
    may who reaches the gateway, and that is only this machine."""
    hosts: tuple[str, ...] = ()
    """Names besides `host` and those of loopback under which a gateway without keys is asked, such
    as what a reverse proxy passes on as Host; no other name can be made to point to it."""
    max_requests: Positive = 1000
    """Requests under way; others get 503 with Retry-After at once."""
    max_connections: Positive = 4000
    """Open connections; beyond it the one that has waited longest for a request is closed."""
    head_timeout: Patience = timedelta(seconds=10)
    """In which a request's head must have come, from the connection's start or its first byte."""
    stall: Patience = timedelta(seconds=60)
    """A client that takes nothing of its answer for so long is cut off; one that takes it slowly is
    not."""

    @field_validator("routes")
    @classmethod
    def _for_clients(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if wrong := [path for path in value if path in NEVER_FORWARDED or path[:1] != "/"]:
            raise ValueError(f"these routes cannot be forwarded: {', '.join(wrong)}")
        return value

    @field_validator("keys")
    @classmethod
    def _found_from_anywhere(cls, value: Path | None) -> Path | None:
        return value and value.absolute()

    @model_validator(mode="after")
    def _locked(self) -> GatewayConfig:
        if self.keys is None and not _loopback(self.host):
            raise ValueError(
                "a gateway that other machines can reach needs gateway.keys, a file to which "
                "`ttrl keys add NAME` adds one, or 127.0.0.1 as its gateway.host"
            )
        if self.max_connections <= self.max_requests:
            raise ValueError(
                f"max_connections ({self.max_connections}) must be more than max_requests "
                f"({self.max_requests}), since each of these has one"
            )
        return self


class AdminConfig(Section):
    """The operator's page, what `ttrl` asks of the daemon, and metrics without a key."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] | None = 8090
    """0 picks a free one; null has no page, and one on loopback for the rest."""
    key: Annotated[str, Field(min_length=16)] | None = Field(default=None, repr=False)
    """Who knows it may see the page and push its buttons; without one a new one is made at each
    start, which `ttrl page` knows."""

    @model_validator(mode="after")
    def _locked(self) -> AdminConfig:
        if self.port is not None and self.key is None and not _loopback(self.host):
            raise ValueError(
                "a page that other machines can reach needs an admin.key; `openssl rand -hex 16` "
                "makes one"
            )
        return self


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
