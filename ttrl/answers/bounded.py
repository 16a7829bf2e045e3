"""Reading in a process of its own: a pattern or a library that takes long over somebody's text, or
dies of it, then costs that text its answer and nobody anything else."""

from __future__ import annotations

import atexit
import dataclasses
import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ttrl import ReportedError
from ttrl.answers import Reader, Reading
from ttrl.answers.layers import Layer
from ttrl.answers.phrases import phrases
from ttrl.config import AnswerKind
from ttrl.lineworker import LineWorker, WorkerEnded, WorkerNotReady, limit_memory, serve_lines
from ttrl.meaning import Letters

log = logging.getLogger(__name__)

SECONDS, MEMORY_BYTES = 60.0, 2 << 30
"""Of one question's answers, after which the process is replaced. 32 answers of 2,500 words take
11 s where they are compared letter by letter."""


class CannotRead(ReportedError):
    """The process that reads answers does not start."""


@dataclass(frozen=True)
class BoundedReader(Reader):
    """Reads as Reader does; what takes longer than SECONDS is not read (`Layer.FAILED`). Meaning
    is judged in this process, where it is not judged by letters: models are loaded once. For any
    thread; they wait for one another. Raises CannotRead."""

    _worker: LineWorker = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        alike = self.likeness.alike if isinstance(self.likeness, Letters) else None
        table = self.table.path and str(self.table.path)
        worker = LineWorker(Path(__file__), json.dumps([self.kind, alike, table]))
        object.__setattr__(self, "_worker", worker)
        atexit.register(self.stop)

    @property
    def _by_letters(self) -> bool:
        return self.judge is None and isinstance(self.likeness, Letters)

    def read(self, question: str, texts: Sequence[str]) -> Reading:
        if not self._by_letters:
            return super().read(question, texts)
        return self._reading("read", question, texts)

    def extract(self, question: str, texts: Sequence[str]) -> Reading:
        return self._reading("extract", question, texts)

    def close(self, text: str, accepted: Sequence[str], question: str, kind: AnswerKind) -> float:
        if kind is AnswerKind.FREE and not self._by_letters:
            return super().close(text, accepted, question, kind)
        found = self._ask("close", text, accepted, question, kind)
        return float(found) if not isinstance(found, str) else 0.0

    def stop(self) -> None:
        with self._worker.turn:
            self._worker.close()

    def _reading(self, what: str, question: str, texts: Sequence[str]) -> Reading:
        found = self._ask(what, question, texts)
        if isinstance(found, str):
            log.warning("the answers to a question could not be read: %s", found)
            nothing = (None,) * len(texts), (Layer.FAILED,) * len(texts)
            return Reading(self.kind or AnswerKind.TEXT, *nothing)
        kind, answers, layers = found
        return Reading(AnswerKind(kind), tuple(answers), tuple(map(Layer, layers)))

    def _ask(self, what: str, *arguments: object) -> Any:
        """Where it fails, a text that says how: the exception's name, as its words may quote what
        was read."""
        try:
            return self._worker.ask([what, *arguments])
        except (WorkerNotReady, OSError) as error:
            raise CannotRead(f"the process that reads answers does not start: {error}") from None
        except WorkerEnded:
            return "the time or the memory for it is used up"


def main() -> None:
    kind, alike, table = json.loads(sys.argv[1])
    limit_memory(MEMORY_BYTES)
    reader = Reader(kind and AnswerKind(kind), Letters(alike), phrases(table and Path(table)))

    def answer(asked: list[Any]) -> object:
        what, *arguments = asked
        if what == "close":
            text, accepted, question, kind = arguments
            return reader.close(text, accepted, question, AnswerKind(kind))
        return dataclasses.astuple(getattr(reader, what)(*arguments))

    serve_lines(lambda: answer, seconds=SECONDS, otherwise=lambda error: type(error).__name__)


if __name__ == "__main__":
    main()
