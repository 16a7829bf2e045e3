"""An older store is brought up to date without losing a row, after a copy was made of it; a newer
one is refused."""

from __future__ import annotations

import logging
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from tests.migrations import NEWER, ROWS, TODAY, fill
from tests.stores import both_stores
from ttrl.questions.question import from_prompt
from ttrl.store import Store, StoreError, migrations
from ttrl.store.database import Database, place
from ttrl.store.questions import Recorded
from ttrl.store.schema import metadata

STORES = Path(__file__).parent.parent / "data" / "stores"


def dump(file):
    """All that is in it, as SQL."""
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        return list(connection.iterdump())


def test_every_table_has_a_row_here():
    assert set(ROWS) == set(metadata.tables)


@pytest.mark.fault(
    "an upgrade finds the store of an older version",
    sees="nothing: it is migrated at the start",
    keeps="every row, and (SQLite) a copy from before in backups/",
)
@both_stores
def test_an_older_store_is_migrated(tmp_path, fresh_url, upgraded):
    url = fresh_url()
    fill(tmp_path, url)
    before = None if url else dump(tmp_path / "store.sqlite")
    upgraded()
    with Store.look(tmp_path, url) as store, pytest.raises(StoreError, match="`ttrl serve` migr"):
        store.require_current()
    with Store.open(tmp_path, url) as store:
        assert store.revision() == NEWER
        with store.read() as connection:
            assert connection.exec_driver_sql("SELECT mood FROM questions").scalars().all() == [
                "calm"
            ]
            tables = sa.inspect(connection)
            for name in ROWS:
                count = sa.select(sa.func.count()).select_from(sa.table(name))
                rows = 2 if name == "facts" else 1  # the store's own key is another fact
                assert tables.has_table(name)
                assert connection.scalar(count) == rows
        (row,) = store.questions.new(9)
        assert (row.question.text, row.count) == ("What is 1 + 1?", 3)
        assert row.question.sampling == {"temperature": 0.7}
        assert store.adapters.question_ids("ttrl-a-1-d") == [1]
        assert store.questions.counts() == {"new": 1}
        store.forgetting.delete([1])
        assert store.questions.counts() == {}, "what counts is there again"
        assert store.votes.newest(1) == [], "foreign keys are on again"
    if url is None:
        (copy,) = migrations.copies(tmp_path / "backups")
        assert copy.name.startswith(f"store-{TODAY}-")
        assert stat.S_IMODE(copy.stat().st_mode) == 0o600
        assert dump(copy) == before


@both_stores
@pytest.mark.parametrize("old", ["0014", None])
def test_a_migrated_store_is_like_a_new_one(tmp_path, fresh_url, old):
    url = fresh_url()
    if old is not None:
        file = STORES / f"{old}.{'postgresql' if url else 'sqlite'}.sql"
        with Database(place(tmp_path, url)) as database, database.write() as connection:
            for statement in file.read_text().removesuffix(";\n").split(";\n"):
                connection.exec_driver_sql(statement)
    with Database.open(tmp_path, url) as database, database.read() as connection:
        assert database.revision() == TODAY
        options = {"compare_server_default": True}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, metadata) == []
        if url is None:
            query = "SELECT name FROM sqlite_master WHERE sql LIKE '%AUTOINC%'"
            made = set(connection.exec_driver_sql(query).scalars())
            tables = metadata.tables.items()
            assert made == {n for n, t in tables if t.dialect_options["sqlite"]["autoincrement"]}


def test_ids_are_used_once(tmp_path):
    with Store.open(tmp_path) as store:
        recorded = [[Recorded(from_prompt(str(n)), 1.0)] for n in range(2)]
        for some in recorded:
            store.questions.record(some, holdout=0)
            (row,) = store.questions.page(9)
            store.forgetting.delete([row.id])
        assert row.id == 2


def test_a_store_that_needs_no_migration_is_not_copied(tmp_path):
    Store.open(tmp_path).close()
    Store.open(tmp_path).close()
    assert not (tmp_path / "backups").exists()


@pytest.mark.fault(
    "a migration of the store fails half-way",
    sees="the new version does not start, and says where the copy is; the old one does",
    keeps="the store as it was",
)
def test_a_migration_that_fails_leaves_the_store_as_it_was(tmp_path, upgraded, monkeypatch):
    fill(tmp_path)
    before = dump(tmp_path / "store.sqlite")
    upgraded()
    upgrade = migrations.upgrade

    def breaks(connection, to):
        upgrade(connection, to)
        connection.execute(sa.text("DROP TABLE facts"))
        raise RuntimeError("in the middle")

    monkeypatch.setattr(migrations, "upgrade", breaks)
    with pytest.raises(StoreError, match=r"is unchanged.*in the middle.*Its copy is") as raised:
        Store.open(tmp_path)
    (copy,) = migrations.copies(tmp_path / "backups")
    assert str(copy) in str(raised.value)
    assert dump(tmp_path / "store.sqlite") == before == dump(copy)
    monkeypatch.undo()
    with Store.open(tmp_path) as store:
        assert store.fact("mine") == "yes"


def test_a_store_that_cannot_be_copied_is_not_migrated(tmp_path, upgraded):
    fill(tmp_path)
    before = dump(tmp_path / "store.sqlite")
    upgraded()
    (tmp_path / "backups").write_text("in the way")
    with pytest.raises(StoreError, match=r"is unchanged \(FileExistsError"):
        Store.open(tmp_path)
    assert dump(tmp_path / "store.sqlite") == before


def test_the_newest_copies_are_kept(tmp_path, upgraded, caplog):
    backups = tmp_path / "backups"
    backups.mkdir()
    for day in range(1, 6):
        (backups / f"store-000{9 - day}-2026010{day}T000000Z.sqlite").touch()
    fill(tmp_path)
    upgraded()
    with caplog.at_level(logging.INFO):
        Store.open(tmp_path).close()
    newest, *older = migrations.copies(backups)
    assert str(newest) in caplog.text
    assert [path.name for path in older] == [
        "store-0004-20260105T000000Z.sqlite",
        "store-0005-20260104T000000Z.sqlite",
    ]


def test_another_writer_waits_and_a_reader_sees_the_old_rows_meanwhile(
    tmp_path, upgraded, monkeypatch
):
    fill(tmp_path)
    upgraded()
    upgrade, seen = migrations.upgrade, []

    def looks(connection, to):
        upgrade(connection, to)
        with Database.look(tmp_path) as database:
            seen.append(database.revision())
        with closing(sqlite3.connect(tmp_path / "store.sqlite", timeout=0)) as other:
            other.isolation_level = None
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                other.execute("BEGIN IMMEDIATE")

    monkeypatch.setattr(migrations, "upgrade", looks)
    Store.open(tmp_path).close()
    assert seen == [TODAY]


@pytest.mark.fault(
    "a command or run of a newer version meets a daemon of the version before",
    sees="nothing; the command ends with a sentence",
    keeps="the store, in the schema that the daemon goes by",
)
@both_stores
def test_no_store_is_migrated_under_its_owner(tmp_path, fresh_url, upgraded):
    url = fresh_url()
    fill(tmp_path, url)
    with Store.open(tmp_path, url) as daemons, daemons.owning():
        upgraded()
        with pytest.raises(StoreError, match="in use by another process"):
            Store.open(tmp_path, url)
        assert daemons.revision() == TODAY
        assert len(daemons.questions.new(9)) == 1
    Store.open(tmp_path, url).close()


@pytest.mark.fault(
    "the store was written by a newer version",
    sees="the daemon does not start, and says which version to install",
    keeps="the store, untouched",
)
@both_stores
def test_a_newer_store_is_refused_with_a_sentence(tmp_path, fresh_url):
    url = fresh_url()
    database = Database.open(tmp_path, url)
    with database.write() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    database.close()
    with pytest.raises(StoreError, match=r"revision 9999.*newer ttrl"):
        Store.open(tmp_path, url)
    assert not (tmp_path / "backups").exists()
    with Store.look(tmp_path, url) as store:
        assert store.revision() == "9999"


def test_looking_makes_nothing_and_changes_nothing(tmp_path):
    missing = tmp_path / "a ?#% directory"
    missing.mkdir()
    with pytest.raises(sa.exc.OperationalError), Store.look(missing) as store:
        store.revision()
    assert list(missing.iterdir()) == []
    fill(missing)
    with Store.look(missing) as store:
        assert store.revision() == TODAY
        with pytest.raises(sa.exc.OperationalError, match="readonly"):
            store.set_fact("mine", "no")


def test_a_store_is_for_its_owner_alone(tmp_path):
    with Store.open(tmp_path) as store:
        store.set_fact("mine", "yes")
        files = list(tmp_path.glob("store.sqlite*"))
        assert len(files) == 3
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
