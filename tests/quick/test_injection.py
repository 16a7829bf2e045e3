"""The faults that the crash tests inject are where they say."""

from __future__ import annotations

import functools
import importlib
import os
import signal
import subprocess
import sys
from dataclasses import replace

import pytest

from tests import faults
from tests.faults import Fault, after, arm, before, full_disk, inject, switchable, uncommitted

NAMED = {
    name: fault
    for group in (
        faults.RECORDING, faults.STARTING, faults.RUNNING, faults.SWAPPING, faults.ROLLING_BACK,
        faults.PURGING, faults.MIGRATING, {"pruning": faults.PRUNING},
    )
    for name, fault in group.items()
}  # fmt: skip

PROGRAM = """
import sys, pathlib
from ttrl.store import Store
with Store.open(pathlib.Path(sys.argv[1])) as store:
    for number in "123":
        store.set_fact("at", number)
        store.fact("at")
"""
SHELF = """
class Shelf:
    def put(self, number):
        open("shelf", "w").write(number)
    def look(self):
        open("shelf")
"""
PLACING = """
from shelf import Shelf
for number in "123":
    Shelf().put(number)
    Shelf().look()
"""


@pytest.mark.parametrize("fault", NAMED.values(), ids=NAMED)
def test_every_function_is_there(fault):
    for target in filter(None, (fault.target, fault.inside)):
        module, _, name = target.partition(":")
        assert callable(functools.reduce(getattr, name.split("."), importlib.import_module(module)))


@pytest.mark.parametrize(
    ("fault", "killed", "left"),
    [
        (before("shelf:Shelf.put"), True, None),
        (after("shelf:Shelf.put"), True, "1"),
        (before("shelf:Shelf.put", nth=3), True, "2"),
        (after("shelf:Shelf.put", nth=4), False, "3"),
        (before("shelf:Shelf.look", nth=2), True, "2"),
        (before("shelf:Shelf.put", program="jobs.run"), False, "3"),
        (before("shelf:Shelf.put", program="import Shelf"), True, None),
    ],
)
def test_a_process_is_killed_there(tmp_path, monkeypatch, fault: Fault, killed, left):
    (tmp_path / "shelf.py").write_text(SHELF)
    inject(monkeypatch, fault)
    done = subprocess.run([sys.executable, "-c", PLACING], cwd=tmp_path)
    assert done.returncode == (-signal.SIGKILL if killed else 0)
    found = tmp_path / "shelf"
    assert (found.read_text() if found.exists() else None) == left


@pytest.mark.integration
@pytest.mark.parametrize(("nth", "left"), [(1, None), (2, "1")])
def test_a_process_is_killed_before_it_commits(store, tmp_path, monkeypatch, nth, left):
    inject(monkeypatch, replace(uncommitted("ttrl.store:Store.set_fact"), nth=nth))
    done = subprocess.run([sys.executable, "-P", "-c", PROGRAM, str(tmp_path)])
    assert done.returncode == -signal.SIGKILL
    assert store.fact("at") == left


@pytest.mark.integration
def test_a_disk_is_full_from_there_on(store, tmp_path, monkeypatch):
    inject(monkeypatch, full_disk(before("ttrl.store:Store.set_fact", nth=2)))
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "sqlite3.OperationalError" in done.stderr
    assert store.fact("at") == "1"


@pytest.mark.integration
def test_a_process_that_is_up_is_killed_from_when_it_is_armed(store, tmp_path):
    waiting = PROGRAM.replace("    store.set_fact", "    input(number)\n        store.set_fact")
    file = tmp_path / "fault"
    fault = uncommitted("ttrl.store:Store.set_fact")
    other = before("ttrl.store:Store.fact", program="jobs.run")
    arm(file, None)
    path = os.pathsep.join([str(faults.INJECTED), os.environ.get("PYTHONPATH", "")])
    environ = {**os.environ, **switchable(file, [fault, other]), "PYTHONPATH": path}
    command = [sys.executable, "-c", waiting, str(tmp_path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environ
    ) as child:
        for number, armed in ((b"1", None), (b"2", other), (b"3", fault)):
            assert child.stdout.read(1) == number
            arm(file, armed)
            child.stdin.write(b"\n")
            child.stdin.flush()
        assert child.wait(30) == -signal.SIGKILL
    assert store.fact("at") == "2"
