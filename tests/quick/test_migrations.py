"""An older store is brought up to date without losing a row, after a copy was made of it; a newer
one is refused."""

from __future__ import annotations

import logging
import sqlite3
import stat
from contextlib import closing

import pytest
import sqlalchemy as sa

from ttrl.questions import from_prompt
from ttrl.store import Store, StoreError, copies, revisions
from ttrl.store.adapters import AdapterState
from ttrl.store.database import Database
from ttrl.store.questions import Recorded
from ttrl.store.runs import RunState
from ttrl.store.schema import metadata

OLDER = sorted(revisions.known())[:-1]
BODY = '{"messages": [{"role": "user", "content": "What is 1 + 1?"}]}'
ROWS = {
    "facts": {"name": "mine", "value": "yes"},
    "questions": {
        "id": 1, "hash": "h", "cluster": "c", "body": BODY, "count": 3, "first_seen": 1.0,
        "last_seen": 2.0, "client": "k", "shared": False, "origin": "traffic", "probe": False,
        "state": "new", "exposures": 0,
    },
    "runs": {
        "id": 7, "trigger": "operator", "state": "published", "created": 1.0, "request": "{}",
        "adapter": "ttrl-a-1-d", "steps": 1, "questions": 1, "samples": 1, "tokens": 1,
    },
    "votes": {
        "id": 1, "run_id": 7, "question_id": 1, "version": "base", "step": 1, "at": 1.0,
        "kind": "math", "outcome": "label", "label": "7", "share": 1.0, "entropy": 0.0,
        "counts": "[]", "stop": "all",
    },
    "samples": {
        "id": 1, "vote_id": 1, "position": 0, "text": "so 7", "answer": "7", "finish": "stop",
        "reward": 1.0, "kept": True, "token_ids": b"\0\0\0\0", "logprobs": b"\0\0\0\0",
    },
    "probes": {
        "id": 1, "hash": "p", "body": BODY, "answers": '["2"]', "tags": "[]", "cluster": "c",
        "origin": "operator", "added": 1.0, "exposures": 0,
    },
    "comparisons": {
        "id": 1, "run_id": 7, "question_id": 1, "origin": "random", "text_live": "1",
        "label_live": "1", "text_candidate": "2", "label_candidate": "2", "at": 1.0,
    },
    "adapters": {
        "name": "ttrl-a-1-d", "lineage": "a", "number": 1, "digest": "d", "base_model": "base",
        "run_id": 7, "rank": 16, "state": "approved", "created": 1.0,
    },
    "adapter_questions": {"adapter": "ttrl-a-1-d", "question_id": 1},
    "adapter_clients": {"adapter": "ttrl-a-1-d", "client": "c"},
    "question_clients": {"question_id": 1, "client": "k"},
    "pinned": {
        "id": 1, "adapter": "ttrl-a-1-d", "question_id": 1, "dtype": "float32", "start": 0,
        "token_ids": b"\1\0\0\0", "own": b"\0\0\0\0", "base": b"\0\0\0\0",
    },
    "verdicts": {
        "id": 1, "run_id": 7, "against": "base", "verdict": "better", "evidence": "{}", "at": 1.0,
    },
    "wanted": {"id": 1, "adapter": "ttrl-a-1-d", "author": "run", "reason": "r", "at": 1.0},
    "serving": {"id": 1, "adapter": "ttrl-a-1-d", "reason": "as wanted", "at": 1.0},
    "shadow": {"id": 1, "live": "ttrl-a-1-d", "at": 1.0, "differences": "{}"},
    "measurements": {"id": 1, "kind": "quality", "at": 1.0, "numbers": "{}"},
    "observations": {"id": 1, "run_id": 7, "kind": "step", "at": 1.0, "numbers": "{}"},
}  # fmt: skip
"""A row of every table, as today's has it."""


def old_store(directory, revision):
    """A store of that revision with a row in each table that there was, in the columns that it had;
    the names of those tables."""
    database = Database(sa.URL.create("sqlite", database=str(directory / "store.sqlite")))
    database.migrate(revision)
    with database.write() as connection:
        tables = sa.inspect(connection)
        for name in filter(tables.has_table, ROWS):
            columns = [c["name"] for c in tables.get_columns(name) if c["name"] in ROWS[name]]
            values = ", ".join(f":{column}" for column in columns)
            query = f"INSERT INTO {name} ({', '.join(columns)}) VALUES ({values})"
            connection.execute(sa.text(query), ROWS[name])
        filled = [name for name in ROWS if tables.has_table(name)]
    database.close()
    return filled


def dump(file):
    """All that is in it, as SQL."""
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        return list(connection.iterdump())


def test_every_table_has_a_row_here():
    assert set(ROWS) == set(metadata.tables)


@pytest.mark.fault(
    "an upgrade finds the store of an older version",
    sees="nothing: it is brought up to date at the start",
    keeps="every row, and a copy from before in backups/",
)
@pytest.mark.parametrize("revision", OLDER)
def test_every_older_store_is_brought_up_to_date(tmp_path, revision):
    filled = old_store(tmp_path, revision)
    before = dump(tmp_path / "store.sqlite")
    with Store.open(tmp_path) as store:
        assert store.revision() == revisions.known()[0]
        assert store.fact("mine") == "yes"
        (row,) = store.questions.new(9)
        assert (row.question.text, row.count, row.exposures) == ("What is 1 + 1?", 3, 0)
        assert store.runs.get(7).state is RunState.PUBLISHED
        (vote,) = store.votes.newest(1)
        assert vote["label"] == "7"
        assert store.adapters.get("ttrl-a-1-d").state is AdapterState.APPROVED
        assert store.adapters.wanted().adapter == store.adapters.serving().adapter == "ttrl-a-1-d"
        assert store.adapters.question_ids("ttrl-a-1-d") == [1]
        assert store.runs.verdicts(7)[0]["verdict"] == "better"
        assert len(store.runs.observed(run_id=7)) == 1
        assert len(store.adapters.pinned("ttrl-a-1-d")) == ("pinned" in filled)
        assert len(store.probes.labelled()) == ("probes" in filled)
        assert len(store.comparisons.waiting()) == ("comparisons" in filled)
        assert store.forgetting.asked_by("k") == [1]
        store.questions.delete([1])
        assert store.votes.newest(1) == [], "foreign keys are on again"
    (copy,) = copies.newest_first(tmp_path / "backups")
    assert copy.name.startswith(f"store-{revision}-")
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert dump(copy) == before


def test_ids_are_used_once_where_the_tables_say_so(tmp_path):
    with Store.open(tmp_path) as store:
        recorded = [[Recorded(from_prompt(str(n)), 1.0)] for n in range(2)]
        for some in recorded:
            store.questions.record(some, holdout=0)
            (row,) = store.questions.page(9)
            store.questions.delete([row.id])
        assert row.id == 2
    with closing(sqlite3.connect(tmp_path / "store.sqlite")) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE sql LIKE '%AUTOINC%'")
        made = {name for (name,) in tables}
    said = metadata.tables.items()
    assert made == {n for n, t in said if t.dialect_options["sqlite"]["autoincrement"]}


def test_an_empty_or_new_store_is_not_copied(tmp_path):
    database = Database(sa.URL.create("sqlite", database=str(tmp_path / "store.sqlite")))
    database.migrate("0001")
    database.close()
    Store.open(tmp_path).close()
    Store.open(tmp_path).close()
    assert not (tmp_path / "backups").exists()


@pytest.mark.fault(
    "a migration of the store fails half-way",
    sees="the new version does not start, and says where the copy is; the old one does",
    keeps="the store as it was",
)
def test_a_migration_that_fails_leaves_the_store_as_it_was(tmp_path, monkeypatch):
    old_store(tmp_path, OLDER[-1])
    before = dump(tmp_path / "store.sqlite")
    upgrade = revisions.upgrade

    def breaks(connection, to):
        upgrade(connection, to)
        connection.execute(sa.text("DROP TABLE facts"))
        raise RuntimeError("in the middle")

    monkeypatch.setattr(revisions, "upgrade", breaks)
    with pytest.raises(StoreError, match=r"is as it was.*in the middle.*A copy of it is") as raised:
        Store.open(tmp_path)
    (copy,) = copies.newest_first(tmp_path / "backups")
    assert str(copy) in str(raised.value)
    assert dump(tmp_path / "store.sqlite") == before == dump(copy)
    monkeypatch.undo()
    with Store.open(tmp_path) as store:
        assert store.fact("mine") == "yes"


def test_a_store_that_cannot_be_copied_is_not_migrated(tmp_path):
    old_store(tmp_path, OLDER[-1])
    before = dump(tmp_path / "store.sqlite")
    (tmp_path / "backups").write_text("in the way")
    with pytest.raises(StoreError, match="cannot be copied to"):
        Store.open(tmp_path)
    assert dump(tmp_path / "store.sqlite") == before


def test_the_newest_copies_are_kept(tmp_path, caplog):
    backups = tmp_path / "backups"
    backups.mkdir()
    for day in range(1, 6):
        (backups / f"store-000{9 - day}-2026010{day}T000000Z.sqlite").touch()
    old_store(tmp_path, OLDER[-1])
    with caplog.at_level(logging.INFO):
        Store.open(tmp_path).close()
    newest, *older = copies.newest_first(backups)
    assert str(newest) in caplog.text
    assert [path.name for path in older] == [
        "store-0004-20260105T000000Z.sqlite",
        "store-0005-20260104T000000Z.sqlite",
    ]


def test_another_writer_waits_and_a_reader_sees_the_old_rows_meanwhile(tmp_path, monkeypatch):
    old_store(tmp_path, OLDER[-1])
    upgrade, seen = revisions.upgrade, []

    def looks(connection, to):
        upgrade(connection, to)
        with closing(Database.look(tmp_path)) as database:
            seen.append(database.revision())
        with closing(sqlite3.connect(tmp_path / "store.sqlite", timeout=0)) as other:
            other.isolation_level = None
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                other.execute("BEGIN IMMEDIATE")

    monkeypatch.setattr(revisions, "upgrade", looks)
    Store.open(tmp_path).close()
    assert seen == [OLDER[-1]]


@pytest.mark.fault(
    "the store was written by a newer version",
    sees="the daemon does not start, and says which version to install",
    keeps="the store, untouched",
)
def test_a_newer_store_is_refused_with_a_sentence(tmp_path, fresh_url):
    url = fresh_url()
    database = Database.open(tmp_path, url)
    with database.write() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    database.close()
    with pytest.raises(StoreError, match=r"newer ttrl.*revision 9999"):
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
    old_store(missing, OLDER[0])
    with Store.look(missing) as store:
        assert store.revision() == OLDER[0]
        with pytest.raises(sa.exc.OperationalError, match="readonly"):
            store.set_fact("mine", "no")


def test_a_store_is_for_its_owner_alone(tmp_path):
    with Store.open(tmp_path) as store:
        store.set_fact("mine", "yes")
        files = list(tmp_path.glob("store.sqlite*"))
        assert len(files) == 3
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
