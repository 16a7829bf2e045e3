"""Commands that only read, on a disk that is read-only or full"""

from __future__ import annotations

import subprocess
from contextlib import suppress

import pytest

from tests.command import ttrl
from ttrl.questions.question import from_prompt
from ttrl.store import Store
from ttrl.store.questions import Recorded

pytestmark = pytest.mark.integration
READS = {
    "status": 3,
    "questions list": 0,
    "questions show 1": 0,
    "runs list": 0,
    "adapters list": 0,
    "probes list": 0,
}


@pytest.fixture
def disk(tmp_path):
    """A small disk of its own, with a store."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
    try:
        subprocess.run(mounting, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("only root may mount")
    try:
        with Store.open(folder) as store:
            store.questions.record([Recorded(from_prompt("a question"), 1.0)], holdout=0)
        (folder / "owner.lock").touch()
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def read_only(disk):
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)


def full(disk):
    with (disk / "rest").open("wb") as rest, suppress(OSError):
        while True:
            rest.write(bytes(2**16))
            rest.flush()


@pytest.mark.fault(
    "the disk of the state directory is full, or became read-only, and no daemon is up",
    sees="whatever reads only works: status, lists, a backup to another disk",
    keeps="everything",
)
@pytest.mark.parametrize("becomes", [read_only, full])
def test_what_reads_only_writes_nothing(disk, tmp_path, becomes):
    there = ("--state-dir", disk)
    becomes(disk)
    for words, code in READS.items():
        ttrl(*words.split(), *there, code=code)
    assert "Not noted as the newest backup" in ttrl("backup", tmp_path / "b.tar", *there).output
    assert "unforeseen" not in ttrl("doctor", *there, code=None).output
