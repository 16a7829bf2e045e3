"""Where the store is: what its URL may say, and what of it may be shown."""

from __future__ import annotations

import sqlalchemy as sa

DRIVERS = {
    "sqlite": "sqlite",
    "sqlite+pysqlite": "sqlite",
    "postgresql": "postgresql+psycopg",
    "postgresql+psycopg": "postgresql+psycopg",
}
EXAMPLE = "postgresql+psycopg://user@host/db"


def parse(text: str) -> sa.URL:
    """A store's URL, with the driver that we use. Raises ValueError with a sentence that repeats
    nothing of the URL, which may hold a password."""
    try:
        url = sa.make_url(text)
    except (sa.exc.ArgumentError, ValueError):
        raise ValueError(f"it is not the URL of a database, such as {EXAMPLE}") from None
    if url.drivername not in DRIVERS:
        raise ValueError(f"the store can be SQLite (sqlite:///file) or PostgreSQL ({EXAMPLE})")
    if "@" in (url.host or ""):
        raise ValueError("an @ in the password is written %40")
    url = url.set(drivername=DRIVERS[url.drivername])
    if url.drivername == "sqlite" and (url.database in (None, "", ":memory:") or url.query):
        raise ValueError("for SQLite it is sqlite:///file, and nothing more")
    return url


def shown(url: sa.URL) -> str:
    """The URL without its password, nor the options, which may hold another."""
    return url.set(query={}).render_as_string(hide_password=True)
