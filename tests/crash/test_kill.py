"""kill -9 of any process: the state before or the state after, and users are served again."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import contextmanager

import psutil
import pytest

from serve.state import owner_of
from tests.crash.promises import answers_until
from tests.integration.daemon import (
    LIGHT,
    NOTHING,
    TTRL,
    Daemon,
    alive,
    publish_random,
    record_questions,
    wait_until,
)
from tests.integration.light import weights
from ttrl.engine.parent_death import GRACE_SECONDS
from ttrl.store.runs import RunState, Trigger

pytestmark = [pytest.mark.crash, pytest.mark.timeout(240)]

PROMPT = "What is 417 plus 286?"
FEW = ("update.questions_per_step=2", "update.keep=4", "vote.samples=8")
"""What a step samples and trains on: the next one is soon there."""


@contextmanager
def training(folder, environ=NOTHING):
    """A daemon in the middle of an update, and its store."""
    state_dir = record_questions(folder / "state")
    settings = (*FEW, "schedule.every=1s", "schedule.min_questions=20", "update.steps=500")
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


@pytest.mark.fault(
    "the engine is killed -9",
    sees="cut answers, then 503 with Retry-After until another is up with the live version",
    keeps="everything",
)
def test_the_engine_is_killed(light):
    """Users get an OpenAI-shaped 503 while no engine is up; then what was live is live again."""
    before = light.ask(PROMPT)
    assert before[1] == light.versions[1]
    light.kill(light.engine_pid())
    assert set(answers_until(light, light.versions[1], PROMPT)) == {before}


@pytest.mark.fault(
    "the engine is killed -9 while a version is loaded or goes live",
    sees="cut answers, then 503 with Retry-After until another is up",
    keeps="both versions; the wanted one serves in the end",
)
@pytest.mark.parametrize("moment", ["loading", "loaded"])
def test_the_engine_is_killed_in_a_swap(tmp_path, moment):
    """While it loads a version, or just as that goes live: users get the one before or after."""
    sources = weights(tmp_path)
    with Daemon(tmp_path / "state", start=False, environ=LIGHT) as daemon:
        (old,) = publish_random(daemon.state_dir, sources[:1])
        daemon.start()
        daemon.wait_live(old)
        before = daemon.ask(PROMPT)
        engine = daemon.engine_pid()
        (new,) = publish_random(daemon.state_dir, sources[1:], first=2)
        wait_until(lambda: f"{moment} {new}" in daemon.log, "the moment has come", pause=0)
        daemon.kill(engine)
        answers = set(answers_until(daemon, new, PROMPT))
        assert answers <= {before, daemon.ask(PROMPT)}
        assert daemon.metric("ttrl_live_adapter_is_wanted") == 1


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
