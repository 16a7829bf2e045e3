"""Alembic's directory: the revisions of the schema, and the copies that are made before a store is
migrated to another."""

from __future__ import annotations

import secrets
from pathlib import Path

import sqlalchemy as sa

from ttrl.files import fsync, hand_over, stamp
from ttrl.store.backends import copy_file
from ttrl.store.schema import HOLDOUT_KEY, facts, metadata

DIRECTORY = Path(__file__).parent
PART = "store.part"
KEPT = 3
"""Copies from before a migration that are kept."""


def revision_of(connection: sa.Connection) -> str | None:
    """Return the revision that a store has; None before the first. Alembic takes 11 MiB: only what
    migrates imports it."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
    return revision


def known() -> list[str]:
    """Return every revision that this ttrl knows, newest first."""
    files = (DIRECTORY / "versions").glob("[0-9]*.py")
    return sorted((file.name.partition("_")[0] for file in files), reverse=True)


def upgrade(connection: sa.Connection, revision: str) -> None:
    """Migrate to the newest revision, in the transaction that is under way. A new store gets all
    tables as they are now and a key of its own, and runs no revision (Alembic's cookbook, "Building
    an Up to Date Database from Scratch")."""
    from alembic import command
    from alembic.config import Config

    from ttrl.store import counting

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(DIRECTORY))
    if revision_of(connection) is None:
        metadata.create_all(connection, checkfirst=False)
        connection.execute(facts.insert().values(new_key()))
        command.stamp(config, revision)
    else:
        command.upgrade(config, revision)
    counting.install(connection)


def new_key() -> dict[str, str]:
    """Return the fact by which a store draws its held-out questions."""
    return {"name": HOLDOUT_KEY, "value": secrets.token_hex(32)}


def copy_before(source: Path, directory: Path, revision: str, at: float) -> Path:
    """Copy a store that is about to be migrated, and return where the copy is. All but the newest
    such copies are deleted: a start that fails is tried again and again. Raises OSError,
    sqlite3.Error."""
    directory.mkdir(exist_ok=True, mode=0o700)
    final = directory / f"store-{revision}-{stamp(at)}.sqlite"
    part = directory / PART
    part.unlink(missing_ok=True)
    copy_file(source, part)
    part.rename(final)
    fsync(directory)
    for old in copies(directory)[KEPT:]:
        old.unlink()
    hand_over(directory, directory.parent)
    return final


def copies(directory: Path) -> list[Path]:
    """Return the copies from before migrations, newest first."""
    return sorted(
        directory.glob("store-*.sqlite"), key=lambda path: path.stem.split("-")[-1], reverse=True
    )
