"""Reading sampled answers in a process of its own, for the daemon: a pattern that takes long over
somebody's text holds Python's lock meanwhile, and with it everybody's answers."""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Sequence
from pathlib import Path

from ttrl import ReportedError
from ttrl.answers import Reader
from ttrl.answers.phrases import phrases
from ttrl.config import AnswerKind, VoteConfig
from ttrl.lineworker import LineWorker, WorkerEnded, serve_lines

SECONDS, MEMORY_BYTES = 10.0, 2 << 30
"""Of one question's answers, after which the process is replaced."""


class Unread(ReportedError):
    """The answers to a question could not be read within the bounds; never quotes them."""


class BoundedReader:
    """Reads as `ttrl.answers.Reader` does, free texts by their letters, since the daemon imports no
    model. For one thread at a time."""

    def __init__(self, vote: VoteConfig, seconds: float = SECONDS) -> None:
        settings = json.dumps([vote.kind, vote.phrases and str(vote.phrases), seconds])
        self._worker = LineWorker(Path(__file__), settings)

    def read(self, question: str, texts: Sequence[str]) -> tuple[str | None, ...]:
        """Return the canonical answers. Raises Unread."""
        try:
            answers = self._worker.ask([question, texts])
        except (WorkerEnded, OSError):
            answers = None
        if answers is None:
            raise Unread("answers could not be read")
        return tuple(answers)

    def close(self) -> None:
        self._worker.close()


if __name__ == "__main__":
    kind, table, seconds = json.loads(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    reader = Reader(kind and AnswerKind(kind), table=phrases(table and Path(table)))
    serve_lines(lambda: lambda asked: reader.read(*asked).answers, seconds=seconds, otherwise=None)
