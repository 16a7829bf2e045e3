"""kill -9 at each named point (ttrl.faults): the state before or the state after, never between."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import openai
import pytest
import sqlalchemy as sa

from tests.crash.promises import keeps_its_promises
from tests.integration.daemon import (
    TTRL,
    Daemon,
    alive,
    publish_random,
    wait_until,
)
from tests.quick.test_forgetting import on_disk
from tests.quick.test_migrations import ROWS
from ttrl import adapters
from ttrl.demo.questions import make_problems
from ttrl.faults import VARIABLE, Kind, Point
from ttrl.questions import from_prompt
from ttrl.store import Store, copies, revisions
from ttrl.store.adapters import AdapterState
from ttrl.store.database import Database
from ttrl.store.questions import Recorded
from ttrl.store.runs import RunState

pytestmark = [pytest.mark.crash, pytest.mark.timeout(240)]

PROMPT = "What is 417 plus 286?"

SHORT = (
    "update.steps=1", "update.questions_per_step=2", "update.keep=4", "vote.samples=16",
    "gate.kl_base=100", "gate.kl_live=100",
)  # fmt: skip
"""A run of seconds, whose candidate is held: nothing is there to judge it by."""

RECORDING = (Point.RECORDING, Point.RECORDED)
STARTING = (Point.QUEUED, Point.SPAWNED)
RUNNING = (
    Point.CLAIMED, Point.SELECTED, Point.SAVED, Point.DEPLOYED, Point.SAMPLED, Point.VOTING,
    Point.VOTED, Point.STEPPED, Point.JUDGED, Point.STAGED, Point.PLACED, Point.PUBLISHING,
    Point.PUBLISHED, Point.ENDED,
)  # fmt: skip
SWAPPING = (
    Point.LOADING, Point.LOADED, Point.PROVEN, Point.FLIPPED, Point.SERVED, Point.UNLOADED,
)  # fmt: skip
ROLLING_BACK = (Point.ROLLING_BACK, Point.ROLLED_BACK)
PURGING = (Point.PURGING, Point.PURGED, Point.DROPPED)
PRUNING = (Point.PRUNING,)
MIGRATING = (Point.MIGRATING, Point.MIGRATED)


def test_every_point_is_one_at_which_something_is_killed():
    tried = RECORDING + STARTING + RUNNING + SWAPPING + ROLLING_BACK
    tried += PURGING + PRUNING + MIGRATING
    assert sorted(tried) == sorted(Point)


@pytest.fixture
def kill_at(monkeypatch):
    """Kills what is started from now on when it comes to a point."""

    def kill_at(point, times=1):
        monkeypatch.setenv(VARIABLE, f"{Kind.KILL}@{point}:{times}")

    return kill_at


@pytest.fixture
def spare(monkeypatch):
    """Kills nothing that is started from now on."""
    return lambda: monkeypatch.delenv(VARIABLE)


@pytest.fixture
def state_dir(tmp_path):
    """With questions to learn from, none of them held out."""
    with Store.open(tmp_path) as store:
        asked = [Recorded(from_prompt(each.prompt), 1.0) for each in make_problems(40, seed=5)]
        store.questions.record(asked, holdout=0)
    return tmp_path


def dies(daemon, children):
    """Waits until the daemon was killed, and all that it had started is gone."""
    assert daemon.child.wait(60) == -signal.SIGKILL
    wait_until(lambda: not any(alive(pid) for pid, _ in children), "its engine dies with it", 30)
    wait_until(lambda: not any(writes_to(daemon.state_dir)), "its run dies with it", 30)


def writes_to(folder):
    """Of each process, whether what it prints goes to a file in there."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            yield (process / "fd" / "1").readlink().is_relative_to(folder / "logs")


def adapts(daemon):
    """Another run comes to its end."""
    daemon.ttrl("adapt", code=None)
    with daemon.store() as store:
        run = store.runs.newest()[0]
    assert run.state is RunState.HELD, run.reason


@pytest.mark.fault(
    "the daemon is killed -9 while it writes questions",
    sees="cut answers; refused until it is started again",
    keeps="every question that was committed, once",
)
@pytest.mark.parametrize("point", RECORDING)
def test_while_questions_are_recorded(tmp_path, kill_at, spare, point):
    kill_at(point)
    with Daemon(tmp_path / "state") as daemon, daemon.store() as store:
        children = daemon.children()
        with suppress(openai.APIConnectionError):
            daemon.ask(PROMPT)
        dies(daemon, children)
        assert store.questions.times_asked() == (point is Point.RECORDED)
        spare()
        daemon.start()
        daemon.ask(PROMPT)
        times = 1 + (point is Point.RECORDED)
        wait_until(lambda: store.questions.times_asked() == times, "the next one is recorded")
        keeps_its_promises(daemon)


@pytest.mark.fault(
    "the daemon is killed -9 as it starts a run",
    sees="refused until it is started again",
    keeps="all that was there; the run is marked as aborted, and the next one learns",
)
@pytest.mark.parametrize("point", STARTING)
def test_as_a_run_begins(state_dir, kill_at, spare, point):
    kill_at(point)
    with Daemon(state_dir, *SHORT) as daemon, daemon.store() as store:
        children = daemon.children()
        daemon.ttrl("adapt", code=1)
        dies(daemon, children)
        spare()
        daemon.start()
        (run,) = store.runs.newest(5)
        assert (run.state, run.reason) == (RunState.ABORTED, "the process that owned it died")
        keeps_its_promises(daemon)
        adapts(daemon)


@pytest.mark.fault(
    "a run is killed -9, at any of its stages",
    sees="nothing",
    keeps="what was published; else all is as before the run, which is marked as failed",
)
@pytest.mark.parametrize("point", RUNNING)
def test_in_a_run(state_dir, kill_at, point):
    kill_at(point)
    with Daemon(state_dir, *SHORT) as daemon, daemon.store() as store:
        daemon.ttrl("adapt", code=None)
        assert daemon.ask(PROMPT)[1] in ("base", *(row.name for row in store.adapters.all()))
        (run,) = store.runs.newest(5)
        wait_until(lambda: "its process ended with status -9" in daemon.log, "it was killed")
        published = point in (Point.PUBLISHED, Point.ENDED)
        assert len(store.adapters.all()) == published
        if published:
            assert run.state is RunState.HELD
            assert [row.name for row in store.adapters.all()] == [run.adapter]
        else:
            assert (run.state, run.adapter) == (RunState.FAILED, None)
            assert "killed" in run.reason
        keeps_its_promises(daemon)


@pytest.mark.fault(
    "the daemon is killed -9 in the midst of a swap",
    sees="refused until it is started again, then answered by the version that is wanted",
    keeps="both versions, and which one is wanted",
)
@pytest.mark.parametrize("point", SWAPPING)
def test_in_a_swap(tmp_path, kill_at, spare, random_adapters, point):
    kill_at(point, 1 if point is Point.UNLOADED else 2)
    with Daemon(tmp_path / "state", start=False) as daemon:
        (first,) = publish_random(daemon.state_dir, random_adapters[:1])
        daemon.start()
        daemon.wait_live(first)
        before, children = daemon.ask(PROMPT), daemon.children()
        (second,) = publish_random(daemon.state_dir, random_adapters[1:], first=2)
        if point is Point.UNLOADED:
            daemon.wait_live(second)
            (second,) = publish_random(daemon.state_dir, random_adapters[:1], first=3)
        dies(daemon, children)
        spare()
        daemon.start()
        daemon.wait_live(second)
        keeps_its_promises(daemon)
        after = daemon.ask(PROMPT)
        assert after[1] == second
        assert (after[0] == before[0]) == (point is Point.UNLOADED), "which has the first's weights"


@pytest.mark.fault(
    "what rolls a version back is killed -9",
    sees="nothing: the version before the roll-back, or the one after it",
    keeps="both versions; the one taken back is marked as such, or still wanted",
)
@pytest.mark.parametrize("point", ROLLING_BACK)
def test_in_a_roll_back(learned, kill_at, point):
    first, second = learned.versions
    kill_at(point)
    assert learned.ttrl("adapters", "rollback", code=-signal.SIGKILL) == ""
    done = point is Point.ROLLED_BACK
    learned.wait_live(first if done else second)
    assert learned.ask(PROMPT)[1] == (first if done else second)
    with learned.store() as store:
        state = AdapterState.ROLLED_BACK if done else AdapterState.APPROVED
        assert store.adapters.get(second).state is state
    keeps_its_promises(learned)


@pytest.mark.fault(
    "what purges questions is killed -9",
    sees="nothing",
    keeps="all other questions; the same command, given again, leaves nothing of the purged ones",
)
@pytest.mark.parametrize("point", PURGING)
def test_in_a_purge(state_dir, kill_at, spare, random_adapters, point):
    with Store.open(state_dir) as store:
        store.questions.record([Recorded(from_prompt("I am Ada Lovelace"), 1.0)], holdout=0)
        (doomed,) = store.forgetting.saying(lambda text: "Lovelace" in text).questions
    (version,) = publish_random(state_dir, random_adapters[:1], learned=[doomed])
    file, aside = state_dir / "store.sqlite", state_dir / "replaced-then"
    aside.mkdir()
    copies.copy(file, aside / file.name)
    copies.before_migration(file, state_dir / "backups", "0001", time.time())
    words = ("questions", "purge", "--text", "lovelace", "--yes", "--state-dir", state_dir)
    kill_at(point)
    assert subprocess.run([*TTRL, *words]).returncode == -signal.SIGKILL
    spare()
    again = subprocess.run([*TTRL, *words], capture_output=True).returncode
    assert again == (point is Point.DROPPED), "by then nothing of it is to be found"
    assert b"Lovelace" not in on_disk(state_dir)
    assert not (state_dir / "adapters" / version).exists()
    with Store.open(state_dir) as store:
        assert store.questions.times_asked() == 40
        assert store.adapters.get(version).state is AdapterState.TAINTED


@pytest.mark.fault(
    "what deletes a version is killed -9",
    sees="nothing",
    keeps="the version as a whole, or nothing of it",
)
@pytest.mark.parametrize("point", PRUNING)
def test_in_pruning(tmp_path, kill_at, spare, random_adapters, point):
    with Daemon(tmp_path / "state", start=False) as daemon:
        publish_random(daemon.state_dir, random_adapters[:1])
        gone = daemon.state_dir / "adapters" / "ttrl-old-1-00000000"
        gone.mkdir()
        (gone / adapters.WEIGHTS).write_bytes(b"old")
        kill_at(point)
        program = f"import pathlib, ttrl.adapters as a; a.remove(pathlib.Path({str(gone)!r}))"
        assert subprocess.run([sys.executable, "-c", program]).returncode == -signal.SIGKILL
        assert not gone.exists()
        assert list(gone.parent.glob(".doomed-*"))
        spare()
        daemon.start()
        keeps_its_promises(daemon)


@pytest.mark.fault(
    "what migrates the store is killed -9",
    sees="refused until it is started again",
    keeps="the store in the old schema, or in the new one",
)
@pytest.mark.parametrize("point", MIGRATING)
def test_in_a_migration(tmp_path, kill_at, spare, point):
    file, row = tmp_path / "store.sqlite", ROWS["questions"]
    old = Database(sa.URL.create("sqlite", database=str(file)))
    old.migrate("0008")
    with old.write() as connection:
        values = ", ".join(f":{column}" for column in row)
        connection.execute(
            sa.text(f"INSERT INTO questions ({', '.join(row)}) VALUES ({values})"), row
        )
    old.close()
    kill_at(point)
    died = subprocess.run([*TTRL, "status", "--state-dir", str(tmp_path)], capture_output=True)
    assert died.returncode == -signal.SIGKILL
    with Store.look(tmp_path) as looked:
        assert looked.revision() == (revisions.known()[0] if point is Point.MIGRATED else "0008")
    spare()
    with Daemon(tmp_path) as daemon, daemon.store() as opened:
        assert opened.questions.times_asked() == row["count"]
        keeps_its_promises(daemon)
