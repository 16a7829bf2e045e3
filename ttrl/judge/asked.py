"""A judge that is asked over HTTP: any OpenAI-compatible model, or the base model in the engine."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import httpx2

from ttrl.config import JudgeConfig
from ttrl.engine import threads
from ttrl.engine.client import CONNECT_SECONDS, LOOPBACK
from ttrl.engine.pacing import Pacer
from ttrl.judge import KNOWN, SCORED, Cost, prompt
from ttrl.judge.records import Records, digest
from ttrl.questions.question import Question

FAILED_IN_A_ROW = 3
"""Requests after which a judge that does not answer is left alone for a while."""
REST_SECONDS = 60.0
UNSUPPORTED = (400, 422)
"""What a server answers to a field that it does not know."""

log = logging.getLogger(__name__)


class AskedJudge:
    """Asks for one score at a time. With a `pacer` the model is the engine's base, and requests
    have `priority`; what else is asked is bounded by `judge.in_flight`."""

    def __init__(
        self,
        settings: JudgeConfig,
        records: Records,
        *,
        url: str,
        model: str,
        api_key: str | None = None,
        pacer: Pacer | None = None,
        priority: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.cost = Cost()
        about = f"{prompt.VERSION}\0{model}\0{settings.scale}\0{settings.rubric}"
        self.key = f"judge {model} {hashlib.sha256(about.encode()).hexdigest()[:8]}"
        self._settings, self._records, self._clock = settings, records, clock
        self._url, self._model = f"{url.rstrip('/').removesuffix('/v1')}/v1/chat/completions", model
        self._extra: dict[str, Any] = {}
        slots = threading.BoundedSemaphore(settings.in_flight)
        self._slot: Callable[[], AbstractContextManager[object]] = lambda: slots
        if pacer is not None:
            self._slot = pacer.slot
            # A model that may think or not does not.
            self._extra = {"chat_template_kwargs": {"enable_thinking": False}}
            self._extra |= {"priority": priority} if priority else {}
        self._client = httpx2.Client(
            headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
            timeout=httpx2.Timeout(settings.timeout.total_seconds(), connect=CONNECT_SECONDS),
            limits=httpx2.Limits(max_connections=None, keepalive_expiry=2.0),
            trust_env=httpx2.URL(url).host not in LOOPBACK,
        )
        self._closed = threading.Event()
        self._lock = threading.Lock()  # guards what follows
        self._next = self._rested = 0.0
        self._failed = self._begun = self._way = 0

    def close(self) -> None:
        self._closed.set()
        self._client.close()

    def scores(self, question: Question, answers: Sequence[str]) -> list[float | None]:
        """As Scorer has it. The same answer is scored once, whoever gave it when."""
        digests = {answer: digest(question.hash, answer) for answer in answers}
        known = self._records.of(self.key)
        found: dict[str, float | None] = {
            answer: 0.0 if not answer.strip() else known.get(of) for answer, of in digests.items()
        }
        new = [answer for answer, score in found.items() if score is None]
        self.cost.count(KNOWN, len(answers) - len(new))
        width = self._settings.in_flight
        given = list(threads.map_in_order(partial(self._score, question), new, width=width))
        found |= dict(zip(new, given, strict=True))
        scored = [(digests[answer], score) for answer, score in zip(new, given, strict=True)]
        self._records.add(self.key, [(of, score) for of, score in scored if score is not None])
        return [found[answer] for answer in answers]

    def _score(self, question: Question, answer: str) -> float | None:
        outcome, score = self._ask(question, answer)
        self.cost.count(outcome)
        return score

    def _ask(self, question: Question, answer: str) -> tuple[str, float | None]:
        """Return the score and what became of the answer, in a word."""
        if prompt.claims_score(answer):
            return "claims_a_score", None
        settings = self._settings
        text = prompt.asked(question, answer, settings.rubric, settings.scale)
        with self._slot():
            if why := self._turn():
                return why, None
            try:
                content = self._reply(text)
            except httpx2.HTTPStatusError as error:
                status = error.response.status_code
                if status >= 500 or status in (401, 403, 404, 408, 429):
                    self._rest(error.response.headers.get("retry-after"))
                return f"refused_{status}", None
            except httpx2.TimeoutException:
                self._rest()
                return "timed_out", None
            except httpx2.HTTPError:
                self._rest()
                return "unreachable", None
            except (ValueError, LookupError, TypeError, AttributeError):
                return "nonsense", None
            except RuntimeError:  # the client was closed meanwhile
                return "not_asked", None
        with self._lock:
            self._failed = 0
        score = prompt.read(content, settings.scale)
        return ("nonsense", None) if score is None else (SCORED, score)

    def _turn(self) -> str:
        """Wait until a request may go out; say why none may, if so."""
        with self._lock:
            if self._closed.is_set():
                return "not_asked"
            if self._begun >= self._settings.requests:
                return "limit_reached"
            now = self._clock()
            if now < self._rested:
                return "failing"
            self._begun += 1
            each = self._settings.requests_per_minute
            turn = max(now, self._next)
            self._next = turn + (60 / each if each else 0)
        return "not_asked" if self._closed.wait(turn - now) else ""

    def _rest(self, retry_after: str | None = None) -> None:
        """Ask nothing for a while, if requests fail one after the other: a run is not to wait for
        each of thousands."""
        with self._lock:
            self._failed += 1
            if self._failed >= FAILED_IN_A_ROW or retry_after:
                bidden = retry_after if retry_after and retry_after.isdecimal() else REST_SECONDS
                rest = min(float(bidden), REST_SECONDS)
                self._rested = self._clock() + rest
                log.warning("the judge does not answer; it is asked again in %.0f s", rest)

    def _reply(self, text: str) -> str:
        """Return what the model replies, asked in the fullest way that the server knows. Raises
        httpx2.HTTPError, and what an unknown form of answer raises."""
        ways = self._ways(text)
        for number in range(self._way, len(ways)):
            began = time.monotonic()
            read = written = 0
            try:
                response = self._client.post(self._url, json=ways[number])
                if response.is_success:
                    answer = response.json()
                    usage = answer.get("usage") or {}
                    read = int(usage.get("prompt_tokens") or 0)
                    written = int(usage.get("completion_tokens") or 0)
            finally:
                self.cost.request(time.monotonic() - began, read, written)
            if response.status_code in UNSUPPORTED and number < len(ways) - 1:
                continue
            response.raise_for_status()
            with self._lock:
                self._way = max(self._way, number)
            choice = answer["choices"][0]
            if choice.get("finish_reason") == "length":
                raise ValueError("cut off")
            return str(choice["message"].get("content") or "")
        raise AssertionError("unreachable")

    def _ways(self, text: str) -> Sequence[Mapping[str, Any]]:
        """With a form that the server holds the reply to; without one; and with the fields alone
        that every model takes."""
        bare = {"model": self._model, "messages": [{"role": "user", "content": text}]}
        plain = {**bare, **self._extra, "temperature": 0, "max_tokens": self._settings.max_tokens}
        form = prompt.response_format(self._settings.scale)
        least = {**bare, "max_completion_tokens": self._settings.max_tokens}
        return ({**plain, "response_format": form}, plain, least)
