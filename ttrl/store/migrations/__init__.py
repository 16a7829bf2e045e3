"""Alembic's directory: the revisions of the schema, the triggers that they end with, and the copies
that are made before a store is migrated."""

from __future__ import annotations

import secrets
from pathlib import Path

import sqlalchemy as sa

from ttrl.files import fsync, hand_over, stamp
from ttrl.store.backends import copy_file
from ttrl.store.schema import HOLDOUT_KEY, facts, metadata, question_counts, questions

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

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(DIRECTORY))
    if revision_of(connection) is None:
        metadata.create_all(connection, checkfirst=False)
        connection.execute(facts.insert().values(new_key()))
        command.stamp(config, revision)
    else:
        command.upgrade(config, revision)
    count_questions(connection)


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


ROW = "{0}state, {0}probe, CASE WHEN {0}state IN ('new', 'skipped') THEN coalesce({0}reason, '') \
ELSE '' END"
"""What a question is counted as."""
KEY = "state, probe, reason"
ADD = f"""ON CONFLICT ({KEY}) DO UPDATE SET
    questions = question_counts.questions + excluded.questions,
    asked = question_counts.asked + excluded.asked"""

EVENTS = {
    "INSERT": "NEW TABLE AS added",
    "UPDATE": "NEW TABLE AS added OLD TABLE AS removed",
    "DELETE": "OLD TABLE AS removed",
}


def count_questions(connection: sa.Connection) -> None:
    """Make the triggers by which the database keeps `question_counts` itself, in the transaction
    that changes a question, so that nobody counts a million rows; and count all there is. Whoever
    makes the table of questions anew, as most migrations in SQLite do, drops the triggers with the
    old one."""
    of = _of_rows if connection.dialect.name == "sqlite" else _of_statements
    for event, tables in EVENTS.items():
        for statement in of(f"questions_counted_{event.lower()}", event, tables):
            connection.exec_driver_sql(statement)
    connection.execute(question_counts.delete())
    counted = sa.select(
        sa.text(ROW.format("")), sa.func.count(), sa.func.sum(questions.c.count)
    ).select_from(questions)
    counted = counted.group_by(sa.text("1, 2, 3"))
    connection.execute(question_counts.insert().from_select(question_counts.c.keys(), counted))


def _of_rows(name: str, event: str, tables: str) -> list[str]:
    changes = [
        f"INSERT INTO question_counts VALUES ({ROW.format(row)}, {sign}1, {sign}{row}count) {ADD};"  # noqa: S608
        for row, sign in (("NEW.", ""), ("OLD.", "-"))
        if f"{row[:3]} TABLE" in tables
    ]
    what = "UPDATE OF state, probe, reason, count" if event == "UPDATE" else event
    return [
        f"DROP TRIGGER IF EXISTS {name}",
        f"CREATE TRIGGER {name} AFTER {what} ON questions BEGIN {' '.join(changes)} END",
    ]


def _of_statements(name: str, event: str, tables: str) -> list[str]:
    """A statement changes thousands of rows, and a row of the counts once."""
    parts = [
        f"SELECT {ROW.format('')} AS reason, {sign}1 AS one, {sign}count AS times FROM {table}"  # noqa: S608
        for table, sign in (("added", ""), ("removed", "-"))
        if table in tables
    ]
    changes = " UNION ALL ".join(parts)
    return [
        f"""CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO question_counts
            SELECT {KEY}, sum(one), sum(times) FROM ({changes}) AS changed
            GROUP BY {KEY} HAVING sum(one) <> 0 OR sum(times) <> 0
        {ADD};
        RETURN NULL;
        END $$""",  # noqa: S608
        f"DROP TRIGGER IF EXISTS {name} ON questions",
        f"""CREATE TRIGGER {name} AFTER {event} ON questions
        REFERENCING {tables} FOR EACH STATEMENT EXECUTE FUNCTION {name}()""",
    ]
