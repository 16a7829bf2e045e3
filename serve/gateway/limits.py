"""What each key has used of its limits, in memory that all workers of the gateway share.

Locks are the system's record locks: they end with the process that holds one.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager

KEYS = 2**20
"""Rows; memory that was never written takes none."""
DIGEST, WORD = 32, 8
"""Bytes of a SHA-256, and of a number."""


class Limits:
    """A row for each key that was used since the daemon's start. `number` is this worker's, from 1;
    the first makes the `file` that the others are given."""

    def __init__(self, workers: int = 1, number: int = 1, file: int | None = None) -> None:
        if workers > 1 and file is None:
            file = os.memfd_create("ttrl-limits")
        self.file, self._number, self._rows = file, number, dict[str, int]()
        filled_at = WORD + KEYS * DIGEST
        counts = filled_at + KEYS * WORD
        size = counts + KEYS * WORD * workers
        if file is not None:
            os.ftruncate(file, size)
        self._memory = mmap.mmap(-1 if file is None else file, size)
        view = memoryview(self._memory)
        self._used = view[:WORD].cast("q")
        self.filled_at = view[filled_at:counts].cast("d")
        """When each key may again send all the requests of a minute at once."""
        self._counts = view[counts:].cast("q")
        """Requests under way, of each worker a column."""

    @contextmanager
    def locked(self) -> Iterator[None]:
        """No other worker reads or writes meanwhile; not to be nested."""
        if self.file is None:
            yield
            return
        fcntl.lockf(self.file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.lockf(self.file, fcntl.LOCK_UN)

    def row(self, sha256: str) -> int:
        """Return a key's row, a new one if it has none."""
        if (row := self._rows.get(sha256)) is None:
            digest = bytes.fromhex(sha256)
            with self.locked():
                end = WORD + self._used[0] * DIGEST
                if (at := self._memory.find(digest, WORD, end)) < 0:
                    self._memory[(at := end) : end + DIGEST] = digest
                    self._used[0] += 1
            row = self._rows[sha256] = (at - WORD) // DIGEST
        return row

    def under_way(self, row: int) -> int:
        return sum(self._counts[row::KEYS])

    def add(self, row: int, requests: int) -> None:
        """Count requests that this worker has begun, or ended if there are fewer than none."""
        self._counts[(self._number - 1) * KEYS + row] += requests

    def forget(self, number: int) -> None:
        """Nothing is under way in a worker that has ended."""
        for row in range(self._used[0]):
            self._counts[(number - 1) * KEYS + row] = 0
