"""The client of the engine's HTTP API: vLLM, or whatever speaks the part of it that we use."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

import httpx2

from ttrl.engine.load import Load, read_load
from ttrl.proof import Pin
from ttrl.questions import Question
from ttrl.samples import Finish, Sample, SampleSet, Sampling

CONNECT_SECONDS = 5.0
READ_RETRIES = 3
RETRY_PAUSE_SECONDS = 0.2
MANAGE_SECONDS = 60.0
"""In which an adapter is loaded or unloaded."""
FIRST = -1000
"""A priority; users have 0."""
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})

T = TypeVar("T")


class EngineError(Exception):
    """The engine did not do what it was asked. Never quotes a question or an answer."""


class EngineUnreachable(EngineError):
    """No answer came: refused, cut off or too late."""


class EngineRefused(EngineError):
    """An answer came, with an error status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass(frozen=True)
class ModelCard:
    """A name that the engine serves. An adapter has a parent, the base model's name; `root` is the
    path that its weights came from. An engine need not say `max_model_len` for an adapter."""

    name: str
    parent: str | None
    root: str | None
    max_model_len: int | None


class EngineClient:
    """Safe to share between threads. `timeout` bounds every call, in seconds."""

    def __init__(self, url: str, *, api_key: str | None = None, timeout: float = 600.0) -> None:
        parsed = httpx2.URL(url)
        self.url = url.rstrip("/")
        self._client = httpx2.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
            timeout=httpx2.Timeout(timeout, connect=min(timeout, CONNECT_SECONDS)),
            # An engine closes idle connections after 5 s: let go first, or a request meets the end.
            limits=httpx2.Limits(max_connections=None, keepalive_expiry=2.0),
            # A proxy from the environment has no business between us and this machine.
            trust_env=parsed.host not in LOOPBACK,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._client.close()

    def healthy(self) -> bool:
        """Whether the engine says, now, that it can answer."""
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

    def models(self) -> tuple[ModelCard, ...]:
        """The base model and the adapters that are loaded, in the engine's order."""
        answer = self._json(self._get("/v1/models"), "GET /v1/models")
        return self._read("GET /v1/models", answer, _model_cards)

    def base_model(self) -> ModelCard:
        """The model that the adapters belong to."""
        base = next((card for card in self.models() if card.parent is None), None)
        if base is None:
            raise EngineError(f"{self.url} serves no base model")
        return base

    def sample(
        self, question: Question, *, model: str, n: int, sampling: Sampling, priority: int = 0
    ) -> SampleSet:
        """`n` answers with their token ids and the log-probability of each token."""
        body = _chat_body(question, model, sampling.temperature, sampling.max_tokens) | {
            "n": n,
            "logprobs": True,
            "top_logprobs": 0,
            "return_token_ids": True,
        }
        if sampling.seed is not None:
            body["seed"] = sampling.seed
        if priority:
            # Left out at 0: vLLM refuses the field unless it schedules by priority.
            body["priority"] = priority
        answer = self._post_json("/v1/chat/completions", body)
        return self._read(
            f"POST /v1/chat/completions ({model})", answer, lambda a: _sample_set(a, model, n)
        )

    def ask(self, question: Question, *, model: str, max_tokens: int) -> str:
        """The greedy answer's text."""
        body = _chat_body(question, model, 0.0, max_tokens)
        answer = self._post_json("/v1/chat/completions", body)
        return self._read(
            f"POST /v1/chat/completions ({model})",
            answer,
            lambda a: str(a["choices"][0]["message"].get("content") or ""),
        )

    def pulse(self, timeout: float) -> None:
        """Generate one token of the base model, before everybody else's, within `timeout` seconds.
        Raises EngineError."""
        body = {"prompt": [1], "max_tokens": 1, "temperature": 0.0, "priority": FIRST}
        self._checked(self._send("POST", "/v1/completions", body, timeout=timeout), "a pulse")

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
        answer = self._post_json("/v1/completions", body)
        return self._read(
            f"POST /v1/completions ({model})", answer, lambda a: _prompt_logprobs(a, ids)
        )

    def read_back(self, pin: Pin, *, model: str) -> tuple[float, ...]:
        """What the engine has for a pin's tokens from its start on, nan where it has nothing."""
        values = self.prompt_logprobs(pin.token_ids, model=model)[pin.start :]
        return tuple(math.nan if value is None else value for value in values)

    def load_adapter(self, name: str, path: Path | str) -> None:
        """Serve the adapter in `path` (on the engine's machine) under `name`.

        Raises EngineRefused with the engine's reason: taken name, no such path, wrong shapes.
        """
        self._manage("/v1/load_lora_adapter", {"lora_name": name, "lora_path": str(path)}, name)

    def unload_adapter(self, name: str) -> None:
        """Stop serving `name`; requests under way end well. Raises EngineRefused if unknown."""
        self._manage("/v1/unload_lora_adapter", {"lora_name": name}, name)

    def _manage(self, path: str, body: Mapping[str, Any], name: str) -> None:
        response = self._send("POST", path, body, timeout=MANAGE_SECONDS)
        if not response.is_success:
            what = f"POST {self.url}{path} for {name!r}: {response.status_code}"
            raise EngineRefused(response.status_code, f"{what}, {_reason(response)}")

    def _get(self, path: str) -> httpx2.Response:
        for attempt in range(READ_RETRIES):
            try:
                return self._checked(self._send("GET", path), f"GET {path}")
            except EngineUnreachable:
                if attempt == READ_RETRIES - 1:
                    raise
                time.sleep(RETRY_PAUSE_SECONDS)
        raise AssertionError("unreachable")

    def _post_json(self, path: str, body: Mapping[str, Any]) -> Any:
        what = f"POST {path} ({body['model']})"
        return self._json(self._checked(self._send("POST", path, body), what), what)

    def _send(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        timeout: float | None = None,
    ) -> httpx2.Response:
        bound = httpx2.USE_CLIENT_DEFAULT if timeout is None else timeout
        try:
            return self._client.request(method, path, json=body, timeout=bound)
        except httpx2.RequestError as error:
            raise EngineUnreachable(
                f"the engine at {self.url} {_what_became(error)} ({method} {path})"
            ) from error

    def _checked(self, response: httpx2.Response, what: str) -> httpx2.Response:
        # The engine's own words are left out: about a chat they may quote the user.
        if not response.is_success:
            status = response.status_code
            raise EngineRefused(status, f"{self.url} answered {status} to {what}")
        return response

    def _json(self, response: httpx2.Response, what: str) -> Any:
        try:
            return response.json()
        except ValueError as error:
            raise EngineError(f"{self.url} answered {what} with no JSON") from error

    def _read(self, what: str, answer: Any, reader: Callable[[Any], T]) -> T:
        try:
            return reader(answer)
        except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
            # `from None`: the inner error may quote what the engine sent.
            kind = type(error).__name__
            raise EngineError(f"{self.url} answered {what} in an unknown form ({kind})") from None


def _chat_body(
    question: Question, model: str, temperature: float, max_tokens: int
) -> dict[str, Any]:
    return dict(question.body) | {
        "model": model,
        "temperature": temperature,
        "top_p": 1.0,
        "top_k": 0,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "max_tokens": max_tokens,
        "stream": False,
    }


def _model_cards(answer: Any) -> tuple[ModelCard, ...]:
    return tuple(
        ModelCard(card["id"], card.get("parent"), card.get("root"), card.get("max_model_len"))
        for card in answer["data"]
    )


def _sample_set(answer: Any, model: str, n: int) -> SampleSet:
    choices = sorted(answer["choices"], key=lambda choice: int(choice["index"]))
    if len(choices) != n:
        raise ValueError("not as many choices as asked for")
    samples = tuple(_sample(choice) for choice in choices)
    return SampleSet(model, tuple(map(int, answer["prompt_token_ids"])), samples)


def _sample(choice: Any) -> Sample:
    token_ids = tuple(map(int, choice["token_ids"]))
    logprobs = tuple(float(entry["logprob"]) for entry in choice["logprobs"]["content"])
    if len(token_ids) != len(logprobs):
        raise ValueError("not as many log-probabilities as tokens")
    if choice["message"].get("tool_calls"):
        return Sample("", token_ids, logprobs, Finish.OTHER)
    text = choice["message"].get("content") or ""
    return Sample(str(text), token_ids, logprobs, _finish(choice["finish_reason"]))


def _finish(reason: str | None) -> Finish:
    return Finish(reason) if reason in {"stop", "length"} else Finish.OTHER


def _prompt_logprobs(answer: Any, ids: list[int]) -> tuple[float | None, ...]:
    entries = answer["choices"][0]["prompt_logprobs"]
    if len(entries) != len(ids):
        raise ValueError("not as many prompt log-probabilities as tokens")
    return tuple(
        None if entry is None else float(entry[str(token)]["logprob"])
        for entry, token in zip(entries, ids, strict=True)
    )


def _reason(response: httpx2.Response) -> str:
    try:
        return str(response.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return "no reason given"


def _what_became(error: httpx2.RequestError) -> str:
    if isinstance(error, httpx2.TimeoutException):
        return "did not answer in time"
    if isinstance(error, httpx2.ConnectError):
        return "cannot be reached"
    return f"broke off before it had answered: {type(error).__name__}"
