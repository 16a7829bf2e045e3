"""The revisions of the schema: which one a store has, which there are, and going on to another."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING

import sqlalchemy as sa

if TYPE_CHECKING:
    from alembic.config import Config

TABLE = sa.table("alembic_version", sa.column("version_num", sa.String))


def of(connection: sa.Connection) -> str | None:
    """The revision that a store has; None before the first."""
    if not sa.inspect(connection).has_table(TABLE.name):
        return None
    revision: str | None = connection.scalar(sa.select(TABLE.c.version_num))
    return revision


def known() -> list[str]:
    """Every revision that this ttrl knows, newest first."""
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory.from_config(_config())
    return [script.revision for script in scripts.walk_revisions()]


def upgrade(connection: sa.Connection, revision: str) -> None:
    """Go on to a revision, in the transaction that is under way."""
    from alembic import command

    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def _config() -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(resources.files("ttrl.store") / "migrations"))
    return config
