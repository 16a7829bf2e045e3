"""Questions in, a better model out: by the daemon, alone, and on the clock."""

from __future__ import annotations

import json
import random
import signal
import sqlite3
import subprocess
import time
from collections import Counter
from contextlib import closing

import pytest

from benchmarks.laboratory.mixtures import short_sum
from tests.command import ttrl
from tests.integration.daemon import (
    LIGHT,
    TTRL,
    Daemon,
    both_engines,
    record_questions,
    sets,
    wait_until,
)
from tests.judging import label_command
from ttrl.demo import make_disjoint, make_problems
from ttrl.events import read
from ttrl.questions.question import digest, from_prompt
from ttrl.store import Store
from ttrl.store.questions import QuestionState, Recorded
from ttrl.store.runs import RunState, Trigger

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]


@pytest.fixture
def question_file(tmp_path):
    path = tmp_path / "questions.jsonl"
    rows = [{"prompt": p.prompt, "answers": ["a trap"]} for p in make_problems(60, seed=9)]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A daemon on the real engine, for tests that leave it as it was."""
    with Daemon(tmp_path_factory.mktemp("shared") / "state") as started:
        yield started


@both_engines
def test_the_main_job_end_to_end(tmp_path, engine_settings):
    """A short demo: recorded, voted on, updated, judged, hot-loaded, and measurably better."""
    words = ["demo", "--json", "--held-out", "12", "--state-dir", str(tmp_path / "state")]
    words += sets("update.steps=8", *engine_settings)
    done = subprocess.run([*TTRL, *words], capture_output=True, text=True, timeout=800)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found["run"], found["questions"], found["steps"]) == ("published", 200, 8)
    assert found["adapter"].startswith("ttrl-")
    assert found["greedy_after"] > found["greedy_before"] + 0.2
    assert found["pass_at_1_after"] > found["pass_at_1_before"] + 0.05
    with Store.open(tmp_path / "state") as store:
        (run,) = store.runs.newest(5)
        assert run.samples == found["samples"] >= 8 * 8 * 32
        (row,) = store.adapters.all()
        steps = [seen for seen in store.runs.observed(run_id=run.id) if seen.kind == "step"]
        taught = set(store.adapters.question_ids(row.name))
        probes = {probe.id for probe in store.holdout.probes(1000)}
        assert len(taught) > 40
        assert not taught & probes, "a probe was trained on"
        assert store.runs.verdicts(run.id)[0].verdict == "sharper"
        votes = store.votes.newest(min(taught))
        assert sum(count for _, count in votes[0]["counts"]) <= 32
        pinned = store.adapters.pinned(row.name)
        assert len(pinned) == 8
        assert all(each.own != each.base for each in pinned)
    stale = [read(each).staleness for each in steps]
    assert stale == [0] + [1] * 7, "each step's questions are sampled while the one before trains"
    assert not list((tmp_path / "state" / "runs").iterdir()), "candidates are cleared away"
    log = (tmp_path / "state" / "demo-daemon.log").read_text()
    assert f"{row.name} is verified as served: proven" in log


def test_alone_on_a_file_of_questions(tmp_path, question_file):
    """No daemon: an engine is started for the run, and nothing is left behind."""
    settings = ("gate.ship=better", "gate.min_probes=4")
    alone = Daemon(tmp_path / "state", *settings, start=False, environ=LIGHT)
    done = alone.run("adapt", "--questions", str(question_file), "--steps", "2", "--json")
    run = json.loads(done.stdout)
    assert done.returncode == 4, "consensus alone does not ship where labels are asked for"
    assert run["state"] in ("held", "rejected")
    with alone.store() as store:
        assert store.adapters.wanted().adapter is None
        assert {row.state for row in store.adapters.all()} <= {"held"}
        assert store.questions.times_asked() == 60
    assert not (alone.state_dir / "owner.json").exists()


def test_a_vote_that_is_decided_is_asked_for_no_more(tmp_path):
    """What was drawn teaches all the same, where it is less than an update keeps as well."""
    state_dir = record_questions(tmp_path / "state")
    changes = ("vote.rounds=3", "vote.sure=0.8", "update.downsampling=first", "update.steps=3")
    with Daemon(state_dir, environ=LIGHT) as daemon, daemon.store() as store:
        run = json.loads(daemon.ttrl("adapt", "--json", *sets(*changes), code=None))
        assert run["steps"] == 3
        rows = {row.id: row for row in store.questions.page(1000)}
        votes = [vote for key in rows for vote in store.votes.newest(key)]
        assert {vote["stop"] for vote in votes} <= {"all", "decided"}
        decided = [vote for vote in votes if vote["stop"] == "decided"]
        states = {rows[vote["question_id"]].state for vote in decided}
        assert QuestionState.LEARNED_FROM in states
        saved = 32 * len(votes) - run["samples"]
        assert saved >= 16 * len(decided)
        wait_until(lambda: daemon.metric("ttrl_samples_saved_total") == saved, "it is counted")
    with closing(sqlite3.connect(state_dir / "store.sqlite")) as database:
        kept = database.execute("select distinct position from samples where kept").fetchall()
    assert sorted(kept) == [(position,) for position in range(16)]


def test_a_run_on_the_clock_is_stopped_by_hand_and_one_by_hand_by_an_interrupt(tmp_path):
    state_dir = record_questions(tmp_path / "state")
    settings = ("schedule.every=1s", "schedule.min_questions=20", "update.steps=5000")
    with Daemon(state_dir, *settings, environ=LIGHT) as daemon, daemon.store() as store:
        run = wait_until(store.runs.active, "the schedule starts a run")
        assert run.trigger is Trigger.SCHEDULE
        wait_until(lambda: store.runs.get(run.id).steps > 0, "a step is done", 120)
        assert daemon.ask("What is 1 plus 1?")[1] == "base", "users are served meanwhile"
        assert "already in progress" in daemon_error(daemon, "adapt")
        daemon.ttrl("pause")
        assert "Stopped" in daemon.ttrl("runs", "stop")
        ended = store.runs.get(run.id)
        assert (ended.state, ended.reason) == (RunState.ABORTED, "the run was stopped")
        assert daemon.status()["paused"] is True
        assert daemon.metric("ttrl_update_steps_total") >= 1
        assert daemon.metric('ttrl_runs_total{state="aborted"}') == 1

        child = daemon.begin("adapt")
        run = wait_until(store.runs.active, "a run is started")
        wait_until(lambda: store.runs.get(run.id).started, "its process is at work")
        child.send_signal(signal.SIGINT)
        child.communicate(timeout=60)
        assert child.returncode != 0
        wait_until(lambda: store.runs.get(run.id).state is RunState.ABORTED, "it is stopped")
        assert daemon.ask("What is 1 plus 1?")[1] == "base"


def test_sampling_gives_way_to_users(tmp_path):
    """While users fill the engine a run asks for less, and then for nothing; then it goes on."""
    state_dir = record_questions(tmp_path / "state", 400)
    settings = (
        "update.steps=5000", "update.keep=4", "vote.in_flight=4", "vote.pause_waiting=16",
    )  # fmt: skip
    waiting = tmp_path / "waiting"

    def busy(answers):
        (tmp_path / "next").write_text(str(answers))
        (tmp_path / "next").replace(waiting)

    busy(16)
    environ = LIGHT | {"TEST_LIGHT_WAITING": str(waiting)}
    with Daemon(state_dir, *settings, environ=environ) as daemon, daemon.store() as store:
        child = daemon.begin("adapt")
        run = wait_until(store.runs.active, "a run is started")

        def seen(kind, after=0):
            found = store.runs.observed(after=after, run_id=run.id)
            return [one for one in found if one.kind == kind]

        pause = wait_until(lambda: seen("pause"), "it pauses for users", 120)[0]
        assert read(pause).waiting >= 16
        busy(1)
        wait_until(lambda: seen("resume", pause.id), "it goes on")
        step = wait_until(lambda: seen("step", pause.id), "the step is done")[0]
        assert 0 < read(step).in_flight_limit < 4
        assert read(step).paused_seconds > 0
        wait_until(lambda: daemon.metric("ttrl_sampling_paused_seconds_total"), "it is counted")
        busy(16)
        wait_until(lambda: seen("pause", step.id), "it pauses once more")
        assert not store.runs.get(run.id).stale(time.time())
        assert "Stopped" in daemon.ttrl("runs", "stop"), "its requests hold it up"
        ended = store.runs.get(run.id)
        assert (ended.state, ended.reason) == (RunState.ABORTED, "the run was stopped")
        said = child.communicate(timeout=60)[1]
    assert "waiting in the engine" in said
    assert "resuming after" in said


def test_a_run_of_a_daemon_goes_by_its_settings(tmp_path, question_file):
    """But for those that the command line changes for it."""
    with Daemon(tmp_path / "state", "update.steps=3", "gate.ship=better", environ=LIGHT) as daemon:
        bare = ["--state-dir", str(daemon.state_dir), "--json"]
        asked = ["--questions", str(question_file)]
        plan = json.loads(ttrl("adapt", "--dry-run", *asked, *bare).stdout)
        assert (plan["steps"], plan["ships_if"], plan["min_probes"]) == (3, "better", 16)
        assert plan["tokens_at_most"] == (plan["samples"] + plan["probe_samples"]) * 96
        recipe = ["--set", "recipe=mathematics", *asked]
        by_recipe = json.loads(ttrl("adapt", "--dry-run", *recipe, *bare).stdout)
        assert by_recipe["samples"] == plan["samples"] * 2, "64 of each question"
        few = ("vote.samples=8", "update.keep=4", "selection.max_questions=8")
        changes = sets(*few, "update.max_tokens=100")
        run = json.loads(ttrl("adapt", *asked, *changes, *bare, code=4).stdout)
        assert (run["steps"], run["tokens"] >= 100) == (1, True)
        assert "after 1 of 3 steps: update.max_tokens was reached" in run["reason"]
        assert run["samples"] % 8 == 0
        assert run["samples"] <= 8 * 8 * 4
        said = ttrl("adapt", "--model", "other", *bare, code=2).stderr
        assert "model.name is set by the running daemon" in said
        assert "unknown setting" in ttrl("adapt", "--set", "vote.sample=1", *bare, code=2).stderr


def test_labels_certify_and_are_never_learned_from(tmp_path):
    """Somebody asks the labelled questions as well, in other letters: no update has them."""
    state_dir = record_questions(tmp_path / "state", 80)
    problems, path = make_problems(60, seed=21), tmp_path / "probes.jsonl"
    rows = [{"prompt": problem.prompt, "answers": [problem.answer]} for problem in problems]
    path.write_text("\n".join(map(json.dumps, rows)))
    with (
        Daemon(state_dir, "gate.ship=better", "update.steps=12", environ=LIGHT) as daemon,
        daemon.store() as store,
    ):
        daemon.ttrl("probes", "add", str(path))
        shouted = [from_prompt(f" {problem.prompt.upper()}  ") for problem in problems]
        store.questions.record([Recorded(question, 2.0) for question in shouted], holdout=0)
        run = json.loads(daemon.ttrl("adapt", "--json"))
        assert run["state"] == "published", run["reason"]
        assert run["reason"].startswith("better: labelled probes")
        daemon.wait_live(run["adapter"])
        (verdict,) = store.runs.verdicts(run["id"])
        certainty = verdict.evidence.certainty
        assert certainty.e >= certainty.threshold == 52
        assert f"proven by {certainty.labels} labels" in daemon.ttrl("runs", "show", str(run["id"]))
        labelled = {question.hash for question in shouted}
        taught = set(store.adapters.question_ids(run["adapter"]))
        rows = store.questions.page(1000)
        assert taught
        assert not {row.question.hash for row in rows if row.id in taught} & labelled
        states = {row.question.hash: row.state for row in rows}
        assert {states[each] for each in labelled} == {QuestionState.LIKE_PROBE}
        assert {probe.exposures for probe in store.probes.labelled()} == {1}


def record(store, problems, *, holdout):
    asked = [Recorded(from_prompt(problem.prompt), 1.0) for problem in problems]
    store.questions.record(asked, holdout=holdout)


def test_where_versions_disagree_an_operator_judges_and_the_next_gate_knows(tmp_path):
    first, second = make_disjoint(80, 20, seed=7)
    answers = {from_prompt(problem.prompt).hash: problem.answer for problem in first + second}
    settings = ("update.steps=2", "gate.random_labels=1", "gate.probes=40", "gate.samples=8")
    with Daemon(tmp_path / "state", *settings, environ=LIGHT) as daemon, daemon.store() as store:
        label = label_command(daemon.state_dir)
        record(store, first[:40], holdout=0)
        record(store, first[40:], holdout=1)
        daemon.ttrl("adapt", code=None)
        waiting = json.loads(label("--list", "--json"))
        origins = Counter(row["origin"] for row in waiting)
        assert origins["random"] == 1
        assert origins["disagreement"] >= 1
        for row in waiting:
            right = answers[digest(row["body"])]
            words = next((w for w in ("a", "b") if row[w]["answer"] == right), "neither")
            more = ("--answer", right) if words == "neither" else ()
            label("--judge", str(row["id"]), words, *more)
        assert "every pair has been judged" in label()
        labelled = {probe.question.hash: probe.accepted for probe in store.probes.labelled()}
        assert labelled == {digest(row["body"]): (answers[digest(row["body"])],) for row in waiting}
        record(store, second, holdout=0)
        run = json.loads(daemon.ttrl("adapt", "--steps", "1", "--json", code=None))
        (verdict,) = store.runs.verdicts(run["id"])
        assert verdict.evidence.labelled == len(waiting)
        threshold = verdict.evidence.certainty.threshold
        assert threshold == pytest.approx(104, rel=1e-3), "the first gate's were judged by hand"
        assert {probe.exposures for probe in store.probes.labelled()} == {1}
        seen = {row.id: row.exposures for row in store.holdout.probes()}
        assert set(seen.values()) == {1, 2}, "what has a label is asked as such only"


def test_assess_says_why_the_engine_refuses(shared, question_file):
    said = daemon_error(shared, "assess", str(question_file), "--set", "vote.max_tokens=5000")
    assert "answered 400" in said


def test_assess_trains_and_records_nothing(shared, question_file):
    with shared.store() as store:
        before = store.questions.times_asked()
        found = json.loads(shared.ttrl("assess", str(question_file), "--limit", "16", "--json"))
        assert (found["questions"], found["asked"]) == (60, 16)
        assert found["teachable"] + found["unanimous"] + found["no_label"] == pytest.approx(1)
        assert (found["labelled"], found["majority_right"]) == (16, 0.0), "by the trap"
        assert not found["worth_it"]
        assert found["why_not"]
        assert store.questions.times_asked() == before
        assert store.runs.newest() == []


def test_checks_outrank_the_vote(shared, tmp_path):
    """The model is sure of a wrong answer to the first ones, and seldom right about the others."""
    rng = random.Random(3)
    asked = [short_sum(rng).prompt for _ in range(6)]
    asked += [f"What is {rng.randint(300, 600)} plus {rng.randint(300, 400)}?" for _ in range(12)]
    file = tmp_path / "sums.jsonl"
    file.write_text("\n".join(json.dumps({"prompt": prompt}) for prompt in asked))
    checked = ("--set", 'verify.checks={"arithmetic": ""}')
    plain, found = (
        json.loads(shared.ttrl("assess", str(file), "--json", *words)) for words in ((), checked)
    )
    assert not {"verified", "refuted"} & plain["layers"].keys()
    assert found["layers"]["verified"] > 0
    assert found["layers"]["refuted"] > found["layers"]["verified"]
    assert found["no_label_reasons"]["refuted"], "no wrong majority is a label"
    assert "refuted" not in plain["no_label_reasons"]


def test_labels_tell_which_checks_mislead(tmp_path):
    """Here labels are wrong by one, so that what is right about sums is wrong about them."""
    rng = random.Random(4)
    sums = [(rng.randint(100, 999), rng.randint(100, 999)) for _ in range(80)]
    rows = [{"prompt": f"What is {a} plus {b}?", "answers": [str(a + b + 1)]} for a, b in sums]
    probes, asked = tmp_path / "probes.jsonl", tmp_path / "asked.jsonl"
    probes.write_text("\n".join(map(json.dumps, rows[:40])))
    asked.write_text("\n".join(json.dumps({"prompt": row["prompt"]}) for row in rows[40:]))
    checks = 'verify.checks={"arithmetic": ""}'
    settings = ("update.steps=2", "vote.only_reliable=false", checks)
    with Daemon(tmp_path / "state", *settings, environ=LIGHT) as daemon:
        daemon.ttrl("probes", "add", str(probes))
        measured = json.loads(daemon.ttrl("measure", "--json"))["signals"]["checks"]["arithmetic"]
        assert (measured["labels"], measured["high"] < 0.5) == (40, True)
        assert "runs leave it out" in daemon.ttrl("status")
        daemon.ttrl("adapt", "--questions", str(asked), code=None)
        (run,) = json.loads(daemon.ttrl("runs", "list", "--json"))
        assert "labels show that they are often wrong: arithmetic" in run["reason"]
        with daemon.store() as store:
            assert not {"verified", "refuted"} & store.votes.layers(run["id"]).keys()


def daemon_error(daemon, *words):
    return ttrl(*words, *daemon.options, code=1).stderr
