"""A child process that answers a line of JSON for each line of JSON: for libraries that are large,
may take long over one text, or may not be let near the rest of the process.

The kernel bounds its time: a signal handler in Python would wait for the very computation that does
not end. Whoever asks next gets a new process.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

READY = "ready\n"


class WorkerEnded(Exception):
    """The process ended instead of answering: out of time, out of memory, or killed."""


class WorkerNotReady(WorkerEnded):
    """The process ended before it could be asked anything."""


class LineWorker:
    """Runs `script`, which calls `serve_lines`, from the first question on. For any thread; they
    wait for one another, and one that has several things to ask may take its `turn` for all."""

    def __init__(self, script: Path, *arguments: str) -> None:
        # A script of its own rather than multiprocessing: nothing of the parent is imported again.
        # Nothing in the current directory or beside the script is taken for a library.
        self._command = [sys.executable, "-P", "-W", "ignore", str(script), *arguments]
        self.process: subprocess.Popen[str] | None = None
        self.turn = threading.RLock()

    def ask(self, question: object) -> Any:
        """Return the answer. Raises WorkerEnded, WorkerNotReady, and OSError where no process can
        be started."""
        with self.turn:
            process = self.process
            if process is None:
                self.process = process = subprocess.Popen(
                    self._command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,  # libraries log the texts that they read
                    text=True,
                )
                assert process.stdout is not None
                if process.stdout.readline() != READY:
                    self.close()
                    raise WorkerNotReady
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                process.stdin.write(json.dumps(question) + "\n")
                process.stdin.flush()
                return json.loads(process.stdout.readline())
            except (OSError, ValueError):  # "" is no JSON
                self.close()
                raise WorkerEnded from None

    def close(self) -> None:
        """End the process, also one that answers a thread just now, which gets WorkerEnded; the
        next question starts another."""
        process, self.process = self.process, None
        if process is not None:
            process.kill()
            process.communicate()


def limit_memory(most: int) -> None:
    """In the child, before it imports what is large: bytes that it may have."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then closes us
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def serve_lines(
    load: Callable[[], Callable[[Any], object]],
    *,
    seconds: float,
    otherwise: Callable[[Exception], object],
) -> None:
    """In the child: answer with what `load` returns, until nobody asks any more. A question that
    takes longer than `seconds` ends the process; where the answer raises, `otherwise` is asked."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - what libraries print is no answer
    answer = load()
    signal.setitimer(signal.ITIMER_REAL, 0)  # a limit on loading, if there was one
    answers.write(READY)
    for line in sys.stdin:
        question = json.loads(line)
        signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            found = answer(question)
        except MemoryError:  # what is kept in caches would be missing from now on
            raise
        except Exception as error:  # noqa: BLE001 - whatever a library cannot do
            found = otherwise(error)
        answers.write(json.dumps(found) + "\n")
        signal.setitimer(signal.ITIMER_REAL, 0)
