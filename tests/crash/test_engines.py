"""What users notice of swaps, of their engine's death and of one that hangs: ours, and a real vLLM.

One daemon for each engine, since a vLLM takes its time to start."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import threading
from contextlib import closing

import numpy as np
import openai
import pytest
from safetensors.numpy import load_file, save_file

from tests.crash.promises import answers_until
from tests.integration.daemon import (
    START_SECONDS,
    Daemon,
    both_engines,
    publish_random,
    record_questions,
    sets,
    wait_until,
)
from ttrl.store.runs import RunState

pytestmark = [pytest.mark.crash, pytest.mark.timeout(300), both_engines]

PROMPT = "What is 417 plus 286?"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory, random_adapters, engine_settings):
    """One with two versions published; `versions` names them, the second is live at first."""
    state_dir = tmp_path_factory.mktemp("both") / "state"
    settings = (*engine_settings, "engine.canary_timeout=20s")
    with Daemon(state_dir, *settings, start=False) as daemon:
        daemon.versions = publish_random(state_dir, random_adapters)
        daemon.start()
        daemon.wait_live(daemon.versions[1])
        yield daemon


def test_swaps_and_roll_backs_under_traffic(daemon):
    """No request fails, and the header never names another version than the one that answered."""
    first, second = daemon.versions[:2]
    expected = {second: daemon.ask(PROMPT)[0]}
    daemon.ttrl("adapters", "promote", first)
    expected[first] = daemon.ask(PROMPT)[0]
    daemon.ttrl("adapters", "promote", "base")
    expected["base"] = daemon.ask(PROMPT)[0]
    assert len(set(expected.values())) == 3, (
        "the versions must differ for this test to say anything"
    )

    done, seen, failures = threading.Event(), [], []

    def keep_asking():
        while not done.is_set():
            try:
                seen.append(daemon.ask(PROMPT))
            except openai.OpenAIError as error:
                failures.append(error)

    askers = [threading.Thread(target=keep_asking) for _ in range(8)]
    for asker in askers:
        asker.start()
    for version in (first, second, first, second):
        daemon.ttrl("adapters", "promote", version)
    daemon.ttrl("adapters", "rollback")
    wait_until(lambda: (expected[first], first) in seen[-20:], "the roll-back is seen")
    done.set()
    for asker in askers:
        asker.join(30)
    assert failures == []
    assert {version for _, version in seen} >= {first, second}
    assert [pair for pair in seen if expected[pair[1]] != pair[0]] == []
    assert daemon.metric("ttrl_live_adapter_is_wanted") == 1


@pytest.mark.fault(
    "the engine is killed -9 while a run samples",
    sees="cut answers, then 503 with Retry-After until another is up",
    keeps="everything; the run goes on with the engine that comes up, no vote is half there",
)
def test_the_engine_is_killed_while_a_run_samples(daemon, random_adapters, tmp_path):
    """The run asks again, without half a group; users get what was live before."""
    # Of random weights' answers no majority is left, and the run would soon end by itself.
    as_base = shutil.copytree(random_adapters[0], tmp_path / "as the base")
    tensors = load_file(as_base / "adapter_model.safetensors")
    zeros = {name: np.zeros_like(values) for name, values in tensors.items()}
    save_file(zeros, as_base / "adapter_model.safetensors")
    (live,) = publish_random(daemon.state_dir, [as_base], first=3)
    daemon.wait_live(live)
    before = daemon.ask(PROMPT)
    assert before[1] == live
    record_questions(daemon.state_dir)
    few = sets("update.questions_per_step=2", "update.keep=4", "vote.samples=8")
    adapt = daemon.begin("adapt", "--steps", "500", *few)
    with daemon.store() as store, daemon.engine() as engine:
        run = wait_until(store.runs.active, "a run is started")
        wait_until(lambda: voted(daemon), "a draw is voted on", 120)
        wait_until(lambda: engine.load().running, "it asks for answers")
        daemon.kill(daemon.engine_pid())
        assert set(answers_until(daemon, before[1], PROMPT)) == {before}
        votes = voted(daemon)
        wait_until(lambda: voted(daemon) > votes, "the run goes on", 120)
        daemon.ttrl("runs", "stop")
        adapt.communicate(timeout=60)
        assert store.runs.get(run.id).state is RunState.ABORTED
        asked = {store.adapters.previous(), live}
        wait_until(
            lambda: {card.name for card in engine.models() if card.parent} == asked,
            "nothing else is loaded",
        )
    with closing(sqlite3.connect(daemon.state_dir / "store.sqlite")) as database:
        groups = database.execute("SELECT count(*) FROM samples GROUP BY vote_id").fetchall()
    assert set(groups) == {(8,)}
    assert len(groups) == voted(daemon)


def voted(daemon):
    with closing(sqlite3.connect(daemon.state_dir / "store.sqlite")) as database:
        return database.execute("SELECT count(*) FROM votes").fetchone()[0]


@pytest.mark.fault(
    "the engine hangs, and still says that it is healthy",
    sees="503 with Retry-After from when it is noticed until another is up",
    keeps="everything",
)
def test_an_engine_that_hangs_is_started_again(daemon):
    """Stopped, what generates neither dies nor answers; vLLM's API goes on saying that it is
    healthy."""
    restarts = daemon.metric("ttrl_engine_restarts_total")
    os.kill(daemon.generator_pid(), signal.SIGSTOP)
    after = restarts + 1
    wait_until(
        lambda: daemon.metric("ttrl_engine_restarts_total") == after, "it is noticed", START_SECONDS
    )
    wait_until(daemon.ready, "another one is there", START_SECONDS)
    assert daemon.ask(PROMPT)[1] == daemon.admin("status")["live"]
    assert "the engine hangs" in daemon.log
