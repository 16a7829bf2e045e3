"""Nothing that a clock or a request does reads all of a large table: what each operation says to
the database goes by an index, and takes no more work in a store that is four times as large."""

from __future__ import annotations

import re
from contextlib import closing

import pytest
import sqlalchemy as sa

from benchmarks import store as benchmark
from benchmarks.store import OPERATIONS, READS_ALL
from jobs import measure, selection
from tests.stores import both_stores
from ttrl.config import Config, ModelConfig
from ttrl.config.loading import override
from ttrl.store import questions as table
from ttrl.store.schema import questions

BOUNDED = {name: each for name, each in OPERATIONS.items() if name not in READS_ALL}
AS_MUCH = BOUNDED.keys() - {"purge a client's 1,000"}  # it has asked more
LARGE = ("questions", "question_clients", "votes", "samples")
FEW = "ix_questions_evaluated"
"""Of the questions that gates have asked, which are few however many there are."""
SCAN = re.compile(rf"SCAN ({'|'.join(LARGE)})\b")
READS = ("Seq Scan", "Index Scan", "Index Only Scan", "Bitmap Index Scan")
SORTS = ("Sort", "Incremental Sort", "Aggregate", "Hash", "Materialize")
QUESTIONS = 2000
STEPS = 100


@pytest.fixture
def config(tmp_path):
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    whole = Config(state_dir=tmp_path, model=ModelConfig(name=str(model)))
    return override(whole, {"selection.max_questions": 8, "gate.probes": 16})


@pytest.fixture
def full(store, monkeypatch):
    monkeypatch.setattr(benchmark, "INGESTED", 100)
    monkeypatch.setattr(benchmark, "CLIENTS", 5)
    monkeypatch.setattr(benchmark, "CHECKED_AT_START", 0)
    monkeypatch.setattr(table, "USAGE_OF", 50)
    monkeypatch.setattr(table, "LOOKED_AT", 2)
    monkeypatch.setattr(measure, "MOST", 50)
    monkeypatch.setattr(selection, "REMEMBERED", 50)
    benchmark.history(store)
    benchmark.fill(store, 1, QUESTIONS if store.backend.file else 3 * QUESTIONS)
    return store


@both_stores
def test_nothing_reads_all_of_a_large_table(full, config):
    found = {
        f"{name}: {re.sub('([?, ]|%[^)]*[)]s)+', ' ? ', statement)}: {scans}"
        for name, operation in BOUNDED.items()
        for statement, plan in explained(full, lambda: operation(full, config))  # noqa: B023
        if (scans := unbounded(full, statement, plan))
    }
    assert not found, "\n\n".join(found)


def test_a_larger_store_is_no_more_work(full, config):
    same = {name: BOUNDED[name] for name in BOUNDED if name in AS_MUCH}
    before = {name: steps(full, lambda: do(full, config)) for name, do in same.items()}  # noqa: B023
    benchmark.fill(full, 10 * QUESTIONS, 13 * QUESTIONS)
    after = {name: steps(full, lambda: do(full, config)) for name, do in same.items()}  # noqa: B023
    grown = {name: (before[name], after[name]) for name in same}
    assert not {name: n for name, n in grown.items() if n[1] > 1.5 * n[0] + 20}


@both_stores
def test_a_scan_is_seen(full):
    scans = {
        "SELECT id FROM questions WHERE exposures = 5": True,
        "SELECT count(*) FROM votes": True,
        "SELECT id FROM questions ORDER BY reason LIMIT 5": True,
        "SELECT id FROM questions ORDER BY id DESC LIMIT 5": False,
        "SELECT reason FROM questions WHERE hash = 'x'": False,
    }

    def say():
        with full.read() as connection:
            for statement in scans:
                connection.exec_driver_sql(statement)

    found = {said: bool(unbounded(full, said, plan)) for said, plan in explained(full, say)}
    assert found == scans


def test_work_is_seen(full):
    """Also where a plan calls a search what finds nearly all."""
    search = sa.select(sa.func.max(questions.c.reason)).where(questions.c.state == "new")
    before = steps(full, lambda: full.scalar(search))
    benchmark.fill(full, 10 * QUESTIONS, 13 * QUESTIONS)
    assert steps(full, lambda: full.scalar(search)) > 3 * before


def unbounded(store, statement, plan):
    """What of a plan reads all of a large table; the first rows in the order of an index are not
    all."""
    if store.backend.file is None:
        return _without_condition(plan[0][0][0]["Plan"])
    lines = [str(row[-1]) for row in plan]
    first = "LIMIT" in statement and not any("USE TEMP B-TREE" in line for line in lines)
    return [] if first else [line for line in lines if SCAN.search(line)]


def _without_condition(node, table="", *, first=False):
    kind, table = node["Node Type"], node.get("Relation Name", table)
    index = node.get("Index Name")
    first = (first or kind == "Limit") and kind not in SORTS
    read = kind in READS and table in LARGE and "Index Cond" not in node
    found = [f"{kind} {index}"] if read and not first and index != FEW else []
    for part in node.get("Plans", ()):
        found += _without_condition(part, table, first=first)
    return found


def explained(store, operation):
    """What an operation says to the database, each statement once, with the plan for it."""
    said = {}

    def note(connection, cursor, statement, parameters, context, many):
        if statement.split()[0] in ("SELECT", "INSERT", "UPDATE", "DELETE", "WITH"):
            one = parameters[0] if isinstance(parameters, list) else parameters
            said.setdefault(statement, one)

    engine = store.backend.engine
    sa.event.listen(engine, "before_cursor_execute", note)
    try:
        operation()
    finally:
        sa.event.remove(engine, "before_cursor_execute", note)
    plans = []
    with closing(engine.raw_connection()) as connection:
        cursor = connection.cursor()
        explain = "EXPLAIN QUERY PLAN" if store.backend.file else "EXPLAIN (FORMAT JSON)"
        if not store.backend.file:  # of so few rows it would rather read all, and sort
            cursor.execute("ANALYZE")
            for way in ("seqscan", "sort", "hashjoin", "mergejoin"):
                cursor.execute(f"SET enable_{way} = off")
        for statement, parameters in said.items():
            cursor.execute(f"{explain} {statement}", parameters)
            plans.append((statement, cursor.fetchall()))
        connection.rollback()
    return plans


def steps(store, operation):
    """How much SQLite does for an operation, in hundreds of its own instructions."""
    count = 0

    def tick():
        nonlocal count
        count += 1

    def watched(connection, *_):
        connection.set_progress_handler(tick, STEPS)

    sa.event.listen(store.backend.engine, "checkout", watched)
    try:
        operation()
    finally:
        sa.event.remove(store.backend.engine, "checkout", watched)
    return count
