"""The client of the process that knows mathematics: any thread may ask, no question hangs."""

from __future__ import annotations

import atexit
import json
import subprocess
import sys
import threading
from pathlib import Path

STEP_SECONDS = 3.0
"""The longest that one comparison may take before its process is ended and replaced."""

_SCRIPT = Path(__file__).with_name("worker.py")


class Judge:
    """Compares expressions in a child process, which starts with the first question, and again
    after a comparison that overran. Threads wait for one another; one that has several things
    to ask may take its turn for all of them."""

    def __init__(self, seconds: float = STEP_SECONDS) -> None:
        self.seconds = seconds
        self.turn = threading.RLock()
        self._worker: subprocess.Popen[str] | None = None

    def equal(self, left: str, right: str) -> bool | None:
        """Whether two expressions in LaTeX mean the same; None where that took too long."""
        with self.turn:
            answer = self._ask(json.dumps([left, right, self.seconds]))
            if answer == "":
                self._end()
                return None
            return bool(json.loads(answer))

    def close(self) -> None:
        """End the child process; the next question starts another."""
        with self.turn:
            self._end()

    def _ask(self, request: str) -> str:
        """One line of answer; "" if the worker ended instead: the kernel bounds its time."""
        self._worker = self._worker or _start()
        assert self._worker.stdin is not None
        assert self._worker.stdout is not None
        try:
            self._worker.stdin.write(request + "\n")
            self._worker.stdin.flush()
        except BrokenPipeError:
            return ""
        return self._worker.stdout.readline()

    def _end(self) -> None:
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.kill()
            worker.communicate()


def _start() -> subprocess.Popen[str]:
    # A script of its own rather than multiprocessing: nothing of the parent is imported again.
    return subprocess.Popen(
        [sys.executable, "-P", "-W", "ignore", str(_SCRIPT)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # libraries log what they parse, and that is model text
        text=True,
    )


judge = Judge()
"""The judge that everybody in this process shares."""

atexit.register(judge.close)
