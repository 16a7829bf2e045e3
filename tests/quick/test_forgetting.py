"""What is forgotten on request, what by age, and what must stay."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa

from jobs import prune
from tests.runs import judgement
from tests.stores import DAY, adapter, ask, both_stores, on_disk, publish, recorded, states
from ttrl.config import Config
from ttrl.config.loading import ConfigError, load
from ttrl.evaluation.probes import Judged, Label, Pair, ProbeOrigin, Side
from ttrl.questions.question import from_prompt
from ttrl.store import Store
from ttrl.store.adapters import AdapterGone, AdapterState, Forgotten
from ttrl.store.forgetting import Doomed
from ttrl.store.questions import QuestionState
from ttrl.store.runs import RunState, Trigger
from ttrl.versions import remove

SECRET = "my number is 0151 23456789, call me"


def vote(store, run_id, question_id, text="an answer"):
    row = {
        "run_id": run_id, "question_id": question_id, "version": "base", "step": 1, "at": 1.0,
        "kind": "math", "outcome": "label", "label": "7", "share": 1.0, "entropy": 0.0,
        "counts": [["7", 1]], "stop": "drawn",
    }  # fmt: skip
    sample = {
        "position": 0, "text": text, "answer": "7", "finish": "stop", "reward": 1.0, "kept": True,
        "token_ids": b"\0" * 4000, "logprobs": b"\0" * 4000,
    }  # fmt: skip
    store.votes.add([(row, [sample])])


def ended(store, *, days_ago=0.0):
    """A run that is over."""
    run = store.runs.create(Trigger.OPERATOR, {})
    store.runs.end(run.id, RunState.NOTHING, "")
    with store.write() as connection:
        connection.exec_driver_sql(
            f"update runs set finished = {time.time() - days_ago * DAY} where id = {run.id}"
        )
    return run.id


def long_ago(store):
    """What was wanted was so, more than a week ago."""
    with store.write() as connection:
        connection.exec_driver_sql("update wanted set at = id")


@both_stores
def test_a_purged_client_is_forgotten_by_whoever_learned_from_it(store):
    """`a` was asked by both clients, and by the other one first."""
    ask(store, "a", "other")
    a, b, c = ask(store, "a", "me"), ask(store, "b", "other"), ask(store, "c", "other")
    publish(store, "one", [b])
    publish(store, "two", [a, c], parent="one")
    publish(store, "three", [b], parent="two")
    for key in (a, b, c):
        store.questions.mark(key, QuestionState.LEARNED_FROM)
    doomed = Doomed(store.forgetting.asked_by("me"), client="me")
    would = store.forgetting.purge(doomed, dry=True)
    assert len(states(store)) == 3, "it was only said"
    assert store.forgetting.purge(doomed) == would
    assert set(would.adapters) == {"two", "three"}
    assert (would.questions, would.wanted) == (1, "one")
    assert states(store) == {"b": "learned_from", "c": "new"}, "c can be learned from again"
    assert store.adapters.wanted().adapter == "one"
    assert store.adapters.previous() is None
    kinds = {row.name: row.state for row in store.adapters.all()}
    assert kinds == {"one": "approved", "two": "tainted", "three": "tainted"}
    (change,) = store.adapters.changes(3)
    assert change.back
    with pytest.raises(AdapterGone, match="tainted"):
        store.adapters.want("two", author="operator", reason="all the same")
    store.adapters.roll_back(author="operator", reason="it rambles")
    assert store.adapters.wanted().adapter is None


def test_without_an_untainted_version_the_base_is_wanted(store):
    a = ask(store, "a")
    publish(store, "one", [a])
    publish(store, "held", [], parent="one", state=AdapterState.HELD)
    assert store.forgetting.purge(Doomed([a])).wanted is None
    assert store.adapters.get("held").state is AdapterState.TAINTED
    assert "ancestor" in store.adapters.get("held").reason


def test_a_tainted_version_may_serve_until_there_is_another(store):
    a = ask(store, "a")
    publish(store, "one", [a])
    assert store.forgetting.purge(Doomed([a]), keep_serving=True).wanted == "one"
    assert store.adapters.get("one").state is AdapterState.TAINTED
    store.adapters.roll_back(author="operator", reason="it rambles")
    assert store.adapters.get("one").state is AdapterState.TAINTED, "that is not undone"
    assert store.adapters.wanted().adapter is None


def test_what_is_purged_leaves_nothing_on_the_disk(tmp_path):
    """In no page, no write-ahead log: the words, the answers, the label."""
    with Store.open(tmp_path) as store:
        for number in range(30):
            ask(store, f"question {number} " + "filler " * 50)
        key = ask(store, SECRET + " long" * 3000, "me")
        run_id = ended(store)
        vote(store, run_id, key, f"they said: {SECRET}")
        pair = Pair(key, ProbeOrigin.RANDOM, Side(SECRET, "x"), Side("y", "y"))
        store.comparisons.add(run_id, [pair])
        (stored,) = store.comparisons.waiting()
        store.comparisons.judge(stored, Judged.LIVE)
        quoting = judgement(**{stored.question.hash: SECRET})
        store.runs.add_verdict(run_id, None, "base", quoting)
        assert SECRET.encode() in on_disk(tmp_path)
        with store.read() as reader:
            reader.exec_driver_sql("select count(*) from questions")
            doomed = store.forgetting.saying(lambda text: "0151 23456789" in text)
            assert (len(doomed.questions), len(doomed.probes)) == (1, 1)
            store.forgetting.purge(doomed)
        assert store.forgetting.give_back()
        assert b"0151 2345" not in on_disk(tmp_path)
        assert len(store.questions.page(1000)) == 30
    assert b"0151 2345" not in on_disk(tmp_path)


def test_only_runs_that_mention_a_question_are_read_when_it_is_forgotten(store):
    """Their number, not that of all runs, decides how long it takes."""
    ids = recorded(store, "a", "b", "c", "d")
    hashes = [store.questions.get(key).question.hash for key in ids]
    requests = [{"hashes": hashes[2:]}, *[{}] * 20]
    for number, request in enumerate(requests):
        run = store.runs.create(Trigger.OPERATOR, request)
        store.runs.end(run.id, RunState.NOTHING, "")
        quoting = judgement(**{hashes[number % 2]: SECRET})
        for _ in range(2):
            store.runs.add_verdict(run.id, None, "base", quoting)
    read = []

    def note(connection, cursor, statement, parameters, context, many):
        if "FROM verdicts" in statement or "FROM runs" in statement:
            read.append(statement)

    sa.event.listen(store.backend.engine, "before_cursor_execute", note)
    store.forgetting.delete([ids[3]])
    assert len(read) == 2, "its run, and that one's verdicts"
    assert store.runs.get(1).request == {"hashes": [hashes[2]]}
    assert store.runs.verdicts(1)[0].evidence.worst
    store.forgetting.delete([ids[0]])
    for run in store.runs.newest(30):
        for verdict in store.runs.verdicts(run.id):
            assert bool(verdict.evidence.worst) == (run.id % 2 == 0)
    read.clear()
    store.forgetting.delete([ids[0], ids[3]])
    assert read == [], "they are mentioned no more"
    with store.read() as connection:
        plan = connection.exec_driver_sql(
            "EXPLAIN QUERY PLAN SELECT run_id FROM mentions WHERE hash IN ('a', 'b')"
        ).all()
    assert [row.detail.split()[0] for row in plan] == ["SEARCH"]


@both_stores
def test_purged_text_is_found_wherever_it_stands(store):
    store.probes.add([Label(from_prompt("who?"), ("Ada Lovelace",), None, ("x",))])
    a = ask(store, "Ada's phone")
    found = store.forgetting.saying(lambda text: "Ada" in text)
    assert (found.questions, len(found.probes)) == ([a], 1)
    assert store.forgetting.purge(found).probes == 1
    assert store.probes.labelled() == []


@pytest.mark.fault(
    "questions are purged while a run learns from them",
    sees="the run is stopped; the live version answers",
    keeps="all other questions; nothing of that run serves",
)
@both_stores
def test_nothing_is_published_that_learned_from_what_was_forgotten_meanwhile(store):
    a, b = recorded(store, "a", "b")
    publish(store, "one", [b])
    run = store.runs.create(Trigger.OPERATOR, {"hashes": [from_prompt("a").hash]})
    store.runs.start(run.id, parent="one")
    assert store.forgetting.purge(Doomed([a])).run == run.id
    assert store.runs.get(run.id).state is RunState.ABORTED
    assert store.runs.get(run.id).request == {"hashes": []}
    vote(store, run.id, a)
    vote(store, run.id, b)
    assert store.votes.newest(a) == []
    assert len(store.votes.newest(b)) == 1
    with pytest.raises(Forgotten):
        publish(store, "two", [a, b], parent="one")
    store.forgetting.purge(Doomed([b]))
    with pytest.raises(Forgotten):
        publish(store, "three", [], parent="one")
    assert store.adapters.wanted().adapter is None


@both_stores
def test_old_questions_go_but_for_those_that_prove_a_version_or_were_judged(store):
    old = {text: ask(store, text, "me", days_ago=100) for text in ("a", "b", "c", "d")}
    held_out = ask(store, "e", days_ago=100, holdout=1)
    ask(store, "new")
    ask(store, "b")  # and again today
    publish(store, "one", [old["a"], old["c"]], pins=[old["c"]])
    run_id = ended(store)
    for key in (old["d"], held_out):
        pair = Pair(key, ProbeOrigin.RANDOM, Side("x", "x"), Side("y", "y"))
        store.comparisons.add(run_id, [pair])
    store.comparisons.judge(store.comparisons.waiting()[-1], Judged.LIVE)
    assert store.forgetting.expire(time.time() - 90 * DAY, None) == 2
    assert set(states(store)) == {"b", "c", "d", "new"}
    assert store.adapters.get("one").state is AdapterState.APPROVED, "age is no request to forget"
    doomed = Doomed(store.forgetting.asked_by("me"), client="me")
    publish(store, "two", [])
    assert store.forgetting.purge(doomed).adapters == ("one",)


@both_stores
def test_who_asked_what_expired_can_still_be_forgotten(store):
    a = ask(store, "a", "me", days_ago=100)
    publish(store, "one", [a])
    assert store.forgetting.expire(time.time() - DAY, None) == 1
    assert store.forgetting.asked_by("me") == []
    assert store.forgetting.purge(Doomed(client="other")).adapters == ()
    assert store.forgetting.purge(Doomed(client="me")).adapters == ("one",)


@both_stores
def test_too_many_questions_are_those_asked_longest_ago(store):
    for days in (5, 1, 4, 2, 3):
        ask(store, f"{days}", days_ago=days)
    ask(store, "held out", days_ago=9, holdout=1)
    assert store.forgetting.expire(None, 3) == 2
    assert set(states(store)) == {"1", "2", "3", "held out"}


def test_nothing_goes_by_age_while_a_run_may_need_it(store, tmp_path):
    ask(store, "a", days_ago=1000)
    publish(store, "one", [])
    publish(store, "two", [], created=2.0)
    store.adapters.want(None, author="operator", reason="")
    long_ago(store)
    run = store.runs.create(Trigger.OPERATOR, {})
    assert prune.run(Config(state_dir=tmp_path), store) == prune.Pruned()
    assert store.forgetting.expire(time.time(), None) == 0
    assert store.forgetting.retire(["one"]) == []
    store.runs.end(run.id, RunState.NOTHING, "")
    settings = Config(state_dir=tmp_path, keep={"adapters": 1})
    assert prune.run(settings, store) == prune.Pruned(questions=1, retired=("one",))


@both_stores
def test_details_of_old_runs_go_and_their_votes_stay(store, tmp_path):
    a = ask(store, "a")
    logs = tmp_path / "logs"
    logs.mkdir()
    for days in (100, 1):
        run_id = ended(store, days_ago=days)
        vote(store, run_id, a)
        store.runs.observe(run_id, "step", {})
        file = logs / f"run-{run_id}.log"
        file.write_text("")
        os.utime(file, (time.time() - days * DAY,) * 2)
    found = prune.run(Config(state_dir=tmp_path, keep={"runs_for": timedelta(days=30)}), store)
    assert (found.runs, found.logs) == (1, 1)
    new, old = store.votes.newest(a)
    assert len(store.votes.samples(new["id"])) == 1
    assert store.votes.samples(old["id"]) == []
    assert [each.run_id for each in store.runs.observed()] == [2]
    assert [file.name for file in logs.iterdir()] == ["run-2.log"]


def test_a_store_that_is_too_large_loses_samples_first(tmp_path):
    with Store.open(tmp_path) as store:
        keys = [ask(store, f"{number} " + "word " * 200) for number in range(60)]
        for _ in range(2):
            run_id = ended(store)
            for key in keys:
                vote(store, run_id, key)
        size = store.backend.size()
        assert store.forgetting.shrink(size) == 0
        assert store.forgetting.shrink(size * 3 // 4) == 0
        (newest, oldest) = store.votes.newest(keys[0])
        assert store.votes.samples(oldest["id"]) == []
        assert store.votes.samples(newest["id"])
        assert store.forgetting.shrink(0) == len(keys)
        assert store.questions.page(10) == []
        file = tmp_path / "store.sqlite"
        assert store.forgetting.give_back()
        assert file.stat().st_size < size // 4, "the room is the disk's again"


@pytest.mark.parametrize(
    ("newest", "needed", "retired"),
    [
        (9, set(), []),
        (2, set(), ["b", "a", "y", "x"]),
        (1, {"a"}, ["c", "b", "z", "y", "x"]),
        (1, {"a", "b", "c", "x", "y", "z"}, []),
    ],
)
def test_the_newest_versions_stay_and_those_that_are_needed(newest, needed, retired):
    approved = [replace(adapter(name), created=at) for at, name in enumerate("abcd")]
    held = [
        replace(adapter(name, state=AdapterState.HELD), created=at)
        for at, name in enumerate("xyzw")
    ]
    gone = [replace(adapter("old", state=AdapterState.RETIRED), created=99.0)]
    assert prune.to_retire([*gone, *approved, *held], needed, newest) == retired


@both_stores
def test_files_go_when_they_are_unloaded_and_nobody_is_to_get_them(store, tmp_path):
    root, config = tmp_path / "adapters", Config(state_dir=tmp_path, keep={"adapters": 1})
    a = ask(store, "a")
    for at, name in enumerate(("one", "two", "three", "four"), 1):
        publish(store, name, [a], created=float(at), pins=[a])
        (root / name).mkdir(parents=True)
    (root / "of-another-store").mkdir()
    store.adapters.served("four", "as wanted")
    long_ago(store)
    assert set(prune.run(config, store).retired) == {"one", "two"}
    removed = prune.remove_files(config, store, {"two", "three", "four"})
    assert removed == ["one"]
    assert store.adapters.pinned("one") == []
    assert store.adapters.pinned("two"), "it is still loaded"
    with pytest.raises(AdapterGone, match="retired"):
        store.adapters.want("one", author="operator", reason="")
    assert prune.remove_files(config, store, frozenset()) == ["two"]
    assert {each.name for each in root.iterdir()} == {"three", "four", "of-another-store"}
    store.forgetting.purge(Doomed([a]), keep_serving=True)
    assert prune.remove_files(config, store, frozenset()) == ["three"], "four serves on"
    remove(root, "four")


def test_the_size_of_a_store_elsewhere_is_not_ours_to_keep():
    with pytest.raises(ConfigError, match=r"keep\.questions"):
        load(None, overrides={"keep.bytes": "1GB", "store.url": "postgresql://user@host/db"})
    assert load(None, overrides={"keep.bytes": "1GB"}).config.keep.bytes == 10**9


@both_stores
def test_what_went_out_comes_in_again(store):
    for text, client in (("a", "me"), ("a", "other"), ("b", None)):
        ask(store, text, client, days_ago=3)
    out = list(store.questions.export())
    assert [(each.count, each.clients) for each in out] == [(2, ("me", "other")), (1, ())]
    store.forgetting.purge(Doomed([1, 2, 3]))
    assert store.questions.take_in(out, holdout=0) == 2
    assert store.questions.take_in(out, holdout=0) == 0
    assert list(store.questions.export()) == out
    assert not store.questions.sole_client()


def test_what_may_be_compared_with_in_a_week_stays(store):
    for name in ("one", "two", "three", "four"):
        publish(store, name, [])
    assert prune.needed(store) == {"one", "two", "three", "four"}
    long_ago(store)
    assert prune.needed(store) == {"three", "four"}, "the last, and the one before it"


def test_a_deleted_question_can_still_be_purged_by_its_key(store):
    a = ask(store, "a", "me")
    publish(store, "one", [a])
    store.forgetting.delete([a])
    doomed = Doomed(store.forgetting.asked_by("me"), client="me")
    assert store.forgetting.purge(doomed).adapters == ("one",)
