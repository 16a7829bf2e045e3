"""kill -9 of any process: the state before or the state after, and users are served again."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
from contextlib import closing, contextmanager

import numpy as np
import openai
import psutil
import pytest
from safetensors.numpy import load_file, save_file

from serve.state import owner_of
from tests.integration.daemon import (
    LIGHT,
    NOTHING,
    START_SECONDS,
    TTRL,
    Daemon,
    alive,
    both_engines,
    publish_random,
    record_questions,
    wait_until,
)
from tests.integration.light import weights
from ttrl.engine.parent_death import GRACE_SECONDS
from ttrl.store.runs import RunState, Trigger

pytestmark = [pytest.mark.crash, pytest.mark.timeout(240)]

PROMPT = "What is 417 plus 286?"


@pytest.fixture
def environ(engine_settings):
    """In the place of the embedded engine stands a light one, which dies and hangs as well."""
    return NOTHING if engine_settings else LIGHT


@pytest.fixture
def sources(request, tmp_path, environ):
    """Weights of two versions."""
    if not environ:
        return request.getfixturevalue("random_adapters")
    return weights(tmp_path)


@contextmanager
def training(folder, environ=NOTHING):
    """A daemon in the middle of an update, and its store."""
    state_dir = record_questions(folder / "state")
    settings = ("schedule.every=1s", "schedule.min_questions=20", "update.steps=500")
    with Daemon(state_dir, *settings, environ=environ) as daemon, daemon.store() as store:
        in_the_middle(store)
        yield daemon, store


def in_the_middle(store):
    run = wait_until(store.runs.active, "a run is started")
    wait_until(lambda: store.runs.get(run.id).steps > 1, "it is in the middle", 120)
    return run


@pytest.mark.fault(
    "the daemon is killed -9 in the middle of a run",
    sees="cut answers; refused until it is started again",
    keeps="everything; engine and run die with it, the run is marked as aborted",
)
def test_the_run_is_killed_and_then_the_daemon(tmp_path):
    with training(tmp_path) as (daemon, store):
        daemon.ttrl("pause")
        run = store.runs.active()
        daemon.kill(daemon.run_pid())
        assert daemon.ask(PROMPT)[1] == "base"
        wait_until(lambda: store.runs.get(run.id).state is RunState.FAILED, "it is marked")
        assert "killed" in store.runs.get(run.id).reason
        with daemon.engine() as engine:
            wait_until(lambda: len(engine.models()) == 1, "its candidate is cleared away")
        daemon.ttrl("resume")
        again = in_the_middle(store)
        assert again.id > run.id

        children, asked = [pid for pid, _ in daemon.children()], store.questions.counts()
        daemon.kill()
        wait_until(lambda: not any(map(alive, children)), "engine and run die with it", 30)
        daemon.start("--set", "schedule.every=null")
        ended = store.runs.get(again.id)
        assert (ended.state, store.runs.active()) == (RunState.ABORTED, None)
        assert "has exited" in ended.reason
        assert sum(store.questions.counts().values()) == sum(asked.values())
        assert store.adapters.all() == []
        assert daemon.ask(PROMPT)[1] == "base"


@pytest.mark.fault(
    "the daemon is killed -9 while its engine hangs, and with it a run",
    sees="cut answers; refused until it is started again",
    keeps="everything; engine and run are killed within seconds, the run is marked as aborted",
)
def test_the_daemon_is_killed_while_its_engine_hangs(tmp_path):
    with training(tmp_path, LIGHT) as (daemon, store):
        everybody = psutil.Process(daemon.child.pid).children(recursive=True)
        os.kill(daemon.engine_pid(), signal.SIGSTOP)
        run = store.runs.active()
        daemon.kill()
        soon = GRACE_SECONDS + 5
        wait_until(lambda: not any(alive(each.pid) for each in everybody), "nobody is left", soon)
        daemon.start("--set", "schedule.every=null")
        assert store.runs.get(run.id).state is RunState.ABORTED
        assert daemon.ask(PROMPT)[1] == "base"


def test_the_daemon_is_killed_while_it_serves(light):
    before = light.ask(PROMPT)
    with light.store() as store:
        wait_until(lambda: store.questions.times_asked() == 1, "it is recorded")
        light.kill()
        light.start()
        light.wait_live(light.versions[1])
        assert light.ask(PROMPT) == before
        wait_until(lambda: store.questions.times_asked() == 2, "and what was before is there")


def answers_until(daemon, last):
    """What users get until `last` is answered: refusals at first, of which they are told when to
    try again, and nothing but whole answers of versions that were live."""
    refusals, answers = [], []

    def asked_again():
        try:
            answers.append(daemon.ask(PROMPT))
        except openai.APIStatusError as error:
            refusals.append(error)
        return answers and answers[-1][1] == last

    wait_until(asked_again, f"{last} answers again, {answers}", START_SECONDS)
    assert refusals, "it was down for a while"
    assert {error.status_code for error in refusals} <= {502, 503}
    assert all(
        error.response.headers["retry-after"] for error in refusals if error.status_code == 503
    )
    assert daemon.metric("ttrl_engine_restarts_total") == 1
    return answers


@pytest.mark.fault(
    "the engine is killed -9",
    sees="cut answers, then 503 with Retry-After until another is up with the live version",
    keeps="everything",
)
@both_engines
def test_the_engine_is_killed(learned):
    """Users get an OpenAI-shaped 503 while no engine is up; then what was live is live again."""
    before = learned.ask(PROMPT)
    assert before[1] == learned.versions[1]
    learned.kill(learned.engine_pid())
    assert set(answers_until(learned, learned.versions[1])) == {before}


@pytest.mark.fault(
    "the engine is killed -9 while a run samples",
    sees="cut answers, then 503 with Retry-After until another is up",
    keeps="everything; the run goes on with the engine that comes up, no vote is half there",
)
@both_engines
def test_the_engine_is_killed_while_a_run_samples(learned, random_adapters, tmp_path):
    """The run asks again, without half a group; users get what was live before."""
    # Of random weights' answers no majority is left, and the run would soon end by itself.
    as_base = shutil.copytree(random_adapters[0], tmp_path / "as the base")
    tensors = load_file(as_base / "adapter_model.safetensors")
    zeros = {name: np.zeros_like(values) for name, values in tensors.items()}
    save_file(zeros, as_base / "adapter_model.safetensors")
    (live,) = publish_random(learned.state_dir, [as_base], first=3)
    learned.wait_live(live)
    before = learned.ask(PROMPT)
    assert before[1] == live
    record_questions(learned.state_dir)
    command = [*TTRL, "adapt", "--steps", "500", *learned.options]
    adapt = subprocess.Popen(command, stdout=subprocess.PIPE)
    with learned.store() as store, learned.engine() as engine:
        run = wait_until(store.runs.active, "a run is started")
        wait_until(lambda: voted(learned), "a draw is voted on", 120)
        wait_until(lambda: engine.load().running, "it asks for answers")
        learned.kill(learned.engine_pid())
        assert set(answers_until(learned, before[1])) == {before}
        votes = voted(learned)
        wait_until(lambda: voted(learned) > votes, "the run goes on", 120)
        learned.ttrl("runs", "stop")
        adapt.communicate(timeout=60)
        assert store.runs.get(run.id).state is RunState.ABORTED
        asked = {learned.versions[1], live}
        wait_until(
            lambda: {card.name for card in engine.models() if card.parent} == asked,
            "nothing else is loaded",
        )
    with closing(sqlite3.connect(learned.state_dir / "store.sqlite")) as database:
        groups = database.execute("SELECT count(*) FROM samples GROUP BY vote_id").fetchall()
    assert set(groups) == {(32,)}
    assert len(groups) == voted(learned)


def voted(daemon):
    with closing(sqlite3.connect(daemon.state_dir / "store.sqlite")) as database:
        return database.execute("SELECT count(*) FROM votes").fetchone()[0]


@pytest.mark.fault(
    "the engine is killed -9 while a version is loaded or goes live",
    sees="cut answers, then 503 with Retry-After until another is up",
    keeps="both versions; the wanted one serves in the end",
)
@both_engines
@pytest.mark.parametrize("moment", ["loading", "loaded"])
def test_the_engine_is_killed_in_a_swap(tmp_path, sources, engine_settings, environ, moment):
    """While it loads a version, or just as that goes live: users get the one before or after."""
    with Daemon(tmp_path / "state", *engine_settings, start=False, environ=environ) as daemon:
        (old,) = publish_random(daemon.state_dir, sources[:1])
        daemon.start()
        daemon.wait_live(old)
        before = daemon.ask(PROMPT)
        engine = daemon.engine_pid()
        (new,) = publish_random(daemon.state_dir, sources[1:], first=2)
        wait_until(lambda: f"{moment} {new}" in daemon.log, "the moment has come", pause=0)
        daemon.kill(engine)
        answers = set(answers_until(daemon, new))
        assert answers <= {before, daemon.ask(PROMPT)}
        assert daemon.metric("ttrl_live_adapter_is_wanted") == 1


@pytest.mark.fault(
    "the engine hangs, and still says that it is healthy",
    sees="503 with Retry-After from when it is noticed until another is up",
    keeps="everything",
)
@both_engines
def test_an_engine_that_hangs_is_started_again(tmp_path, engine_settings, environ):
    """Stopped, what generates neither dies nor answers; vLLM's API goes on saying that it is
    healthy."""
    settings = (*engine_settings, "engine.canary_timeout=5s")
    with Daemon(tmp_path / "state", *settings, environ=environ) as daemon:
        os.kill(daemon.generator_pid(), signal.SIGSTOP)
        restarted = "ttrl_engine_restarts_total"
        wait_until(lambda: daemon.metric(restarted) == 1, "it is noticed", START_SECONDS)
        wait_until(daemon.ready, "another one is there", START_SECONDS)
        assert daemon.ask(PROMPT)[1] == "base"
        assert "the engine hangs" in daemon.log


def test_the_demo_takes_its_daemon_with_it(tmp_path):
    state_dir = tmp_path / "state"
    state_dir.mkdir()
    demo = subprocess.Popen(
        [*TTRL, "demo", "--json", "--state-dir", str(state_dir)], stdout=subprocess.DEVNULL,
        env={**os.environ, **LIGHT},
    )  # fmt: skip
    owner = wait_until(lambda: owner_of(state_dir), "its daemon is up")
    demo.kill()
    assert demo.wait(10) == -signal.SIGKILL
    wait_until(lambda: not alive(owner.pid), "it is gone")


@pytest.mark.fault(
    "a run that was given up comes back",
    sees="nothing",
    keeps="the store as it is: the run cannot publish any more",
)
def test_a_dead_run_cannot_come_back(tmp_path):
    state_dir = record_questions(tmp_path / "state", 20)
    daemon = Daemon(state_dir, start=False, environ=LIGHT)
    with daemon.store() as store:
        run = store.runs.create(Trigger.SCHEDULE, {})
        store.runs.start(run.id, parent=None)
        with daemon:
            daemon.start()
            assert store.runs.get(run.id).state is RunState.ABORTED
        assert not store.runs.end(run.id, RunState.PUBLISHED, "too late", adapter="x")
