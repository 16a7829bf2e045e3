"""Disks that fill up, stores that are locked or damaged, hosts that sleep: users are served on."""

from __future__ import annotations

import resource
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress

import psutil
import pytest

from tests.command import ttrl
from tests.crash.promises import keeps_its_promises
from tests.integration.daemon import (
    LIGHT,
    START_SECONDS,
    Daemon,
    record_questions,
    wait_until,
)
from ttrl.store.runs import RunState

pytestmark = [pytest.mark.crash, pytest.mark.timeout(240)]

PROMPT = "What is 417 plus 286?"
LONG = (
    "update.steps=5000",
    "update.passes=100",
    "update.questions_per_step=2",
    "vote.samples=16",
    "update.keep=4",
)


@contextmanager
def unwritable(pid):
    """No file of this process can be written."""
    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, hard))
    yield
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))


@contextmanager
def ended(daemon):
    """It is started again afterwards."""
    daemon.child.terminate()
    assert daemon.child.wait(60) == 0
    yield
    daemon.start()


@contextmanager
def locked(state_dir):
    """Somebody else writes to the store, and takes his time."""
    with closing(sqlite3.connect(state_dir / "store.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("COMMIT")


def overwrite(path, begin, length):
    """Flip every bit there."""
    with path.open("r+b") as file:
        file.seek(begin)
        flipped = bytes(255 - byte for byte in file.read(length))
        file.seek(begin)
        file.write(flipped)


@pytest.mark.fault(
    "the disk is full while questions are recorded",
    sees="nothing",
    keeps="the questions, in memory until there is room (`record.queue` of them)",
)
def test_a_full_disk_while_recording(tmp_path):
    with Daemon(tmp_path / "state", environ=LIGHT) as daemon, daemon.store() as store:
        daemon.ask(PROMPT)
        wait_until(lambda: store.questions.times_asked() == 1, "it is recorded")
        with unwritable(daemon.child.pid):
            for _ in range(5):
                assert daemon.ask(PROMPT)[1] == "base"
            wait_until(lambda: daemon.metric("ttrl_store_up") == 0, "it was tried to write them")
            assert daemon.metric("ttrl_recorder_queue_questions") == 5
            assert store.questions.times_asked() == 1
        wait_until(lambda: store.questions.times_asked() == 6, "they are recorded")
        wait_until(lambda: daemon.metric("ttrl_store_up") == 1, "all is well")
        assert "can be written again" in daemon.log
        keeps_its_promises(daemon)


@pytest.mark.fault(
    "the store is damaged when the daemon starts",
    sees="the base model's answers",
    keeps="the damaged file, untouched, and every version",
)
def test_a_damaged_store(light):
    path = light.state_dir / "store.sqlite"
    with ended(light):
        whole = path.read_bytes()
        for begin, length in ((0, 100), (4096 * 2, 4096 * 8)):
            path.write_bytes(whole)
            overwrite(path, begin, length)
            damaged = path.read_bytes()
            assert "`ttrl doctor`" in served_by_the_base(light)
            assert path.read_bytes() == damaged
        path.write_bytes(whole)
    light.wait_live(light.versions[1])
    assert light.ask(PROMPT)[1] == light.versions[1]
    keeps_its_promises(light)


def served_by_the_base(light):
    """Starts it without a store to go by, and ends it; what it logged meanwhile."""
    before = len(light.log)
    light.start()
    assert light.ask(PROMPT)[1] == "base"
    assert light.metric("ttrl_store_up") == 0
    assert light.metric("ttrl_live_adapter_is_wanted") == 0
    assert "`ttrl doctor`" in ttrl("adapt", *light.options, code=1).stderr
    light.child.terminate()
    assert light.child.wait(60) == 0
    return light.log[before:]


@pytest.mark.fault(
    "the store is gone or empty when the daemon starts, and there are versions",
    sees="the base model's answers",
    keeps="every version; no new store is made in its place",
)
def test_a_lost_store(light):
    path = light.state_dir / "store.sqlite"
    with ended(light):
        whole = path.read_bytes()
        for left in (None, b""):
            path.unlink() if left is None else path.write_bytes(left)
            assert "was lost" in served_by_the_base(light)
            assert "the store was lost" in light.ttrl("doctor", "--json", code=1)
            assert (path.read_bytes() if path.exists() else None) == left
        path.write_bytes(whole)
    light.wait_live(light.versions[1])
    keeps_its_promises(light)


@pytest.mark.fault(
    "the store is damaged while the daemon runs",
    sees="nothing; after an engine's restart, perhaps the base model",
    keeps="what serves; questions wait in memory, and are lost when it ends",
)
def test_a_store_damaged_under_way(light):
    path = light.state_dir / "store.sqlite"
    before = light.ask(PROMPT)
    with closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    overwrite(path, 0, path.stat().st_size)
    assert light.ask(PROMPT) == before
    wait_until(lambda: light.metric("ttrl_store_up") == 0, "it is noticed")
    light.kill(light.engine_pid())
    wait_until(lambda: light.metric("ttrl_engine_up") == 0, "the engine is missed")
    wait_until(light.ready, "another engine is there", START_SECONDS)
    assert light.ask(PROMPT)[1] in ("base", before[1])
    light.kill()  # or it would try for ten seconds to write what it was asked


# In a run: last, so that it trains beside no other test


@pytest.fixture(scope="module")
def under_way(tmp_path_factory):
    """A daemon, its store and its run, which is in the middle of many steps; it is stopped then."""
    state_dir = record_questions(tmp_path_factory.mktemp("under-way") / "state", 400)
    with (
        Daemon(state_dir, *LONG, environ=LIGHT) as daemon,
        daemon.store() as store,
        daemon.begin("adapt") as adapting,
    ):
        run = wait_until(store.runs.active, "a run is started")
        wait_until(lambda: store.runs.get(run.id).steps > 1, "it is in the middle", 120)
        yield daemon, store, run
        daemon.ttrl("runs", "stop")
        adapting.communicate(timeout=60)
        assert store.runs.get(run.id).state is RunState.ABORTED
        keeps_its_promises(daemon)


def goes_on(store, run):
    steps = store.runs.get(run.id).steps
    wait_until(lambda: store.runs.get(run.id).steps > steps, "the run goes on")


@pytest.mark.fault(
    "another process keeps the store locked for longer than writers wait",
    sees="nothing",
    keeps="every question; a run under way goes on",
)
def test_a_store_that_is_locked(under_way):
    daemon, store, run = under_way
    asked = store.questions.times_asked()
    with locked(daemon.state_dir):
        daemon.ask(PROMPT)
        said = "cannot write the store"
        wait_until(lambda: said in daemon.log, "a writer has given up once")
        daemon.ask(PROMPT)
    goes_on(store, run)
    wait_until(lambda: store.questions.times_asked() == asked + 2, "all is recorded")


@pytest.mark.fault(
    "the host is suspended, and goes on",
    sees="answers that take as long",
    keeps="everything; a run under way goes on",
)
def test_a_host_that_sleeps(under_way):
    daemon, store, run = under_way
    host = psutil.Process(daemon.child.pid)
    everybody = [*host.children(recursive=True), host]
    for each in everybody:
        with suppress(psutil.NoSuchProcess):
            each.suspend()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(daemon.ask, PROMPT)
        beat = store.runs.get(run.id).heartbeat
        threading.Event().wait(8.0)  # longer than a heart beats, or the daemon looks
        assert store.runs.get(run.id).heartbeat == beat
        for each in everybody:
            with suppress(psutil.NoSuchProcess):
                each.resume()
        assert answer.result()[1] == "base"
    goes_on(store, run)
