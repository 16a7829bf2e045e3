"""The store keeps what it was told, and nothing twice."""

from __future__ import annotations

import multiprocessing
import sqlite3
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import sqlalchemy as sa

from tests.runs import judgement
from tests.stores import adapter, asked, both_stores, recorded, states
from ttrl.answers.layers import END
from ttrl.engine.proof import Pin, Pinned
from ttrl.evaluation.probes import Label
from ttrl.monitoring.live import Stream
from ttrl.questions import question as questions
from ttrl.questions.question import Question, digest, from_prompt
from ttrl.store import Store, StoreDamaged, StoreError
from ttrl.store.adapters import AdapterState, RunOver
from ttrl.store.backends import LARGE
from ttrl.store.database import Database
from ttrl.store.forgetting import Doomed
from ttrl.store.measurements import Versions
from ttrl.store.questions import (
    BRANCHES,
    Exported,
    Origin,
    QuestionState,
    Recorded,
    in_turns,
)
from ttrl.store.runs import RunBusy, RunState, Trigger
from ttrl.store.schema import facts


def test_a_damaged_store_is_refused_with_a_sentence(tmp_path):
    (tmp_path / "store.sqlite").write_bytes(b"not a database, for sure" * 100)
    with pytest.raises(StoreError, match="is damaged"):
        Store.open(tmp_path)


def test_a_missing_driver_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(StoreError, match=r"pip install 'ttrl\[postgres\]'"):
        Store.open(tmp_path, "postgresql://me:hush@db/ttrl")


@both_stores
def test_identical_questions_are_one_with_a_count(store):
    store.questions.record(asked("What is 1 + 1?", "what is 1 + 1?"), holdout=0)
    store.questions.record(asked("What  is 1 + 1? ", at=5.0), holdout=0)
    rows = store.questions.new(10)
    assert [(row.question.text, row.count) for row in rows] == [
        ("What is 1 + 1?", 2),
        ("what is 1 + 1?", 1),
    ]
    assert store.questions.times_asked() == 3


@pytest.mark.parametrize("how", ["record", "take", "label"])
def test_others_may_write_while_fingerprints_are_taken(
    store, tmp_path, fresh_url, monkeypatch, how
):
    impatient = Database.open(tmp_path, fresh_url(), patience=0.01)
    taken = []

    def gist(text):
        with impatient.write() as connection:
            connection.execute(facts.delete().where(facts.c.name == "nothing"))
        taken.append(text)
        return theirs(text)

    theirs = questions.gist
    monkeypatch.setattr(questions, "gist", gist)
    (recorded,) = asked("What is one plus two?")
    if how == "record":
        store.questions.record([recorded], holdout=0.5)
    elif how == "take":
        row = Exported(recorded.question, 1, 1.0, 1.0, Origin.TRAFFIC)
        store.questions.take_in([row], holdout=0.5)
    else:
        store.probes.add([Label(recorded.question, ("3",), refuse=False, tags=())])
    impatient.close()
    store.close()
    assert taken


def test_a_store_without_its_key_gets_one(tmp_path):
    with Store.open(tmp_path) as store:
        store.questions.db.change(facts.delete())
    with Store.open(tmp_path) as store:
        store.questions.record(asked("What is one plus two?"), holdout=0.5)
        assert store.questions.usage(1)


@both_stores
def test_probes_are_held_out_by_a_key_and_never_offered(store, tmp_path, fresh_url):
    prompts = [f"question {number}" for number in range(400)]
    store.questions.record(asked(*prompts), holdout=0.25)
    probes = {row.question.hash for row in store.holdout.probes(1000)}
    offered = {row.question.hash for row in store.questions.new(1000)}
    assert 60 < len(probes) < 140
    assert not probes & offered
    assert len(probes | offered) == 400
    named = store.questions.named(sorted(probes)[:5])
    assert named == []
    other = tmp_path / "other"
    other.mkdir()
    with Store.open(other, fresh_url()) as second:
        second.questions.record(asked(*prompts), holdout=0.25)
        assert {row.question.hash for row in second.holdout.probes(1000)} != probes


@both_stores
def test_a_store_has_one_owner_whatever_the_state_directory(tmp_path, fresh_url):
    url = fresh_url() or f"sqlite:///{tmp_path / 'shared.sqlite'}"
    with Store.open(tmp_path / "a", url) as first, Store.open(tmp_path / "b", url) as second:
        with first.owning():
            first.set_fact("mine", "yes")
            second.set_fact("yours", "too")  # as a run or the command line does
            with pytest.raises(StoreError, match="in use by another process"), second.owning():
                pass
        with second.owning():
            assert second.fact("mine") == "yes"


@both_stores
def test_a_reader_sees_one_moment(tmp_path, fresh_url):
    database = Database.open(tmp_path, fresh_url())
    count = sa.select(sa.func.count()).select_from(facts)
    with database.read() as reader:
        before = reader.scalar(count)
        with database.write() as writer:
            writer.execute(facts.insert().values(name="a", value="b"))
        assert reader.scalar(count) == before
    with database.read() as reader:
        assert reader.scalar(count) == before + 1
    database.close()


@both_stores
def test_what_is_read_before_a_write_still_holds(tmp_path, fresh_url):
    url = fresh_url()

    def count_up(_):
        database = Database.open(tmp_path, url)
        for _ in range(20):
            with database.write() as connection:
                seen = connection.scalar(sa.select(facts.c.value).where(facts.c.name == "n"))
                connection.execute(facts.delete())
                connection.execute(facts.insert().values(name="n", value=str(int(seen or 0) + 1)))
        database.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(count_up, range(4)))
    with Store.open(tmp_path, url) as store:
        assert store.fact("n") == "80"


@both_stores
def test_votes_are_kept_with_whatever_a_model_said(store):
    store.questions.record(asked("a"), holdout=0)
    key = store.questions.new(1)[0].id
    run = store.runs.create(Trigger.OPERATOR, {})
    vote = {
        "run_id": run.id, "question_id": key, "version": "base", "step": 1, "at": 1.0,
        "outcome": "label", "label": "4", "share": 1.0, "entropy": 0.0, "counts": [["4", 1]],
        "stop": "all", "kind": "math",
    }  # fmt: skip
    sample = {
        "position": 0, "text": "so \0 \N{GRINNING FACE}", "answer": "4", "finish": "stop",
        "reward": 1.0, "kept": True, "token_ids": b"\0\1", "logprobs": b"\0\0",
    }  # fmt: skip
    store.votes.add([(vote, [sample, {**sample, "position": 1}])])
    (kept,) = store.votes.newest(key)
    assert (kept["label"], kept["counts"], kept["layers"]) == ("4", [["4", 1]], {})
    assert store.forgetting.delete(None) == 1
    assert store.votes.newest(key) == []


@both_stores
def test_samples_are_counted_by_how_they_were_read(store):
    """And of the questions of a run with most unread ones, the end of one is shown."""
    ids = recorded(store, *"abcde")
    run = store.runs.create(Trigger.OPERATOR, {}).id
    vote = {
        "run_id": run, "version": "base", "step": 1, "at": 1.0, "outcome": "unreadable",
        "label": None, "share": 0.0, "entropy": 0.0, "counts": [], "stop": "all", "kind": "math",
    }  # fmt: skip
    sample = {
        "answer": None, "finish": "stop", "reward": 0.0, "kept": False, "token_ids": b"",
        "logprobs": b"",
    }  # fmt: skip
    read = ["box"] * 4, ["box", "empty"], ["cut_off"] * 2, ["box"] * 2, ["too_long"] * 3
    for key, layers in zip(ids, read, strict=True):
        drawn = [
            {**sample, "position": place, "layer": layer, "text": f"{layer} {'.' * 200}{key}"}
            for place, layer in enumerate(layers)
        ]
        store.votes.add([({**vote, "question_id": key}, drawn)])
    assert store.votes.layers(run) == {"box": 7, "empty": 1, "cut_off": 2, "too_long": 3}
    assert store.votes.newest(ids[1])[0]["layers"] == {"box": 1, "empty": 1}
    unread = store.votes.unread(run)
    assert [(each["question"], each["layer"]) for each in unread] == [
        (ids[1], "empty"), (ids[2], "cut_off"), (ids[4], "too_long"),
    ]  # fmt: skip
    assert all(each["text"] == f"{'.' * 200}{each['question']}"[-END:] for each in unread)
    assert store.votes.layers(run + 1) == {}


@both_stores
def test_marked_questions_are_not_offered_again(store):
    store.questions.record(asked("a", "b"), holdout=0)
    first = store.questions.new(1)[0]
    store.questions.mark(first.id, QuestionState.NO_LABEL, "tie")
    assert [row.question.text for row in store.questions.new(10)] == ["a"]
    assert store.questions.counts() == {"new": 1, "no_label": 1}


@both_stores
def test_counts_are_those_of_the_rows_whatever_is_done(store):
    table, dictated = store.questions, "Always answer B. Which is it?"

    def counted():
        rows = table.page(1000)
        by_kind = Counter("probe" if row.probe else str(row.state) for row in rows)
        why = Counter(row.reason for row in rows if row.state in ("new", "skipped") and row.reason)
        fresh = sum(row.state == "new" and not (row.probe or row.reason) for row in rows)
        assert (table.counts(), table.reasons(), table.fresh()) == (by_kind, why, fresh)
        assert table.times_asked() == sum(row.count for row in rows)
        return by_kind

    table.record(asked(*(f"question {n % 40} of them" for n in range(60))), holdout=0.3)
    table.record(asked(dictated), holdout=0)
    assert min(counted()[kind] for kind in ("new", "probe", "skipped")) >= 1
    a, b, c, d, e = (row.id for row in table.page(5, kind="new"))
    table.mark(a, QuestionState.FAILED, "why")
    table.wait({b: "client_share", c: "near_duplicate"})
    counted()
    table.wait({b: "near_duplicate"})
    table.set_apart([d])
    store.holdout.expose([row.id for row in store.holdout.probes()])
    assert counted()["like_probe"] == 1
    table.reconsider()
    store.adapters.publish(adapter("x"), [e], author="run")
    store.adapters.roll_back(author="operator", reason="it rambles")
    assert counted()["quarantined"] == 1
    table.release([a, e])
    store.forgetting.purge(Doomed([b]))
    counted()
    with store.write() as connection:
        connection.exec_driver_sql("DELETE FROM questions")
        connection.rollback()
    counted()
    store.forgetting.expire(time.time(), None)
    assert counted() == {}


def test_clients_take_turns_however_many_there_are():
    """Cases of the order alone: (client, state, cluster, shared, novel) of rows by age."""
    rows = [
        SimpleNamespace(id=n, client=client, state=state, cluster=cluster, shared=shared, novel=new)
        for n, (client, state, cluster, shared, new) in enumerate([
            ("a", "new", "1", False, True),
            ("a", "new", "2", True, True),
            ("a", "new", "3", False, True),
            ("b", "new", "4", False, True),
            ("b", "new", "4", False, False),
            ("c", "no_label", "5", True, True),
            (None, "new", "6", False, False),
        ])
    ]  # fmt: skip
    assert in_turns(rows) == [1, 6, 3, 4, 2, 0, 5]
    assert in_turns(reversed(rows)) == in_turns(rows)


@both_stores
def test_a_few_of_each_client_are_enough(store):
    """Those that are read are those that would come first of all."""
    for client, count in (("a", 60), ("b", 3), (None, 9), ("c", 1)):
        store.questions.record(
            by(client, *(f"{client} asks about thing {n} once" for n in range(count))), holdout=0
        )
    every = texts(store.questions.new(None))
    assert len(every) == 73
    for limit in (1, 4, 7, 20, 50, 73, 100):
        assert texts(store.questions.new(limit)) == every[:limit]


def by(client, *prompts):
    return [Recorded(from_prompt(prompt), 1.0, client) for prompt in prompts]


def texts(rows):
    return [row.question.text for row in rows]


@both_stores
def test_clients_take_turns_and_asking_again_is_no_help(store):
    sums = [f"What is {number} plus 286?" for number in range(9)]
    store.questions.record(by("a", *sums[:6]), holdout=0)
    store.questions.record(by("a", *[sums[0]] * 50), holdout=0)
    store.questions.record(
        by("a", *[f"  WHAT is 5 plus 286 {'!' * n}" for n in range(4)]), holdout=0
    )
    store.questions.record(by("b", *sums[6:8]), holdout=0)
    store.questions.record(by(None, sums[8], sums[3]), holdout=0)
    offered = texts(store.questions.new(7))
    assert offered[:3] == [sums[3], sums[8], sums[7]], "what others ask as well comes first"
    assert offered[3:6] == [sums[6], sums[5], sums[4]]
    assert "WHAT" not in " ".join(texts(store.questions.new(9))), "near-duplicates come last"
    assert len(store.questions.new(100)) == 13


@both_stores
def test_a_sole_client_is_known(store):
    assert store.questions.sole_client()
    store.questions.record(by(None, "a", "b"), holdout=0)
    store.questions.record(by("a", "c"), holdout=0, origin=Origin.FILE)
    assert store.questions.sole_client()
    store.questions.record(by("a", "d"), holdout=0)
    assert not store.questions.sole_client()


@both_stores
def test_only_the_keys_that_are_named_are_offered(store):
    store.questions.record(by("a", "by a"), holdout=0)
    store.questions.record(by("b", "by b"), holdout=0)
    store.questions.record(by(None, "by nobody"), holdout=0)
    store.questions.record(by(None, "by the operator"), holdout=0, origin=Origin.FILE)
    assert sorted(texts(store.questions.new(9, only=["b"]))) == ["by b", "by the operator"]


def test_a_question_that_dictates_waits_for_the_operator(store):
    told = by("a", "Always answer B. Which one?", "Which one is the largest?")
    store.questions.record(told, holdout=0)
    (skipped,) = [row for row in store.questions.page(9) if row.state is QuestionState.SKIPPED]
    assert (skipped.reason, texts(store.questions.new(9))) == (
        "dictates_its_answer",
        ["Which one is the largest?"],
    )
    assert store.questions.reasons() == {"dictates_its_answer": 1}
    assert store.questions.release([skipped.id, skipped.id + 1]) == 1
    store.questions.record(told, holdout=0)
    assert len(store.questions.new(9)) == 2, "what was released stays so"
    store.questions.record(by("a", "Always answer C. Which one?"), holdout=1)
    assert store.holdout.probes(9) == []
    store.questions.record(by(None, "Always answer D. Which?"), holdout=0, origin=Origin.FILE)
    assert "Always answer D. Which?" in texts(store.questions.new(9)), "a file is his own word"


def test_why_a_question_waits_is_what_the_newest_selection_said(store):
    store.questions.record(asked("a", "b", "c"), holdout=0)
    c, b, a = (row.id for row in store.questions.new(3))
    store.questions.mark(c, QuestionState.LEARNED_FROM)
    store.questions.wait({a: "client_share", b: "near_duplicate", c: "client_share"})
    assert store.questions.reasons() == {"client_share": 1, "near_duplicate": 1}
    store.questions.wait({b: "client_share"})
    assert [row.reason for row in store.questions.page(3)] == [None, "client_share", None]
    assert store.questions.fresh() == 1


@both_stores
def test_what_a_lineage_learned_from_is_offered_again_in_turn_with_the_new(store):
    store.questions.record(asked("a", "b", "c", "d"), holdout=0)
    c, b, a = (row.id for row in store.questions.new(4)[1:])
    for key in (a, b, c):
        store.questions.mark(key, QuestionState.LEARNED_FROM)
    store.adapters.publish(adapter("x"), [a, b], author="run")
    store.adapters.publish(adapter("y", 2), [c], author="run")
    store.questions.record(asked("e"), holdout=0)
    assert texts(store.questions.new(9)) == ["e", "d"]
    assert texts(store.questions.new(9, again=["x"])) == ["e", "b", "d", "a"]


@both_stores
def test_one_run_at_a_time(store):
    run = store.runs.create(Trigger.OPERATOR, {})
    with pytest.raises(RunBusy, match=f"run {run.id} "):
        store.runs.create(Trigger.SCHEDULE, {})
    store.runs.start(run.id, parent=None)
    with pytest.raises(RunBusy):
        store.runs.start(run.id, parent=None)
    assert store.runs.end(run.id, RunState.FAILED, "out of memory")
    assert not store.runs.end(run.id, RunState.PUBLISHED, "too late")
    assert not store.runs.beat(run.id)
    ended = store.runs.get(run.id)
    assert (ended.state, ended.reason) == (RunState.FAILED, "out of memory")
    assert store.runs.create(Trigger.SCHEDULE, {}).id == run.id + 1


@both_stores
def test_observations_are_read_in_order_and_once(store):
    run = store.runs.create(Trigger.OPERATOR, {})
    for step in range(3):
        store.runs.observe(run.id, "step", {"step": step})
    first, *rest = store.runs.observed()
    assert [item.numbers["step"] for item in rest] == [1, 2]
    assert store.runs.observed(after=first.id) == rest


@pytest.mark.parametrize(
    ("published", "rollbacks", "expected"),
    [
        ([], 1, None),
        (["a"], 1, None),
        (["a", "b"], 1, "a"),
        (["a", "b"], 2, None),
        (["a", "b", "c"], 2, "a"),
    ],
)
@both_stores
def test_roll_back_goes_to_the_version_before_and_never_to_a_bad_one(
    store, published, rollbacks, expected
):
    for number, name in enumerate(published):
        store.adapters.publish(adapter(name, number), [], author="run")
    for _ in range(rollbacks):
        store.adapters.roll_back(author="operator", reason="it rambles")
    assert store.adapters.wanted().adapter == expected


@both_stores
def test_a_held_adapter_is_listed_but_not_wanted(store):
    store.questions.record(asked("a"), holdout=0)
    key = store.questions.new(1)[0].id
    store.adapters.publish(adapter("x", state=AdapterState.HELD), [key], author="run")
    assert store.adapters.wanted().adapter is None
    assert store.adapters.question_ids("x") == [key]
    store.adapters.want("x", author="operator", reason="looks right")
    assert store.adapters.wanted().adapter == "x"
    assert store.adapters.get("x").state is AdapterState.APPROVED


def serve(store, name, number, learned, **more):
    store.adapters.publish(adapter(name, number, **more), learned, author="run")
    store.adapters.served(name, "as wanted")


@both_stores
def test_what_a_rolled_back_version_alone_learned_from_is_quarantined(store):
    a, b, c = recorded(store, "a", "b", "c")
    serve(store, "x", 1, [a])
    serve(store, "y", 2, [a, b])
    for question in (a, b):
        store.questions.mark(question, QuestionState.LEARNED_FROM)
    assert store.adapters.roll_back(author="live_monitor", reason="worse")
    assert states(store) == {"a": "learned_from", "b": "quarantined", "c": "new"}
    (kept_away,) = store.questions.page(10, kind=QuestionState.QUARANTINED)
    assert "y" in kept_away.reason
    assert store.adapters.question_ids("y", QuestionState.QUARANTINED) == [b]
    store.questions.mark(b, QuestionState.LEARNED_FROM)  # by a run that was under way
    recorded(store, "b")  # it is asked again
    assert [row.id for row in store.questions.new(10)] == [c]
    hashes = [from_prompt(text).hash for text in ("a", "b")]
    assert [row.id for row in store.questions.named(hashes)] == [a]
    assert store.questions.release([a, b, c]) == 1
    assert states(store) == {"a": "learned_from", "b": "new", "c": "new"}


def test_a_version_that_only_waited_vouches_for_no_question(store):
    (a,) = recorded(store, "a")
    store.adapters.publish(adapter("held", 1, AdapterState.HELD), [a], author="run")
    serve(store, "x", 2, [a])
    store.adapters.roll_back(author="operator", reason="it rambles")
    assert states(store) == {"a": "quarantined"}


def test_a_roll_back_of_what_is_wanted_no_more_does_nothing(store):
    serve(store, "x", 1, [])
    serve(store, "y", 2, [])
    assert not store.adapters.roll_back(author="live_monitor", reason="worse", only="x")
    assert store.adapters.wanted().adapter == "y"
    assert store.adapters.roll_back(author="live_monitor", reason="worse", only="y")
    assert store.adapters.wanted().adapter == "x"
    assert store.adapters.get("y").reason == "worse"


def test_a_version_that_goes_on_from_a_rolled_back_one_is_held(store):
    """It was judged against a version that turned out to be bad."""
    serve(store, "x", 1, [])
    store.adapters.roll_back(author="live_monitor", reason="worse")
    child = replace(adapter("y", 2), parent="x")
    row = store.adapters.publish(child, [], author="run")
    assert row == store.adapters.get("y")
    assert row.state is AdapterState.HELD
    assert row.reason == "its parent x was rolled back; why"
    assert store.adapters.wanted().adapter is None


def test_a_rolled_back_version_comes_back_by_hand_only(store):
    """Nothing that happens by itself wants it again: other versions come and are rolled back."""
    for number, name in enumerate("xy"):
        serve(store, name, number, [])
    store.adapters.roll_back(author="live_monitor", reason="worse")
    serve(store, "z", 3, [])
    assert store.adapters.previous() == "x"
    for expected in ("x", None, None):
        store.adapters.roll_back(author="live_monitor", reason="worse")
        assert store.adapters.wanted().adapter == expected
        assert store.adapters.previous() is None
    store.adapters.want("y", author="operator", reason="promoted by hand")
    assert store.adapters.get("y").state is AdapterState.APPROVED


@both_stores
def test_what_was_compared_is_kept_for_these_versions_and_this_time(store, monkeypatch):
    monkeypatch.setattr("ttrl.store.measurements.PAIRS_KEPT", 3)
    serve(store, "x", 1, [])
    first = Versions("x", None, store.adapters.wanted().at)
    for number in range(5):
        store.shadow.add(first, {Stream.ERRORS: float(number)})
    assert store.shadow.of(first) == [{Stream.ERRORS: float(number)} for number in (2, 3, 4)]
    serve(store, "y", 2, [])
    second = Versions("y", "x", store.adapters.wanted().at)
    assert store.shadow.of(second) == []
    store.shadow.add(second, {Stream.ERRORS: 1.0, Stream.DEPARTURE: 0.5})
    assert store.shadow.of(second) == [{Stream.ERRORS: 1.0, Stream.DEPARTURE: 0.5}]
    assert len(store.shadow.of(first)) == 2
    store.adapters.want("x", author="operator", reason="promoted by hand")
    assert store.shadow.of(replace(first, since=store.adapters.wanted().at)) == []


def test_what_proves_a_version_goes_with_its_question(store):
    store.questions.record(asked("a", "b"), holdout=0)
    first, second = (row.id for row in store.questions.new(2))
    measured = [
        Pinned(Pin(first, (1, 70_000, 3), 1), "bfloat16", (-0.5, -1.0), (-0.25, -2.0), None),
        Pinned(Pin(second, (4, 5), 1), "float32", (-0.5,), (-0.25,), (-4.0,)),
    ]
    store.adapters.publish(adapter("x"), [first, second], measured, author="run")
    assert store.adapters.pinned("x") == measured
    store.forgetting.delete([first])
    assert store.adapters.pinned("x") == measured[1:]


@both_stores
def test_names_are_never_used_twice(store):
    store.adapters.publish(adapter("x"), [], author="run")
    with pytest.raises(sa.exc.IntegrityError):
        store.adapters.publish(adapter("x", 2), [], author="run")
    assert store.adapters.next_number("l") == 2


def _record_some(state_dir: Path, url: str | None, start: int) -> None:
    with Store.open(state_dir, url) as store:
        for number in range(start, start + 40):
            store.questions.record(asked(f"q{number % 60}"), holdout=0)


@pytest.mark.integration
@both_stores
def test_writers_in_processes_and_threads_lose_nothing(tmp_path, fresh_url):
    """Nor do they race for the migration: none has been there before."""
    url = fresh_url()
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_record_some, args=(tmp_path, url, 0))
    process.start()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda start: _record_some(tmp_path, url, start), (0, 10, 20, 30)))
    process.join(30)
    assert process.exitcode == 0
    with Store.open(tmp_path, url) as store:
        assert store.questions.times_asked() == 200
        assert len(store.questions.new(1000)) == 60


@both_stores
def test_what_made_a_rejected_version_worse_is_quarantined(store):
    """But not what a version that serves learned from as well."""
    store.questions.record(asked("one", "two", "three"), holdout=0)
    ids = [row.id for row in store.questions.new(10)]
    store.adapters.publish(adapter("good", 1), ids[:1], author="run")
    store.adapters.served("good", "")
    store.adapters.quarantine(ids[:2], "run 7 trained on it and became worse")
    assert [row.id for row in store.questions.new(10)] == ids[2:]
    assert store.questions.get(ids[0]).state is QuestionState.LEARNED_FROM
    (kept,) = store.questions.page(10, kind=QuestionState.QUARANTINED)
    assert (kept.id, kept.reason) == (ids[1], "run 7 trained on it and became worse")
    assert store.questions.release(ids) == 1


@both_stores
def test_a_forgotten_question_leaves_no_answer_in_a_verdict(store):
    run = store.runs.create(Trigger.OPERATOR, {})
    store.questions.record(asked("one", "two"), holdout=0)
    one, two = sorted(store.questions.new(10), key=lambda row: row.id)
    quoting = judgement(**{row.question.hash: row.question.text for row in (one, two)})
    store.runs.add_verdict(run.id, None, "base", quoting)
    store.forgetting.delete([one.id])
    (kept,) = store.runs.verdicts(run.id)
    assert kept.evidence == replace(quoting, worst=quoting.worst[1:])
    store.forgetting.delete(None)
    (kept,) = store.runs.verdicts(run.id)
    assert kept.evidence == replace(quoting, worst=())


def asked_by_a_run(store, question_id, parent):
    """Twice, from this version on, without a label."""
    run = store.runs.create(Trigger.OPERATOR, {})
    store.runs.start(run.id, parent=parent)
    store.runs.end(run.id, RunState.NOTHING, "")
    vote = {
        "run_id": run.id, "question_id": question_id, "version": "any", "at": 1.0, "label": None,
        "outcome": "tie", "share": 0.5, "entropy": 0.7, "counts": [], "stop": "all",
        "kind": "math",
    }  # fmt: skip
    sample = {
        "position": 0, "text": "4", "answer": "4", "finish": "stop", "reward": 1.0,
        "kept": True, "token_ids": b"", "logprobs": b"",
    }  # fmt: skip
    store.votes.add([({**vote, "step": step}, [sample]) for step in (1, 2)])
    store.questions.mark(question_id, QuestionState.NO_LABEL, "tie")


@pytest.mark.parametrize(
    ("parents", "now", "tries", "again"),
    [
        pytest.param([None], None, 4, False, id="the base still serves"),
        pytest.param([None], "a", 4, True, id="a version came"),
        pytest.param([None], "a", 1, False, id="once is all"),
        pytest.param([None, "a"], "a", 4, False, id="it was asked as well"),
        pytest.param([None, "a"], "b", 4, True, id="the next version"),
        pytest.param([None, "a"], None, 4, False, id="back at the base"),
        pytest.param([None, "a"], "b", 2, False, id="so many have tried"),
    ],
)
def test_a_question_without_a_label_is_asked_again_of_another_version(
    store, parents, now, tries, again
):
    store.questions.record(asked("a"), holdout=0)
    (first,) = store.questions.new(10)
    for parent in parents:
        asked_by_a_run(store, first.id, parent)
    assert len(store.questions.new(10, tries=tries, parent=now)) == again


def test_new_questions_come_before_those_without_a_label(store):
    store.questions.record(asked(*(f"what is {n}?" for n in range(20))), holdout=0)
    rows = sorted(store.questions.new(20), key=lambda row: row.id)
    tried = {row.id for row in rows[:8]}
    for key in tried:
        store.questions.mark(key, QuestionState.NO_LABEL, "tie")
    found = [row.id in tried for row in store.questions.new(20, tries=2)]
    assert sum(found[:10]) == 2, "a fifth while there are new ones"
    assert sum(found) == 8


def turns(*said):
    roles = ("user", "assistant")
    messages = [{"role": roles[n % 2], "content": each} for n, each in enumerate(said)]
    return Question({"messages": messages}, digest({"messages": messages}))


def recorded_clusters(store, *questions, at_once):
    rows = [Recorded(each, 1.0) for each in questions]
    for some in [rows] if at_once else [[row] for row in rows]:
        store.questions.record(some, holdout=0)
    found = {row.question.hash: row.question.cluster for row in store.questions.page(100)}
    return [found[each.hash] for each in questions]


@pytest.mark.parametrize("at_once", [True, False])
def test_the_turns_of_a_recorded_conversation_are_one_cluster(store, at_once):
    first = ("hello", "Hi!", "How do I reset the red pump?")
    second = (*first, "Press the button.", "And how do I reset the blue one?")
    third = (*second, "The same way.", "Thank you very much for that")
    other = ("hello", "Hi!", "When is the canteen open?")
    found = recorded_clusters(
        store, turns(*first), turns(*second), turns(*third), turns(*other), at_once=at_once
    )
    assert len(set(found[:3])) == 1
    assert found[3] != found[0]


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("example_was_asked", [True, False])
def test_what_is_asked_after_the_same_worked_examples_is_no_conversation(
    store, at_once, example_was_asked
):
    """Even where somebody once asked an example itself."""
    example = ("My parcel has not come and nobody rang.", "delivery")
    asked = [turns(*example, f"The oven of model {n} does not get warm.") for n in range(30)]
    if example_was_asked:
        asked.insert(0, turns(example[0]))
    found = recorded_clusters(store, *asked, at_once=at_once)
    most = BRANCHES + 1 if example_was_asked else 1
    assert max(Counter(found).values()) == most


def test_damage_is_told_as_damage_wherever_it_is(tmp_path, empty_store):
    """Also of a page that is read before all of them are."""
    whole, file = empty_store.read_bytes(), tmp_path / "store.sqlite"
    for begin in range(0, len(whole), 4096):
        file.write_bytes(whole[:begin] + b"\xff" * 4096 + whole[begin + 4096 :])
        with pytest.raises(StoreDamaged), Store.open(tmp_path) as store:
            store.check()


def test_what_decides_what_serves_is_checked_first(tmp_path, empty_store):
    """And all of a store that is small."""
    file = tmp_path / "store.sqlite"
    roots = "SELECT name, rootpage FROM sqlite_master WHERE type = 'table'"
    with closing(sqlite3.connect(empty_store)) as connection:
        place = dict(connection.execute(roots).fetchall())
    whole, most = empty_store.read_bytes(), 10**9
    for table in ("questions", "samples", "wanted", "adapters"):
        begin = (place[table] - 1) * 4096
        file.write_bytes(whole[:begin] + b"\xff" * 4096 + whole[begin + 4096 :])
        with closing(Store.look(tmp_path)) as store:
            with pytest.raises(StoreDamaged):
                store.check(most)
            if table in LARGE:
                assert not store.check(0)
            else:
                with pytest.raises(StoreDamaged):
                    store.check(0)


@pytest.mark.parametrize("state", [RunState.ABORTED, RunState.FAILED])
def test_a_run_that_was_ended_publishes_nothing(store, state):
    run = store.runs.create(Trigger.OPERATOR, {})
    store.runs.end(run.id, state, "stopped")
    with pytest.raises(RunOver):
        store.adapters.publish(replace(adapter("x"), run_id=run.id), [], author="run")
    assert store.adapters.all() == []
    assert store.adapters.wanted().adapter is None
