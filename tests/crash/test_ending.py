"""SIGTERM, once and twice: what is under way ends in order, or at once."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor

import openai
import psutil
import pytest

from serve.daemon.process import LAST_SECONDS
from serve.state import owner_of
from tests.crash.promises import keeps_its_promises
from tests.integration.daemon import LIGHT, Daemon, alive, record_questions, wait_until
from ttrl.store.runs import RunState

pytestmark = [pytest.mark.crash, pytest.mark.timeout(240)]

PROMPT = "What is 417 plus 286?"
LONG = ("update.steps=5000", "update.questions_per_step=2")


@pytest.mark.fault(
    "SIGTERM comes while a run is under way",
    sees="refused once answers under way have ended",
    keeps="all but the run, which is marked as aborted; exit status 0",
)
def test_sigterm_in_a_run(tmp_path):
    state_dir = record_questions(tmp_path / "state")
    with Daemon(state_dir, *LONG, environ=LIGHT) as daemon, daemon.store() as store:
        adapting = daemon.begin("adapt")
        run = wait_until(store.runs.active, "a run is started")
        wait_until(lambda: store.runs.get(run.id).steps > 0, "it is in the middle", 120)
        daemon.child.send_signal(signal.SIGTERM)
        assert daemon.child.wait(120) == 0
        adapting.communicate(timeout=60)
        assert adapting.returncode != 0
        assert store.runs.get(run.id).state.ended
        daemon.start()
        keeps_its_promises(daemon)


@pytest.mark.fault(
    "a second SIGTERM comes while answers of an engine that hangs are waited for",
    sees="cut answers, at once",
    keeps="everything; exit status 0",
)
def test_a_second_sigterm_ends_it_now(tmp_path):
    with (
        Daemon(tmp_path / "state", "gateway.drain_timeout=200s", environ=LIGHT) as daemon,
        ThreadPoolExecutor(1) as pool,
    ):
        pid = daemon.engine_pid()
        os.kill(pid, signal.SIGSTOP)  # so that what is asked never ends by itself
        answer = pool.submit(daemon.ask, PROMPT)
        wait_until(lambda: daemon.metric("ttrl_http_requests_in_flight") == 1, "it is asked")
        daemon.child.send_signal(signal.SIGTERM)
        wait_until(lambda: not daemon.ready(), "it takes no more requests")
        assert daemon.child.poll() is None, "it waits for the answer"
        daemon.child.send_signal(signal.SIGTERM)
        assert daemon.child.wait(LAST_SECONDS) == 0
        with pytest.raises(openai.APIConnectionError):
            answer.result()
        assert not alive(pid)
        assert "Traceback" not in daemon.log


@pytest.mark.fault(
    "a second SIGTERM comes while a run and an engine that hangs are waited for",
    sees="nothing",
    keeps="all but the run, which is marked as aborted; exit status 0",
)
def test_a_second_sigterm_does_not_wait_for_a_run(tmp_path):
    state_dir = record_questions(tmp_path / "state")
    with Daemon(state_dir, *LONG, environ=LIGHT) as daemon, daemon.store() as store:
        adapting = daemon.begin("adapt")
        run = wait_until(store.runs.active, "a run is started")
        wait_until(lambda: store.runs.get(run.id).steps > 0, "it is in the middle", 120)
        everybody = psutil.Process(daemon.child.pid).children(recursive=True)
        os.kill(daemon.engine_pid(), signal.SIGSTOP)
        daemon.child.send_signal(signal.SIGTERM)
        wait_until(lambda: owner_of(state_dir) and not daemon.ready(), "it takes no more requests")
        assert daemon.child.poll() is None, "it waits for the run"
        daemon.child.send_signal(signal.SIGTERM)
        assert daemon.child.wait(LAST_SECONDS) == 0
        adapting.communicate(timeout=60)
        assert adapting.returncode != 0
        assert store.runs.get(run.id).state is RunState.ABORTED
        wait_until(lambda: not any(alive(each.pid) for each in everybody), "nobody is left", 5)


@pytest.mark.fault(
    "SIGTERM comes to an adaptation without a daemon",
    sees="nothing",
    keeps="all but the run, which is marked as aborted; engine and run end before it does",
)
def test_sigterm_when_it_adapts_alone(tmp_path):
    state_dir = record_questions(tmp_path / "state")
    daemon = Daemon(state_dir, *LONG, start=False, environ=LIGHT)
    adapting = daemon.begin("adapt")
    with daemon.store() as store:
        run = wait_until(store.runs.active, "a run is started")
        wait_until(lambda: store.runs.get(run.id).started, "it is at work")
        everybody = psutil.Process(adapting.pid).children(recursive=True)
        adapting.terminate()
        assert "stopped by the operator" in adapting.communicate(timeout=60)[1]
        assert adapting.returncode == 1
        assert store.runs.get(run.id).state is RunState.ABORTED
        wait_until(lambda: not any(alive(each.pid) for each in everybody), "nobody is left", 1)
