"""What the store says of a run whose process ends, by itself or because it is told to."""

from __future__ import annotations

import asyncio
import sys

import pytest

from serve.daemon import process as child_process
from serve.daemon import runs
from serve.daemon.runs import RunKeeper
from tests.house import until
from ttrl.config import Config
from ttrl.metrics import Metrics
from ttrl.store.runs import RunBusy, RunState, Trigger

DEAF = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); print(flush=True); "
CRASHES_WHEN_TOLD = """
import signal, time
def stop(*_): raise ImportError("in the midst of an import")
signal.signal(signal.SIGINT, stop)
print(flush=True)
"""


@pytest.fixture
def program(monkeypatch):
    """What runs in place of a run; it has begun when it has written a line."""
    chosen = []

    async def spawn(*_):
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", chosen[0], stdout=-1, stderr=asyncio.subprocess.DEVNULL
        )
        assert child.stdout is not None
        await child.stdout.readline()
        return child

    monkeypatch.setattr(runs, "spawn", spawn)
    monkeypatch.setattr(runs, "STOP_SECONDS", 0.2)
    return chosen.append


@pytest.mark.integration
def test_a_package_in_the_current_directory_is_not_taken_for_ours(tmp_path, monkeypatch):
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "__init__.py").write_text("print('theirs')")
    (tmp_path / "jobs" / "prune.py").write_text("print('theirs')")
    monkeypatch.chdir(tmp_path)
    assert output(tmp_path, "jobs.prune") == ""


def test_no_library_tells_others_that_we_train(tmp_path, monkeypatch):
    monkeypatch.delenv("DO_NOT_TRACK", raising=False)
    program = "from huggingface_hub import constants; print(constants.HF_HUB_DISABLE_TELEMETRY)"
    assert output(tmp_path, "timeit", "-n1", "-r1", program).startswith("True\n")


def output(folder, job, *arguments):
    log = folder / "logs" / "child.log"

    async def once():
        child = await child_process.spawn(job, arguments, Config(state_dir=folder), log)
        return await child.wait()

    assert asyncio.run(once()) == 0, log.read_text()
    return log.read_text()


async def run(store, folder, *, stop):
    keeper = RunKeeper(Config(state_dir=folder), store, "http://127.0.0.1:1", Metrics())
    await keeper.start(Trigger.OPERATOR, {})
    if stop:
        assert await keeper.stop()
    await keeper.wait()
    assert not await keeper.stop(), "there is none"
    return store.runs.newest(1)[0]


@pytest.mark.parametrize("text", [f"{DEAF}time.sleep(60)", f"{CRASHES_WHEN_TOLD}time.sleep(60)"])
def test_one_that_is_stopped_was_stopped_however_it_ends(store, tmp_path, program, text):
    program(text)
    ended = asyncio.run(run(store, tmp_path, stop=True))
    assert (ended.state, ended.reason) == (RunState.ABORTED, "the run was stopped")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("print(); raise SystemExit(3)", "its process exited with status 3; see "),
        ("print(flush=True); import os; os.kill(os.getpid(), 9)", "its process was killed"),
        ("print(flush=True); import os; os.kill(os.getpid(), 15)", "was terminated by SIGTERM"),
    ],
)
def test_one_that_ends_by_itself_has_failed(store, tmp_path, program, text, reason):
    program(text)
    ended = asyncio.run(run(store, tmp_path, stop=False))
    assert ended.state is RunState.FAILED
    assert reason in ended.reason


def test_of_two_started_at_once_the_second_is_refused(store, tmp_path, program):
    """It does not take the first, whose process nobody watches yet, for dead."""
    program("print(flush=True); import time; time.sleep(60)")

    async def start_two():
        keeper = RunKeeper(Config(state_dir=tmp_path), store, "http://127.0.0.1:1", Metrics())
        first = asyncio.create_task(keeper.start(Trigger.OPERATOR, {}))
        await asyncio.to_thread(until, store.runs.active, "the first is written down")
        assert not first.done(), "its process is being started"
        with pytest.raises(RunBusy):
            await keeper.start(Trigger.OPERATOR, {})
        assert store.runs.active() == await first
        assert await keeper.stop()

    asyncio.run(start_two())
    assert len(store.runs.newest(5)) == 1
