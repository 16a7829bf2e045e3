"""The client of the engine's HTTP API: vLLM, or whatever speaks the part of it that we use."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial, reduce
from pathlib import Path
from typing import Any, TypeVar

import httpx2
import tenacity
from prometheus_client.parser import text_string_to_metric_families

from ttrl import Closing, ReportedError
from ttrl.answers import thoughts
from ttrl.config.learning import LONGEST_ANSWER
from ttrl.engine import threads
from ttrl.engine.proof import Pin
from ttrl.engine.samples import Finish, Sample, SampleSet, Sampling
from ttrl.questions.question import Question
from ttrl.questions.regime import Regime

CONNECT_SECONDS = 5.0
BACK_OFF = tenacity.wait_exponential_jitter(initial=1, max=30, jitter=1)
"""Seconds between the tries of one request: 1, 2, 4, ... and up to one more, so that those that
failed together do not come back together."""
LONGEST_PAUSE_SECONDS = 60.0
"""The most that an engine's Retry-After is heeded for."""
TRANSIENT = frozenset({408, 425, 429})
"""Error statuses that say to try again, besides those from 500 on."""
PART = 8
"""Answers in one request: what fails costs no more of them, and vLLM reads the common prompt from
its cache. It makes one request of its own of each answer in any case."""
SLOWEST = 5.0
"""Tokens a second that an answer comes with at least, about as fast as people read: an engine that
is slower, at the low priority of our requests as well, is of no use to its users."""
PROMPT_TAIL = 6
"""Last tokens of a prompt among which its template opens the model's thinking."""
MANAGE_SECONDS = 60.0
"""In which an adapter is loaded or unloaded, or the models are listed."""
RESTART_SECONDS = 300.0
"""In which an engine that died is up again, or the run that needs it ends; vLLM takes one minute
for a small model."""
ALTERNATIVES = 20
"""The most that vLLM gives beside a token, unless it is told otherwise."""
FIRST = -1000
"""A priority; users have 0."""
LOAD_SERIES = (
    "vllm:num_requests_running",
    "vllm:num_requests_waiting",
    "vllm:prompt_tokens_total",
    "vllm:generation_tokens_total",
)
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})

T = TypeVar("T")

log = logging.getLogger(__name__)


class EngineError(ReportedError):
    """The engine did not do what it was asked. Never quotes a question or an answer."""


class EngineUnreachable(EngineError):
    """No answer came: refused, cut off or too late."""


class EngineRefused(EngineError):
    def __init__(self, status: int, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.retry_after = retry_after
        """Seconds after which the engine asks to be tried again, if it says so."""

    @property
    def transient(self) -> bool:
        """Whether the same request may be answered a moment later."""
        return self.status >= 500 or self.status in TRANSIENT

    @property
    def final(self) -> bool:
        """Whether the request itself is at fault: the engine is well, and has the model."""
        return not self.transient and self.status != 404


@dataclass(frozen=True)
class ModelCard:
    """A name that the engine serves. An adapter has a parent, the base model's name; `root` is the
    path that its weights came from."""

    name: str
    parent: str | None
    root: str | None
    max_model_len: int | None


@dataclass(frozen=True)
class Load:
    """`running` and `waiting` answers (a request for n of them counts n times, whoever asked), and
    the `tokens` read and generated since the engine began: while they grow, it does not hang."""

    running: int
    waiting: int
    tokens: int


class EngineClient(Closing):
    """Safe to share between threads. `timeout` bounds every call, in seconds; sampling may take a
    second more for every `SLOWEST` tokens. A request for samples or for the log-probabilities of a
    prompt that times out, breaks off, or gets 429 or an error of the server's is tried again up to
    `retries` times."""

    def __init__(
        self, url: str, *, api_key: str | None = None, timeout: float = 600.0, retries: int = 0
    ) -> None:
        self.url = url.rstrip("/")
        self._timeout = timeout
        self._retries = retries
        self._openings: dict[tuple[str, tuple[int, ...]], str] = {}
        self._detokenizes = True
        self._client = httpx2.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
            # An engine closes idle connections after 5 s: let go first, or a request meets the end.
            limits=httpx2.Limits(max_connections=None, keepalive_expiry=2.0),
            # A proxy from the environment has no business between us and this machine.
            trust_env=httpx2.URL(url).host not in LOOPBACK,
        )

    def close(self) -> None:
        self._client.close()

    def healthy(self) -> bool:
        try:
            return self._client.get("/health", timeout=CONNECT_SECONDS).is_success
        except httpx2.RequestError:
            return False

    def load(self) -> Load | None:
        """How busy the engine is, now; None when it answers but does not say: its owner may have
        switched that off, or a proxy may keep it back, and neither is a fault that ends a run.
        Raises EngineUnreachable when no answer comes within 5 s."""
        response = self._send("GET", "/metrics", timeout=CONNECT_SECONDS)
        return read_load(response.text) if response.is_success else None

    @tenacity.retry(
        stop=tenacity.stop_after_attempt(3),
        wait=tenacity.wait_fixed(0.2),
        retry=tenacity.retry_if_exception_type(EngineUnreachable),
        reraise=True,
    )
    def models(self) -> tuple[ModelCard, ...]:
        """Return the base model and the adapters that are loaded, in the engine's order."""
        return self._call(
            "/v1/models", None, lambda answer: tuple(map(_card, answer["data"])), MANAGE_SECONDS
        )

    def base_model(self) -> ModelCard:
        base = next((card for card in self.models() if card.parent is None), None)
        if base is None:
            raise EngineError(f"{self.url} serves no base model")
        return base

    def sample(
        self,
        question: Question,
        *,
        model: str,
        n: int,
        sampling: Sampling | Regime,
        priority: int = 0,
    ) -> SampleSet:
        """`n` answers with their token ids and the log-probability of each token: in requests of
        at most `PART` answers, all at once. Raises EngineError."""
        sizes = [min(PART, n - done) for done in range(0, n, PART)]
        body = {
            **question.body,
            **sampling.fields,
            "model": model,
            "stream": False,
            "logprobs": True,
            "top_logprobs": 0,
            "return_token_ids": True,
        }
        if priority:
            # Left out at 0: vLLM refuses the field unless it schedules by priority.
            body["priority"] = priority
        bodies = [{**body, "n": size} for size in sizes]
        if "seed" in body:  # vLLM gives the answers to one request seeds in a row
            for number, each in enumerate(bodies):
                each["seed"] += number * PART
        return reduce(joined, threads.map_in_order(self._part, bodies, width=len(bodies)))

    def _part(self, body: Mapping[str, Any]) -> SampleSet:
        tokens = body.get("max_completion_tokens") or body.get("max_tokens") or LONGEST_ANSWER
        timeout = self._timeout + tokens / SLOWEST
        drawn, thoughts_apart = self._persist(
            "/v1/chat/completions", body, partial(_sample_set, body), timeout
        )
        opening = "" if thoughts_apart else self._opening(body["model"], drawn.prompt_ids)
        # As if the samples had said the mark that the prompt ends with.
        whole = (replace(each, text=opening + each.text) for each in drawn.samples)
        return replace(drawn, samples=tuple(whole)) if opening else drawn

    def _opening(self, model: str, prompt_ids: tuple[int, ...]) -> str:
        """The mark of thinking that a prompt opens at its end, so that it stands in no answer;
        empty if it opens none, or the engine cannot say (vLLM can)."""
        tail = prompt_ids[-PROMPT_TAIL:]
        key = model, tail
        if key not in self._openings and self._detokenizes:
            body = {"model": model, "tokens": list(tail)}
            try:
                end = self._call(
                    "/detokenize", body, lambda answer: str(answer["prompt"]), CONNECT_SECONDS
                )
            except EngineError as error:
                self._detokenizes = isinstance(error, EngineUnreachable)
                return ""
            self._openings[key] = thoughts.opened(end)
        return self._openings.get(key, "")

    def first_token(self, text: str, *, model: str, priority: int = 0) -> Mapping[str, float]:
        """The log-probabilities of the likeliest tokens that an answer to a message may begin with.
        A model that may think or not does not. Not tried again. Raises EngineError."""
        body = {
            "model": model,
            "messages": [{"role": "user", "content": text}],
            **Sampling(temperature=0.0, max_tokens=1).fields,
            "stream": False,
            "logprobs": True,
            "top_logprobs": ALTERNATIVES,
            "chat_template_kwargs": {"enable_thinking": False},
            **({"priority": priority} if priority else {}),
        }
        return self._call("/v1/chat/completions", body, _first_token, self._timeout)

    def pulse(self, timeout: float) -> None:
        """Generate one token of the base model, before everybody else's, within `timeout` seconds.
        Raises EngineError."""
        body = {"prompt": [1], "max_tokens": 1, "temperature": 0.0, "priority": FIRST}
        self._checked(self._send("POST", "/v1/completions", body, timeout), "a pulse")

    def prompt_logprobs(self, token_ids: Sequence[int], *, model: str) -> tuple[float | None, ...]:
        """Each token's log-probability given those before it, at temperature 1; the first has
        none. One token is generated and thrown away: the API gives no prompt without one."""
        ids = [int(token) for token in token_ids]
        body = {
            "model": model,
            "prompt": ids,
            "max_tokens": 1,
            "temperature": 1.0,
            "prompt_logprobs": 0,
        }
        return self._persist("/v1/completions", body, partial(_prompt_logprobs, ids), self._timeout)

    def read_back(self, pin: Pin, *, model: str) -> tuple[float, ...]:
        """What the engine has for a pin's tokens from its start on, nan where it has nothing."""
        values = self.prompt_logprobs(pin.token_ids, model=model)[pin.start :]
        return tuple(math.nan if value is None else value for value in values)

    def load_adapter(self, name: str, path: Path | str) -> None:
        """Serve the adapter in `path` (on the engine's machine) under `name`. A client that retries
        waits RESTART_SECONDS for an engine that is being started again.

        Raises EngineRefused with the engine's reason: taken name, no such path, wrong shapes.
        """
        body = {"lora_name": name, "lora_path": str(path)}
        stop = tenacity.stop_after_delay(RESTART_SECONDS)
        for attempt in _attempts(stop if self._retries else tenacity.stop_after_attempt(1)):
            with attempt:
                # The answer to an attempt may be lost, and its adapter loaded all the same.
                first = attempt.retry_state.attempt_number == 1
                if first or name not in {card.name for card in self.models()}:
                    self._manage("/v1/load_lora_adapter", body, name)

    def unload_adapter(self, name: str) -> None:
        """Stop serving `name`; requests under way end well. Raises EngineRefused if unknown."""
        self._manage("/v1/unload_lora_adapter", {"lora_name": name}, name)

    def _manage(self, path: str, body: Mapping[str, Any], name: str) -> None:
        response = self._send("POST", path, body, MANAGE_SECONDS)
        if not response.is_success:
            try:
                reason = str(response.json()["error"]["message"])
            except (ValueError, KeyError, TypeError):
                reason = "no reason given"
            what = f"POST {self.url}{path} for {name!r}: {response.status_code}"
            raise EngineRefused(response.status_code, f"{what}, {reason}")

    def _persist(
        self, path: str, body: Mapping[str, Any], read: Callable[[Any], T], timeout: float
    ) -> T:
        """As `_call`, tried again."""
        # What has taken its whole time twice is not tried a third time.
        too_late = tenacity.stop_after_delay(1.5 * timeout)
        for attempt in _attempts(tenacity.stop_after_attempt(1 + self._retries) | too_late):
            with attempt:
                return self._call(path, body, read, timeout)
        raise AssertionError("unreachable")

    def _call(
        self,
        path: str,
        body: Mapping[str, Any] | None,
        read: Callable[[Any], T],
        timeout: float | None = None,
    ) -> T:
        """POST the body, or GET, and return what `read` makes of the answer. Raises EngineError."""
        what = f"POST {path} ({body['model']})" if body else f"GET {path}"
        response = self._checked(self._send("POST" if body else "GET", path, body, timeout), what)
        try:
            answer = response.json()
        except ValueError as error:
            raise EngineError(f"{self.url} did not answer {what} with JSON") from error
        try:
            return read(answer)
        except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
            # `from None`: the inner error may quote what the engine sent.
            kind = type(error).__name__
            raise EngineError(f"{self.url} answered {what} in an unknown format ({kind})") from None

    def _send(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        timeout: float | None = None,
    ) -> httpx2.Response:
        bound = self._timeout if timeout is None else timeout
        limits = httpx2.Timeout(bound, connect=min(bound, CONNECT_SECONDS))
        try:
            return self._client.request(method, path, json=body, timeout=limits)
        except httpx2.RequestError as error:
            match error:
                case httpx2.TimeoutException():
                    became = "did not answer in time"
                case httpx2.ConnectError():
                    became = "cannot be reached"
                case _:
                    kind = type(error).__name__
                    became = f"closed the connection before it had answered: {kind}"
            message = f"the engine at {self.url} {became} ({method} {path})"
            raise EngineUnreachable(message) from error

    def _checked(self, response: httpx2.Response, what: str) -> httpx2.Response:
        # The engine's own words are left out: about a chat they may quote the user.
        if not response.is_success:
            status, after = response.status_code, None
            with suppress(KeyError, ValueError):  # a date, which it may be, is as none
                after = float(response.headers["retry-after"])
            raise EngineRefused(status, f"{self.url} answered {status} to {what}", after)
        return response


def joined(first: SampleSet, more: SampleSet) -> SampleSet:
    """Return the samples of two requests for one question as one set. Raises EngineError if their
    prompts differ: some chat templates state the date, which may have changed in between."""
    if more.prompt_ids != first.prompt_ids:
        raise EngineError(
            "the prompt's tokens differ between two requests for one question; does its chat "
            "template state the time?"
        )
    return replace(first, samples=first.samples + more.samples)


def read_load(exposition: str) -> Load | None:
    """Return the load from Prometheus' text format, summed over several engines; None when it does
    not hold all of it (vLLM with --disable-log-stats, another server's page)."""
    # Chosen before they are parsed: vLLM's page has a thousand lines, and this is read often.
    lines = "\n".join(line for line in exposition.splitlines() if line.startswith(LOAD_SERIES))
    sums: dict[str, float] = {}
    try:
        for family in text_string_to_metric_families(lines):
            for sample in family.samples:
                sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
        running, waiting, read, generated = (sums[name] for name in LOAD_SERIES)
        return Load(int(running), int(waiting), int(read + generated))
    except (ValueError, LookupError, OverflowError):  # the parser's, or of NaN; none; of infinity
        return None


def _card(card: Any) -> ModelCard:
    return ModelCard(card["id"], card.get("parent"), card.get("root"), card.get("max_model_len"))


def _sample_set(body: Mapping[str, Any], answer: Any) -> tuple[SampleSet, bool]:
    """Return the samples, and whether the engine has a reasoning parser, which keeps thoughts apart
    from the answer: vLLM counts their tokens then."""
    choices = sorted(answer["choices"], key=lambda choice: int(choice["index"]))
    if len(choices) != body["n"]:
        raise ValueError("wrong number of choices")
    samples = tuple(map(_sample, choices))
    counted = (answer.get("usage") or {}).get("completion_tokens_details")
    prompt_ids = tuple(map(int, answer["prompt_token_ids"]))
    return SampleSet(body["model"], prompt_ids, samples), bool(
        counted or any(map(_thoughts, choices))
    )


def _sample(choice: Any) -> Sample:
    token_ids = tuple(map(int, choice["token_ids"]))
    logprobs = tuple(float(entry["logprob"]) for entry in choice["logprobs"]["content"])
    if len(token_ids) != len(logprobs):
        raise ValueError("log-probabilities and tokens differ in number")
    if choice["message"].get("tool_calls"):
        return Sample("", token_ids, logprobs, Finish.OTHER)
    # Half a surrogate pair, which JSON can spell, is no text: neither store nor tokenizer takes it.
    text = str(choice["message"].get("content") or "").encode(errors="replace").decode()
    # How many tokens the thoughts are is not said; they have as large a share as of the characters.
    thoughts = len(_thoughts(choice))
    thought = round(len(token_ids) * thoughts / max(thoughts + len(text), 1))
    reason = choice["finish_reason"]
    finish = Finish(reason) if reason in ("stop", "length") else Finish.OTHER
    return Sample(text, token_ids, logprobs, finish, thought)


def _first_token(answer: Any) -> Mapping[str, float]:
    first = answer["choices"][0]["logprobs"]["content"][0]
    return {str(each["token"]): float(each["logprob"]) for each in first["top_logprobs"]}


def _thoughts(choice: Any) -> str:
    """What is kept apart from the answer: vLLM calls the field `reasoning`, other engines and vLLM
    before 0.12 `reasoning_content`."""
    message = choice["message"]
    return str(message.get("reasoning") or message.get("reasoning_content") or "")


def _prompt_logprobs(ids: list[int], answer: Any) -> tuple[float | None, ...]:
    entries = answer["choices"][0]["prompt_logprobs"]
    if len(entries) != len(ids):
        raise ValueError("prompt log-probabilities and tokens differ in number")
    return tuple(
        None if entry is None else float(entry[str(token)]["logprob"])
        for entry, token in zip(entries, ids, strict=True)
    )


def _attempts(stop: tenacity.stop.stop_base) -> tenacity.Retrying:
    def transient(error: BaseException) -> bool:
        return isinstance(error, EngineUnreachable) or (
            isinstance(error, EngineRefused) and error.transient
        )

    def pause(state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked = error.retry_after if isinstance(error, EngineRefused) else None
        return min(max(BACK_OFF(state), asked or 0.0), LONGEST_PAUSE_SECONDS)

    def tell(state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        log.info("retrying in %.0f s: %s", state.upcoming_sleep, error)

    return tenacity.Retrying(
        stop=stop,
        wait=pause,
        retry=tenacity.retry_if_exception(transient),
        before_sleep=tell,
        reraise=True,
    )
