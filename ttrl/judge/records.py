"""The scores that a judge gave, so that no answer is scored twice, and to distill a judge from.

A file of JSON lines that is only appended to. It holds no text: of question and answer there is a
digest, which says something to whoever has both. Any process may write; what two of them write at
once, or half a line after a crash, costs a request and no more.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path

from ttrl.files import whole
from ttrl.judge import FOLDER

MOST = 200_000
"""Scores that are kept; beyond, the older half goes when the file is read."""

log = logging.getLogger(__name__)


class Records:
    """The file in a state directory, shared by threads."""

    def __init__(self, state_dir: Path) -> None:
        self._file = state_dir / FOLDER / "scores.jsonl"
        self._writing = threading.Lock()
        self._failed = False
        self._scores: dict[str, dict[str, float]] = {}
        lines = self._lines()
        if len(lines) > MOST:
            lines = lines[-MOST // 2 :]
            with whole(self._file, again=True) as file:
                file.write("".join(f"{line}\n" for line in lines).encode())
        for line in lines:
            try:
                each = json.loads(line)
                score = float(each["score"])
                self._scores.setdefault(str(each["judge"]), {})[str(each["of"])] = score
            except (ValueError, LookupError, TypeError):  # a line that was cut off
                continue

    def judges(self) -> list[str]:
        """Return the judges that gave scores, by their keys, the one with most of them first."""
        return sorted(self._scores, key=lambda key: (-len(self._scores[key]), key))

    def of(self, key: str) -> Mapping[str, float]:
        """Return a judge's scores, by `digest`."""
        return self._scores.get(key, {})

    def add(self, key: str, scores: Iterable[tuple[str, float]]) -> None:
        """Note scores by `digest`. What cannot be written is known to this process alone."""
        new = dict(scores)
        if not new:
            return
        lines = "".join(
            json.dumps({"judge": key, "of": of, "score": round(score, 4)}) + "\n"
            for of, score in new.items()
        )
        with self._writing:
            self._scores.setdefault(key, {}).update(new)
            try:
                self._file.parent.mkdir(mode=0o700, exist_ok=True)
                handle = os.open(self._file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
                try:
                    os.write(handle, lines.encode())
                finally:
                    os.close(handle)
            except OSError as error:
                if not self._failed:  # once: it may well fail for every answer
                    log.warning("cannot record the judge's scores: %s", error.strerror)
                self._failed = True

    def _lines(self) -> list[str]:
        try:
            return self._file.read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return []
        except OSError as error:
            log.warning("cannot read the judge's scores: %s", error.strerror)
            return []


def digest(question_hash: str, answer: str) -> str:
    """Return what names an answer to a question."""
    whole_text = f"{question_hash}\0{answer}".encode("utf-8", "surrogatepass")
    return hashlib.sha256(whole_text).hexdigest()[:32]
