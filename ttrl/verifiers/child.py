"""The child process of a check, started by its file's name: `query DATABASE SECONDS` runs a query
that a model wrote, as JSON on standard input, and `schema SECONDS` holds answers against a JSON
schema, which a client may have written so that it takes for ever. The findings come out as JSON.

Imports nothing but the standard library for a query, so that it starts in no time.
"""

from __future__ import annotations

import hashlib
import json
import resource
import signal
import sqlite3
import sys
from pathlib import Path
from typing import Any

MEMORY_BYTES, ROWS, VALUE_BYTES = 1 << 30, 10_000, 1 << 16
READS = {
    sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE,
}  # fmt: skip
WRONG = {
    sqlite3.SQLITE_ERROR, sqlite3.SQLITE_AUTH, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_NOMEM,
}  # fmt: skip
"""Of what a query can be guilty; all else is the database's trouble."""


def run(database: str, query: str) -> bool | str | None:
    """Return a text for the rows; False where the query fails, None where it has none or too many.
    Raises sqlite3.Error."""
    uri = f"{Path(database).absolute().as_uri()}?mode=ro"
    connection = sqlite3.connect(uri, uri=True, timeout=60)
    connection.text_factory = bytes
    connection.execute("SELECT count(*) FROM sqlite_master").fetchone()  # it can be read
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, VALUE_BYTES)
    connection.execute("PRAGMA hard_heap_limit = 268435456")
    connection.set_authorizer(_only_reads)
    try:
        rows = connection.execute(query).fetchmany(ROWS + 1)
        if not rows or len(rows) > ROWS:
            return None
        found = json.dumps(sorted(repr([_plain(value) for value in row]) for row in rows))
    except sqlite3.Error as error:
        # Python's own, such as of two statements, have no code.
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        if code not in WRONG:
            raise
        return False
    except (sqlite3.Warning, ValueError, MemoryError):
        return False
    return f"{len(rows)} rows, {hashlib.sha256(found.encode()).hexdigest()[:16]}"


def _plain(value: object) -> object:
    """Return 2.0 as 2, and sums that rounding tells apart as one."""
    return f"{value:.10g}" if isinstance(value, int | float) else value


def _only_reads(action: int, _first: str | None, second: str | None, *_: str | None) -> int:
    harmless = action in READS and second != "load_extension"
    return sqlite3.SQLITE_OK if harmless else sqlite3.SQLITE_DENY


def fit(schema: Any, answers: list[str]) -> list[bool]:
    from jsonschema_rs import validator_for

    def refuse(uri: str) -> Any:
        raise ValueError(f"{uri} is elsewhere")

    validator = validator_for(schema, retriever=refuse)
    found = []
    for answer in answers:
        try:
            found.append(bool(validator.is_valid(json.loads(answer))))
        except (ValueError, RecursionError):
            found.append(False)
    return found


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, what, *database, seconds = sys.argv
    signal.setitimer(signal.ITIMER_REAL, float(seconds))  # which ends it, wherever it is
    given = json.load(sys.stdin)
    findings = {"finding": run(database[0], given)} if what == "query" else fit(**given)
    print(json.dumps(findings))  # noqa: T201
