"""kill -9 at each point of tests/faults.py: the state before or the state after, never between.

On a light engine and trainer; test_kill has the real ones."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import openai
import pytest

from tests import faults
from tests.crash.promises import keeps_its_promises
from tests.faults import (
    MIGRATING,
    PRUNING,
    PURGING,
    RECORDING,
    ROLLING_BACK,
    RUNNING,
    STARTING,
    SWAPPING,
    full_disk,
    inject,
    use_migrations,
)
from tests.integration.daemon import (
    LIGHT,
    TTRL,
    Daemon,
    alive,
    publish_random,
    wait_until,
)
from tests.migrations import NEWER, TODAY, newer_migrations
from tests.stores import on_disk
from tests.versions import write_lora
from ttrl import versions
from ttrl.demo import make_problems
from ttrl.questions.question import from_prompt
from ttrl.store import Store, migrations
from ttrl.store.adapters import AdapterState
from ttrl.store.backends import copy_file
from ttrl.store.questions import Recorded
from ttrl.store.runs import RunState

pytestmark = [pytest.mark.crash, pytest.mark.timeout(240)]

PROMPT = "What is 417 plus 286?"
UNLEARNED = {"X-TTRL-No-Learn": "1"}

SHORT = (
    "update.steps=1", "update.questions_per_step=2", "update.keep=4", "vote.samples=16",
    "gate.kl_base=100", "gate.kl_live=100",
)  # fmt: skip
"""A run of seconds, whose candidate is held: nothing is there to judge it by."""


@pytest.fixture
def kill_at(monkeypatch):
    """Kills what is started from now on when it comes to a point."""
    return partial(inject, monkeypatch)


@pytest.fixture
def spare(monkeypatch):
    """Kills nothing that is started from now on."""
    return partial(faults.spare, monkeypatch)


def with_questions(folder, count=40):
    """A state directory with questions to learn from, none of them held out."""
    with Store.open(folder) as store:
        asked = [Recorded(from_prompt(each.prompt), 1.0) for each in make_problems(count, seed=5)]
        store.questions.record(asked, holdout=0)
    return folder


class Mortal(Daemon):
    """A daemon in whose processes the fault happens that a file names."""

    def __init__(self, folder):
        self.fault, self.published = folder / "fault", 0
        self.spare()
        self.sources = folder / "sources"
        self.sources.mkdir()
        state_dir = folder / "state"
        state_dir.mkdir()
        tables = (RECORDING, STARTING, RUNNING, SWAPPING, ROLLING_BACK)
        any_of_them = [fault for table in tables for fault in table.values()]
        environ = faults.switchable(self.fault, any_of_them)
        environ["PYTHONPATH"] = os.pathsep.join([LIGHT["PYTHONPATH"], environ["PYTHONPATH"]])
        super().__init__(with_questions(state_dir, 150), *SHORT, environ=environ, start=False)
        self.first, self.second = self.publish(), self.publish()
        self.start()

    def publish(self):
        """Another version, which is wanted from now on, unlike all others."""
        self.published += 1
        source = write_lora(self.sources / str(self.published), bytes([self.published]) * 64)
        return publish_random(self.state_dir, [source], first=self.published)[0]

    def wanted(self):
        with self.store() as store:
            return store.adapters.wanted().adapter

    def goes_wrong(self, fault):
        faults.arm(self.fault, fault)

    def spare(self):
        faults.arm(self.fault, None)


@pytest.fixture(scope="module")
def mortal(tmp_path_factory):
    with Mortal(tmp_path_factory.mktemp("mortal")) as started:
        yield started


@pytest.fixture
def daemon(mortal):
    """At rest, with a version that serves and one before it; it is started again if need be."""
    if mortal.child.poll() is not None:
        mortal.start()
    mortal.wait_live(mortal.wanted())
    yield mortal
    mortal.spare()


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
def test_while_questions_are_recorded(daemon, point):
    children = daemon.children()
    with daemon.store() as store:
        before = store.questions.times_asked()
        daemon.goes_wrong(RECORDING[point])
        with suppress(openai.APIConnectionError):
            daemon.ask(PROMPT)
        dies(daemon, children)
        committed = before + (point == "recorded")
        assert store.questions.times_asked() == committed
        daemon.spare()
        daemon.start()
        daemon.ask(PROMPT)
        wait_until(
            lambda: store.questions.times_asked() == committed + 1, "the next one is recorded"
        )
        keeps_its_promises(daemon)


@pytest.mark.fault(
    "the daemon is killed -9 as it starts a run",
    sees="refused until it is started again",
    keeps="all that was there; the run is marked as aborted, and the next one learns",
)
@pytest.mark.parametrize("point", STARTING)
def test_as_a_run_begins(daemon, point):
    children = daemon.children()
    daemon.goes_wrong(STARTING[point])
    daemon.ttrl("adapt", code=1)
    dies(daemon, children)
    daemon.spare()
    daemon.start()
    with daemon.store() as store:
        run = store.runs.newest()[0]
    assert (run.state, run.reason) == (RunState.ABORTED, "its owner process died")
    keeps_its_promises(daemon)
    adapts(daemon)


@pytest.mark.fault(
    "a run is killed -9, at any of its stages",
    sees="nothing",
    keeps="what was published; else all is as before the run, which is marked as failed",
)
@pytest.mark.parametrize("point", RUNNING)
def test_in_a_run(daemon, point):
    killed = "its process exited with status -9"
    with daemon.store() as store:
        before, deaths = store.adapters.all(), daemon.log.count(killed)
        daemon.goes_wrong(RUNNING[point])
        daemon.ttrl("adapt", code=None)
        daemon.spare()
        assert daemon.ask(PROMPT, extra_headers=UNLEARNED)[1] == daemon.wanted()
        wait_until(lambda: daemon.log.count(killed) == deaths + 1, "it was killed")
        run = store.runs.newest()[0]
        added = {row.name for row in store.adapters.all()} - {row.name for row in before}
        if point in ("published", "ended"):
            assert run.state is RunState.HELD
            assert added == {run.adapter}
        else:
            assert (run.state, run.adapter, added) == (RunState.FAILED, None, set())
            assert "killed" in run.reason
        keeps_its_promises(daemon)


@pytest.mark.fault(
    "the disk is full while a run writes candidates, votes, a version or its row",
    sees="nothing",
    keeps="all that was there; the run is marked as failed, and leaves nothing behind",
)
@pytest.mark.parametrize("point", ["selected", "deployed", "sampled", "judged", "placed"])
def test_a_full_disk_in_a_run(daemon, point):
    with daemon.store() as store:
        before = store.adapters.all()
        daemon.goes_wrong(full_disk(RUNNING[point]))
        daemon.ttrl("adapt", code=1)
        daemon.spare()
        run = store.runs.newest()[0]
        assert run.state is RunState.FAILED
        assert "killed" not in run.reason
        assert daemon.ask(PROMPT, extra_headers=UNLEARNED)[1] == daemon.wanted()
        assert store.adapters.all() == before
        keeps_its_promises(daemon)


@pytest.mark.fault(
    "the daemon is killed -9 in the midst of a swap",
    sees="refused until it is started again, then answered by the version that is wanted",
    keeps="both versions, and which one is wanted",
)
@pytest.mark.parametrize("point", SWAPPING)
def test_in_a_swap(daemon, point):
    before, children = daemon.ask(PROMPT), daemon.children()
    daemon.goes_wrong(SWAPPING[point])
    version = daemon.publish()
    dies(daemon, children)
    daemon.spare()
    daemon.start()
    daemon.wait_live(version)
    keeps_its_promises(daemon)
    after = daemon.ask(PROMPT)
    assert after[1] == version
    assert after[0] != before[0], "which has other weights"


@pytest.mark.fault(
    "what rolls a version back is killed -9",
    sees="nothing: the version before the roll-back, or the one after it",
    keeps="both versions; the one taken back is marked as such, or still wanted",
)
@pytest.mark.parametrize("point", ROLLING_BACK)
def test_in_a_roll_back(daemon, point):
    first, second = daemon.wanted(), daemon.publish()
    daemon.wait_live(second)
    daemon.goes_wrong(ROLLING_BACK[point])
    assert daemon.run("adapters", "rollback").returncode == -signal.SIGKILL
    daemon.spare()
    done = point == "rolled_back"
    daemon.wait_live(first if done else second)
    assert daemon.ask(PROMPT)[1] == (first if done else second)
    with daemon.store() as store:
        state = AdapterState.ROLLED_BACK if done else AdapterState.APPROVED
        assert store.adapters.get(second).state is state
    keeps_its_promises(daemon)


@pytest.mark.fault(
    "what purges questions is killed -9",
    sees="nothing",
    keeps="all other questions; the same command, given again, leaves nothing of the purged ones",
)
@pytest.mark.parametrize("point", PURGING)
def test_in_a_purge(tmp_path, kill_at, spare, point):
    state_dir = tmp_path / "state"
    state_dir.mkdir()
    with_questions(state_dir)
    with Store.open(state_dir) as store:
        store.questions.record([Recorded(from_prompt("I am Ada Lovelace"), 1.0)], holdout=0)
        (doomed,) = store.forgetting.saying(lambda text: "Lovelace" in text).questions
    (version,) = publish_random(state_dir, [write_lora(tmp_path / "weights")], learned=[doomed])
    file, aside = state_dir / "store.sqlite", state_dir / "replaced-then"
    aside.mkdir()
    copy_file(file, aside / file.name)
    migrations.copy_before(file, state_dir / "backups", "0001", time.time())
    words = ("questions", "purge", "--text", "lovelace", "--yes", "--state-dir", state_dir)
    kill_at(PURGING[point])
    assert subprocess.run([*TTRL, *words]).returncode == -signal.SIGKILL
    spare()
    again = subprocess.run([*TTRL, *words], capture_output=True).returncode
    assert again == (point == "dropped"), "by then nothing of it is to be found"
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
def test_in_pruning(daemon, kill_at, spare):
    gone = daemon.state_dir / "adapters" / "ttrl-old-1-00000000"
    gone.mkdir()
    (gone / versions.WEIGHTS).write_bytes(b"old")
    kill_at(PRUNING)
    root, name = str(gone.parent), gone.name
    program = (
        "from pathlib import Path; from ttrl.versions import remove; "
        f"remove(Path({root!r}), {name!r})"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == -signal.SIGKILL
    assert not gone.exists()
    assert list(gone.parent.glob(".doomed-*"))
    spare()
    daemon.child.terminate()
    assert daemon.child.wait(60) == 0
    daemon.start()
    keeps_its_promises(daemon)


@pytest.mark.fault(
    "what migrates the store is killed -9",
    sees="refused until it is started again",
    keeps="the store in the old schema, or in the new one",
)
@pytest.mark.parametrize("point", MIGRATING)
def test_in_a_migration(tmp_path, tmp_path_factory, monkeypatch, kill_at, spare, point):
    with_questions(tmp_path)
    use_migrations(monkeypatch, newer_migrations(tmp_path_factory.mktemp("newer") / "all"))
    kill_at(MIGRATING[point])
    died = subprocess.run([*TTRL, "pause", "--state-dir", str(tmp_path)], capture_output=True)
    assert died.returncode == -signal.SIGKILL
    with Store.look(tmp_path) as looked:
        assert looked.revision() == (NEWER if point == "migrated" else TODAY)
    spare()
    with Daemon(tmp_path, environ=LIGHT) as daemon, Store.look(tmp_path) as looked:
        assert looked.revision() == NEWER
        assert looked.questions.times_asked() == 40
        keeps_its_promises(daemon)
