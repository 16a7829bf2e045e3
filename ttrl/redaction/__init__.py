"""Taking out of questions what tells who somebody is, before they are stored.

What is found is Presidio's business (presidio-analyzer, the extra `privacy`), in a process of its
own: it is large, its patterns may take long, and nothing of it is to hold up the daemon.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ttrl.questions import Question, digest

PATTERNS = (
    "EMAIL_ADDRESS", "PHONE_NUMBER", "CREDIT_CARD", "IBAN_CODE", "IP_ADDRESS", "US_SSN", "CRYPTO",
    "MAC_ADDRESS",
)  # fmt: skip
"""What is known by its form, and taken out if nothing else is asked for."""
MORE_PATTERNS = ("URL", "DATE_TIME", "UUID")
BY_MODEL = ("PERSON", "LOCATION", "ORGANIZATION", "NRP")
"""What only a model of a language finds; `NRP` is nationality, religion, politics."""
ENTITIES = (*PATTERNS, *MORE_PATTERNS, *BY_MODEL)

SECONDS = 30.0
"""The longest that one question may take before the process is ended and replaced."""
NOT_ASKED = frozenset({"chat_template"})
"""Fields of a request that are programs."""

Where = tuple[str, ...]
"""The keys that lead somewhere, of lists none."""
_SCRIPT = Path(__file__).with_name("worker.py")


class RedactionFailed(Exception):
    """The text could not be redacted, or nothing can be; never quotes it."""


class Redactor:
    """Asks the process that knows; for one thread at a time."""

    def __init__(self, entities: Sequence[str], model: str = "", seconds: float = SECONDS) -> None:
        self._arguments = [json.dumps({"entities": entities, "model": model, "seconds": seconds})]
        self._model = model
        self._worker: subprocess.Popen[str] | None = None

    def __enter__(self) -> Redactor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def question(self, question: Question) -> Question:
        """The same with placeholders such as `<EMAIL_ADDRESS>`, under another name if any was
        needed. Raises RedactionFailed."""
        texts = list(_texts(question.body))
        redacted = self.texts(texts)
        if redacted == texts:
            return question
        body = _replaced(question.body, iter(redacted))
        return Question(body, digest(body))

    def texts(self, texts: Sequence[str]) -> list[str]:
        """These, redacted. Raises RedactionFailed."""
        try:
            found = json.loads(self._ask(json.dumps(texts)))
        except (OSError, ValueError):  # it ended: out of time, out of memory, or killed
            self.close()
            found = None
        if not isinstance(found, list) or len(found) != len(texts):
            raise RedactionFailed("a text could not be redacted")
        return found

    def close(self) -> None:
        """End the process; the next text starts another."""
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.kill()
            worker.communicate()

    def _ask(self, request: str) -> str:
        """One line of answer; "" if the process ended instead."""
        if self._worker is None:
            self._worker = self._start()
        assert self._worker.stdin is not None
        assert self._worker.stdout is not None
        self._worker.stdin.write(request + "\n")
        self._worker.stdin.flush()
        return self._worker.stdout.readline()

    def _start(self) -> subprocess.Popen[str]:
        """Raises RedactionFailed, OSError."""
        worker = subprocess.Popen(
            [sys.executable, "-P", "-W", "ignore", str(_SCRIPT), *self._arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # libraries log what they read, and that is users' text
            text=True,
        )
        assert worker.stdout is not None
        if worker.stdout.readline() != "ready\n":
            worker.kill()
            worker.communicate()
            what = f"the model {self._model}, or presidio-analyzer" if self._model else "Presidio"
            raise RedactionFailed(
                f"{what} cannot be loaded to redact questions; record.redact_model names an "
                "installed spaCy pipeline or its directory, and pip install 'ttrl[privacy]' "
                "brings the rest"
            )
        return worker


def _texts(value: Any, where: Where = ()) -> Iterator[str]:
    """Every text in a body, keys among them, in a certain order."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if not _protocol((*where, key)):
                if where:  # the request's own fields have the names that we let pass
                    yield key
                yield from _texts(item, (*where, key))
    elif isinstance(value, Sequence):
        for item in value:
            yield from _texts(item, where)


def _replaced(value: Any, texts: Iterator[str], where: Where = ()) -> Any:
    """The same with other texts, in the same order."""
    if isinstance(value, str):
        return next(texts)
    if isinstance(value, Mapping):
        found = {}
        for key, item in value.items():
            if _protocol((*where, key)):
                found[key] = item
            else:
                name = next(texts) if where else key
                found[name] = _replaced(item, texts, (*where, key))
        return found
    if isinstance(value, Sequence):
        return [_replaced(item, texts, where) for item in value]
    return value


def _protocol(where: Where) -> bool:
    """Whether what stands there is none of anybody's text: a program, or a word of the protocol,
    which was looked at when the question came in."""
    return where[0] in NOT_ASKED or where in (("messages", "role"), ("messages", "content", "type"))
