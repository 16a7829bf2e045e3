"""Taking out of questions what tells who somebody is, before they are stored.

What is found is Presidio's business (presidio-analyzer, the extra `privacy`), in a process of its
own: it is large, its patterns may take long, and nothing of it is to hold up the daemon.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ttrl import Closing, ReportedError
from ttrl.lineworker import LineWorker, WorkerEnded, WorkerNotReady
from ttrl.questions.question import Question, digest
from ttrl.words import install

SECONDS = 5.0
"""The longest that one question may take before the process is ended and replaced."""
NOT_ASKED = frozenset({"chat_template"})
"""Fields of a request that are programs."""

CONTENT_TYPE = ("messages", "content", "type")
Where = tuple[str, ...]
"""The keys that lead somewhere, of lists none."""


class RedactionFailed(ReportedError):
    """The text could not be redacted, or nothing can be; never quotes it."""


class Redactor(Closing):
    """A client of the redacting process. For any thread; they wait for one another."""

    def __init__(self, entities: Sequence[str], model: str = "", seconds: float = SECONDS) -> None:
        asked = json.dumps({"entities": entities, "model": model, "seconds": seconds})
        self.worker = LineWorker(Path(__file__).with_name("worker.py"), asked)
        what = f"the model {model}, or presidio-analyzer" if model else "Presidio"
        self._why_not_ready = (
            f"{what} cannot be loaded to redact questions; record.redact_model names an installed "
            f"spaCy pipeline or its directory, and the extra `privacy` is the rest: "
            f"{install('privacy')}"
        )

    def question(self, question: Question) -> Question:
        """The same with placeholders such as `<EMAIL_ADDRESS>`, under another name if any was
        needed. Raises RedactionFailed."""
        sampling = question.sampling or {}  # stop strings are what somebody wrote, too
        request = {**question.body, **sampling}
        texts: list[str] = []

        def collect(text: str) -> str:
            texts.append(text)
            return text

        _mapped(request, collect)
        redacted = self.texts(texts)
        if redacted == texts:
            return question
        rest = iter(redacted)
        request = _mapped(request, lambda _: next(rest))
        body = {name: request[name] for name in question.body}
        known = None if question.sampling is None else {name: request[name] for name in sampling}
        return Question(body, digest(body), known)

    def texts(self, texts: Sequence[str]) -> list[str]:
        """Raises RedactionFailed."""
        try:
            found = self.worker.ask(texts)
        except WorkerNotReady:
            raise RedactionFailed(self._why_not_ready) from None
        except (WorkerEnded, OSError):
            found = None
        if not isinstance(found, list) or len(found) != len(texts):
            raise RedactionFailed("a text could not be redacted")
        return found

    def close(self) -> None:
        self.worker.close()


def _mapped(value: Any, change: Callable[[str], str], where: Where = ()) -> Any:
    """The same with every text in it changed, keys among them, in a certain order."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        changed = {}
        for key, item in value.items():
            here = (*where, key)
            # A program, or a word of the protocol, which was looked at when the question came in.
            if here[0] in NOT_ASKED or here in (("messages", "role"), CONTENT_TYPE):
                changed[key] = item
            else:
                # the request's own fields have the names that we let pass
                name = change(key) if where else key
                changed[name] = _mapped(item, change, here)
        return changed
    if isinstance(value, Sequence):
        return [_mapped(item, change, where) for item in value]
    return value
