"""The child process in which queries that a model wrote run: JSON lists of queries in, of findings
out. Imports nothing but the standard library, so that it starts in no time."""

from __future__ import annotations

import hashlib
import json
import resource
import sqlite3
import sys
import time
from collections.abc import Callable

MEMORY_BYTES, ROWS, VALUE_BYTES, STEPS = 1 << 30, 10_000, 1 << 20, 10_000
READS = {
    sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE,
}  # fmt: skip


def run(database: str, seconds: float, queries: list[str]) -> list[bool | str | None]:
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, VALUE_BYTES)
    connection.execute("PRAGMA hard_heap_limit = 268435456")
    connection.set_authorizer(_only_reads)
    return [_finding(connection, seconds, query) for query in queries]


def _only_reads(action: int, _first: str | None, second: str | None, *_: str | None) -> int:
    harmless = action in READS and second != "load_extension"
    return sqlite3.SQLITE_OK if harmless else sqlite3.SQLITE_DENY


def _finding(connection: sqlite3.Connection, seconds: float, query: str) -> bool | str | None:
    """A text for the rows; False where there are none to be had, None where there are too many."""
    connection.set_progress_handler(_late(time.monotonic() + seconds), STEPS)
    try:
        rows = connection.execute(query).fetchmany(ROWS + 1)
    except (sqlite3.Error, sqlite3.Warning, ValueError, MemoryError):
        return False
    if len(rows) > ROWS:
        return None
    found = json.dumps(sorted(map(repr, rows)))
    return f"{len(rows)} rows, {hashlib.sha256(found.encode()).hexdigest()[:16]}"


def _late(deadline: float) -> Callable[[], bool]:
    return lambda: time.monotonic() > deadline


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, database, seconds = sys.argv
    print(json.dumps(run(database, float(seconds), json.load(sys.stdin))))  # noqa: T201
