"""A backup is of one moment and whole, or refused; a restore is all of it or nothing."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import tarfile
import threading
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from serve.state import (
    StateDirError,
    decide_restore,
    finish_restore,
    owning,
    prepare,
    staging,
    unfinished_restore,
)
from tests import command
from tests.house import until
from tests.migrations import TODAY, fill
from tests.versions import publish
from ttrl import backup, files
from ttrl.backup import BackupError
from ttrl.questions.question import from_prompt
from ttrl.store import Store
from ttrl.store.questions import Recorded


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    made = tmp_path_factory.mktemp("made") / "state"
    made.mkdir(mode=0o700)
    with Store.open(made) as store:
        store.questions.record([Recorded(from_prompt(f"q {n}"), 1.0) for n in range(9)], holdout=0)
    publish(made, 2)
    return made


@pytest.fixture
def state(tmp_path, made):
    """A state directory with questions and two versions."""
    return shutil.copytree(made, tmp_path / "state")


def ttrl(*words, **options):
    return command.ttrl(*words, **options).output


def back_up(state, file, *words, code=0):
    return ttrl("backup", file, "--state-dir", state, *words, code=code)


def held(state):
    """What a state directory holds, to compare."""
    with Store.look(state) as store:
        names = [row.name for row in store.adapters.all()]
        files = {
            str(path.relative_to(state)): path.read_bytes()
            for path in sorted((state / "adapters").rglob("*.*"))
        }
        return store.questions.times_asked(), store.adapters.wanted().adapter, names, files


def test_what_was_backed_up_is_restored(state, tmp_path):
    said = json.loads(back_up(state, tmp_path / "b.tar", "--json"))
    assert (said["store"], said["versions"], said["left_out"]) == (True, 2, {})
    assert stat.S_IMODE((tmp_path / "b.tar").stat().st_mode) == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.tar", "state"]
    with tarfile.open(tmp_path / "b.tar") as tar:
        names = tar.getnames()
    assert (names[0], names[-1], len(names)) == ("store.sqlite", "manifest.json", 8)
    again = tmp_path / "again"
    assert "2 versions" in ttrl("restore", tmp_path / "b.tar", "--state-dir", again)
    assert held(again) == held(state)
    made = [again / "store.sqlite", *(again / "adapters").rglob("*")]
    modes = {(path.is_dir(), stat.S_IMODE(path.stat().st_mode)) for path in made}
    assert modes == {(True, 0o700), (False, 0o600)}
    assert backup.newest(state).file == str(tmp_path / "b.tar")


@pytest.mark.integration
def test_a_pipe_gets_the_same(state, tmp_path):
    command = [sys.executable, "-c", "from serve.cli import main; main()", "backup", "-"]
    done = subprocess.run([*command, "--state-dir", str(state)], capture_output=True, check=True)
    (tmp_path / "piped.tar").write_bytes(done.stdout)
    ttrl("restore", tmp_path / "piped.tar", "--state-dir", tmp_path / "again")
    assert held(tmp_path / "again") == held(state)
    assert backup.newest(state).file is None
    back_up(state, tmp_path / "b.tar")
    back_up(state, "-")
    assert backup.newest(state).file == str(tmp_path / "b.tar"), "which is still there"


def more_than(things, count):
    return len(things) > count


@pytest.mark.fault(
    "a backup is made while questions come in and a run publishes",
    sees="nothing: neither waits for the other",
    keeps="a store of one moment, with every version that it names",
)
def test_a_backup_is_of_one_moment_while_others_write(state, tmp_path):
    """Nine questions were there, and each batch has two: an even count would be half of one."""
    done, written = threading.Event(), []

    def keep_writing():
        with Store.open(state) as store:
            while not done.is_set():
                number = len(written)
                asked = [Recorded(from_prompt(f"{number} {half}"), 1.0) for half in ("a", "b")]
                store.questions.record(asked, holdout=0)
                publish(state, first=number + 3)
                written.append(number)

    writer = threading.Thread(target=keep_writing)
    writer.start()
    try:
        for number in range(3):
            until(partial(more_than, written, len(written)), "it writes")
            assert "Left out" not in back_up(state, tmp_path / f"{number}.tar")
    finally:
        done.set()
        writer.join()
    for number in range(3):
        ttrl("restore", tmp_path / f"{number}.tar", "--state-dir", tmp_path / f"{number}")
        asked, wanted, names, files = held(tmp_path / f"{number}")
        assert asked % 2 == 1
        assert (wanted, 3 * len(names)) == (names[0], len(files))


def test_what_was_deleted_is_not_in_a_backup(state, tmp_path):
    with Store.open(state) as store:
        secret = Recorded(from_prompt("a word that is said nowhere else: xylograph"), 1.0)
        store.questions.record([secret], holdout=0)
        store.forgetting.delete([store.questions.page(1)[0].id])
    back_up(state, tmp_path / "b.tar")
    assert b"xylograph" not in (tmp_path / "b.tar").read_bytes()


@pytest.mark.fault(
    "a version's files are damaged or gone when a backup is made",
    sees="the backup is made, and says what it lacks",
    keeps="the store and every other version",
)
@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_version_that_is_not_whole_is_left_out(state, tmp_path, damage):
    with Store.look(state) as store:
        name = store.adapters.all()[0].name
    weights = state / "adapters" / name / "adapter_model.safetensors"
    shutil.rmtree(weights.parent) if damage == "gone" else weights.write_bytes(b"1")
    said = back_up(state, tmp_path / "b.tar")
    assert f"Left out: {name}: " in said
    assert "1 version " in said
    ttrl("restore", tmp_path / "b.tar", "--state-dir", tmp_path / "again")
    assert list(backup.contents(tmp_path / "b.tar").left_out) == [name]


def test_a_store_is_backed_up_as_it_is_before_an_upgrade(tmp_path, upgraded):
    state = tmp_path / "state"
    state.mkdir()
    fill(state)
    upgraded()
    back_up(state, tmp_path / "b.tar")
    assert backup.contents(tmp_path / "b.tar").revision == TODAY
    ttrl("restore", tmp_path / "b.tar", "--state-dir", tmp_path / "again")
    for each in (state, tmp_path / "again"):
        with Store.look(each) as look:
            assert look.revision() == TODAY
    with Store.open(tmp_path / "again") as store:
        assert store.fact("mine") == "yes"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_root_restores_is_its_daemons(state, tmp_path):
    back_up(state, tmp_path / "b.tar")
    again = tmp_path / "again"
    again.mkdir()
    os.chown(again, 1234, 1234)
    ttrl("restore", tmp_path / "b.tar", "--state-dir", again)
    back_up(again, tmp_path / "c.tar")
    owners = {path.name: path.stat().st_uid for path in again.rglob("*")}
    assert {"store.sqlite", "owner.lock", "newest.json", "manifest.json"} <= owners.keys()
    assert set(owners.values()) == {1234}


def test_what_cannot_be_backed_up_is_said(state, tmp_path):
    (tmp_path / "there").touch()
    assert "already exists" in back_up(state, tmp_path / "there", code=1)
    assert "No such file" in back_up(state, tmp_path / "none" / "b.tar", code=1)
    assert "in the state directory" in back_up(state, state / "adapters" / "b.tar", code=1)
    assert "no state directory" in back_up(tmp_path / "typo", tmp_path / "b.tar", code=2)
    (state / "store.sqlite").unlink()
    assert "nothing to back up" in back_up(state, tmp_path / "b.tar", code=1)
    (state / "store.sqlite").touch()
    assert "cannot be used" in back_up(state, tmp_path / "b.tar", code=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["state", "there"]


@pytest.mark.fault(
    "a backup of a damaged store is asked for",
    sees="a sentence, and no file",
    keeps="the backups there are",
)
def test_a_damaged_store_is_not_backed_up(state, tmp_path):
    with (state / "store.sqlite").open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 8192)
    assert "`ttrl doctor`" in back_up(state, tmp_path / "b.tar", code=1)
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


def test_a_store_in_postgresql_is_the_operators(state, tmp_path, monkeypatch):
    monkeypatch.setenv("TTRL_STORE__URL", "postgresql://me:hush@127.0.0.1:1/ttrl")
    said = back_up(state, tmp_path / "b.tar", code=1)
    assert "pg_dump" in said
    assert "--adapters-only" in said
    assert "hush" not in said


def test_versions_alone(state, tmp_path):
    back_up(state, tmp_path / "b.tar", "--adapters-only")
    assert "store.sqlite" not in backup.contents(tmp_path / "b.tar").members
    again = tmp_path / "again"
    ttrl("restore", tmp_path / "b.tar", "--state-dir", again)
    assert sorted(path.name for path in (again / "adapters").iterdir()) == sorted(held(state)[2])
    assert not (again / "store.sqlite").exists()
    before = held(state)
    ttrl("restore", tmp_path / "b.tar", "--state-dir", state, "--force")
    assert held(state) == before, "the store stays"


def test_a_restore_takes_nobodys_place_unasked(state, tmp_path, monkeypatch, impatient):
    back_up(state, tmp_path / "b.tar")
    with Store.open(state) as store:
        store.questions.record([Recorded(from_prompt("later"), 1.0)], holdout=0)
    before = held(state)
    assert "already holds adapters, store.sqlite;" in ttrl(
        "restore", tmp_path / "b.tar", "--state-dir", state, code=1
    )
    with owning(state):
        said = ttrl("restore", tmp_path / "b.tar", "--state-dir", state, "--force", code=1)
    assert "in use by process" in said
    assert held(state) == before
    said = json.loads(
        ttrl("restore", tmp_path / "b.tar", "--state-dir", state, "--force", "--json")
    )
    assert held(state)[0] == 9
    assert held(Path(said["aside"])) == before, "moved aside, with its write-ahead log"
    monkeypatch.setenv("TTRL_STORE__URL", f"sqlite:///{tmp_path}/other.sqlite")
    said = ttrl("restore", tmp_path / "b.tar", "--state-dir", tmp_path / "new", code=2)
    assert "store.url" in said


def repack(file, change):
    """The same archive, with each member as `change` leaves it; None leaves it out."""
    with tarfile.open(file) as tar:
        members = [(info, tar.extractfile(info).read()) for info in tar]
    with tarfile.open(file, "w") as tar:
        for info, content in members:
            for changed, text in change(info, content):
                changed.size = len(text)
                tar.addfile(changed, io.BytesIO(text))


def renamed(old, new, kind=tarfile.REGTYPE):
    def change(info, content):
        if info.name == old:
            info.name, info.type, info.linkname = new, kind, "/etc/passwd"
            content = b"" if kind != tarfile.REGTYPE else content
        yield info, content

    return change


def flipped(info, content):
    flip = bytes([content[-1] ^ 1]) if info.name.endswith("safetensors") else content[-1:]
    yield info, content[:-1] + flip


def shortened(info, content):
    yield info, content[:-1] if info.name == "store.sqlite" else content


def doubled(info, content):
    yield info, content
    if info.name == "store.sqlite":
        yield info, content


def added(info, content):
    yield info, content
    if info.name == "store.sqlite":
        yield tarfile.TarInfo("adapters/other/manifest.json"), b"{}"


def without_manifest(info, content):
    if info.name != "manifest.json":
        yield info, content


def manifest_with(**values):
    def change(info, content):
        if info.name == "manifest.json":
            content = json.dumps({**json.loads(content), **values}).encode()
        yield info, content

    return change


def manifest_of(text):
    return lambda info, content: [(info, text if info.name == "manifest.json" else content)]


def not_a_number(info, content):
    info.pax_headers = {"GNU.sparse.size": "x"}
    yield info, content


STORE = "store.sqlite"
SAID = "unexpected file"


@pytest.mark.fault(
    "a backup was changed, cut short, or made by an enemy",
    sees="it is refused with a sentence",
    keeps="what the state directory holds",
)
@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param(flipped, "the checksum of", id="a bit flipped"),
        pytest.param(shortened, "do not match its manifest", id="a member cut short"),
        pytest.param(doubled, "twice", id="a member twice"),
        pytest.param(added, "do not match its manifest", id="a member more"),
        pytest.param(without_manifest, "truncated", id="no manifest"),
        pytest.param(renamed(STORE, "../store.sqlite"), SAID, id="out of the directory"),
        pytest.param(renamed(STORE, "/etc/store.sqlite"), SAID, id="an absolute path"),
        pytest.param(renamed(STORE, "adapters/../../manifest.json"), SAID, id="out by a version"),
        pytest.param(renamed(STORE, "adapters/a/evil.bin"), SAID, id="another file"),
        pytest.param(renamed(STORE, "owner.json"), SAID, id="the owner's file"),
        pytest.param(renamed(STORE, STORE, tarfile.SYMTYPE), SAID, id="a symbolic link"),
        pytest.param(renamed(STORE, STORE, tarfile.LNKTYPE), SAID, id="a hard link"),
        pytest.param(renamed(STORE, STORE, tarfile.FIFOTYPE), SAID, id="a pipe"),
        pytest.param(manifest_with(format=2), "made by a newer ttrl", id="a newer format"),
        pytest.param(manifest_with(revision="9999"), "newer ttrl", id="a newer schema"),
        pytest.param(manifest_with(members=[]), "cannot read", id="a manifest of nonsense"),
        pytest.param(manifest_with(what=1), "cannot read", id="a manifest of more"),
        pytest.param(
            manifest_with(at="x"),
            "cannot read the backup's manifest.json: at",
            id="a time that is a word",
        ),
        pytest.param(
            manifest_with(at=1e300),
            "cannot read the backup's manifest.json: at",
            id="a time without a calendar",
        ),
        pytest.param(
            manifest_with(format="x"),
            "cannot read the backup's manifest.json: format",
            id="a format of words",
        ),
        pytest.param(
            manifest_with(members={STORE: {"size": "x", "sha256": "x"}}),
            "cannot read the backup's manifest.json: members.store.sqlite.size",
            id="a size that is a word",
        ),
        pytest.param(manifest_of(b"[" * 200_000), "cannot read", id="a manifest without end"),
        pytest.param(manifest_of(b"\xff"), "cannot read", id="a manifest that is no text"),
        pytest.param(not_a_number, "is not a backup, or is damaged", id="a header of words"),
    ],
)
def test_a_backup_that_is_none_is_refused(state, tmp_path, change, said):
    back_up(state, tmp_path / "b.tar")
    before = held(state)
    repack(tmp_path / "b.tar", change)
    assert said in ttrl("restore", tmp_path / "b.tar", "--state-dir", state, "--force", code=1)
    assert held(state) == before
    assert not list(state.glob(".restor*"))
    assert not list(state.glob("replaced-*"))


def test_a_header_that_claims_to_be_long_is_not_read(tmp_path):
    info = tarfile.TarInfo("a")
    info.type, info.size = tarfile.XHDTYPE, 2**30
    (tmp_path / "b.tar").write_bytes(info.tobuf(tarfile.USTAR_FORMAT) + bytes(1024))
    with pytest.raises(BackupError, match="a header that is too long"):
        backup.contents(tmp_path / "b.tar")


@pytest.mark.parametrize("links", [True, False])
def test_a_file_that_comes_meanwhile_is_not_overwritten(tmp_path, monkeypatch, links):
    """Nor is a link followed that lies where the file is made; FAT has no hard links."""

    def none(*_):
        raise PermissionError(errno.EPERM, "no links here")

    if not links:
        monkeypatch.setattr(os, "link", none)
    (tmp_path / "theirs").write_text("theirs")
    (tmp_path / ".b.tar.part").symlink_to("theirs")
    with files.whole(tmp_path / "b.tar") as out:
        out.write(b"first")
    with pytest.raises(FileExistsError, match=r"b\.tar'"), files.whole(tmp_path / "b.tar") as out:
        out.write(b"second")
    with files.whole(tmp_path / "b.tar", again=True) as out:
        assert (tmp_path / "b.tar").read_bytes() == b"first"
        out.write(b"third")
    assert (tmp_path / "b.tar").read_bytes() == b"third"
    assert (tmp_path / "theirs").read_text() == "theirs"
    assert {path.name for path in tmp_path.iterdir()} == {"b.tar", "theirs", ".b.tar.part"}


def test_two_who_back_up_into_one_file_at_once(state, tmp_path, monkeypatch):
    def twice(*words, **more):
        monkeypatch.undo()
        back_up(state, tmp_path / "b.tar")
        return backup.write(*words, **more)

    monkeypatch.setattr(backup, "write", twice)
    assert "b.tar already exists" in back_up(state, tmp_path / "b.tar", code=1)
    assert "2 versions" in ttrl("restore", tmp_path / "b.tar", "--state-dir", tmp_path / "again")


def test_a_store_that_does_not_say_its_revision_is_not_backed_up(state, tmp_path):
    with closing(sqlite3.connect(state / "store.sqlite")) as connection, connection:
        connection.execute("DELETE FROM alembic_version")
    said = back_up(state, tmp_path / "b.tar", code=1)
    assert "no schema revision" in said


@pytest.mark.parametrize("part", [0, 100, 0.3, 0.9])
def test_a_file_that_is_cut_short_is_refused(state, tmp_path, part):
    back_up(state, tmp_path / "b.tar")
    whole = (tmp_path / "b.tar").read_bytes()
    (tmp_path / "b.tar").write_bytes(whole[: int(part * len(whole)) if part < 1 else part])
    said = ttrl("restore", tmp_path / "b.tar", "--state-dir", tmp_path / "again", code=1)
    assert "b.tar is not a backup" in said
    assert not (tmp_path / "again").exists()


KILLED = """
import json, os, signal, sys
from serve.cli import backup, main

def killed_after(renames, state):
    rename = os.rename
    def counted(*words, **more):
        nonlocal renames
        renames -= 1
        if renames < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        rename(*words, **more)
    os.rename = counted
    main(["restore", "--force", sys.argv[1], "--state-dir", state])

ends = []
for renames, state in enumerate(sys.argv[2:]):
    child = os.fork()
    if child == 0:
        os.dup2(2, 1)
        killed_after(renames, state)
    ends.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(json.dumps(ends))
"""
"""Restores into one state directory after the other, each in a child that is killed after so many
renames; prints how the children ended."""


@pytest.mark.integration
@pytest.mark.fault(
    "ttrl restore is killed at any moment",
    sees="nothing, or that it is finished by the next command",
    keeps="what was there before, or all of the backup; what made room for it in both cases",
)
def test_a_restore_that_is_killed_is_all_or_nothing(state, tmp_path):
    """Of its renames the first decides; the others make room for adapters and for the store with
    its two files beside, and put the new ones in place: seven in all."""
    back_up(state, tmp_path / "b.tar")
    backed_up = held(state)
    with Store.open(state) as store:
        store.questions.record([Recorded(from_prompt("later"), 1.0)], holdout=0)
    before = held(state)
    assert len(list(state.glob("store.sqlite-*"))) == 2
    states = [shutil.copytree(state, tmp_path / f"state-{renames}") for renames in range(8)]
    command = [sys.executable, "-c", KILLED, tmp_path / "b.tar", *states]
    done = subprocess.run(command, capture_output=True, text=True)
    assert json.loads(done.stdout) == [-signal.SIGKILL] * 7 + [0], done.stderr
    for renames, killed in enumerate(states):
        prepare(killed)
        assert held(killed) == (before if renames == 0 else backed_up)
        aside = list(killed.glob("replaced-*"))
        assert [held(each) for each in aside] == ([] if renames == 0 else [before])
        assert not unfinished_restore(killed)


def test_a_restore_that_is_being_finished_is_waited_for(state, tmp_path, impatient):
    with staging(state, "20260101T000000Z") as staged, owning(state):
        decide_restore(staged)
        with pytest.raises(StateDirError, match="in use"):
            prepare(state)
        finish_restore(state)
    prepare(state)


def test_a_disk_without_room_is_said_before_anything(state, tmp_path, monkeypatch):
    from serve.cli import backup as command

    back_up(state, tmp_path / "b.tar")
    monkeypatch.setattr(command, "SPARE", 2**60)
    assert "are needed" in back_up(state, tmp_path / "c.tar", code=1)
    said = ttrl("restore", tmp_path / "b.tar", "--state-dir", tmp_path / "again", code=1)
    assert "nothing was changed" in said
    assert not (tmp_path / "again" / "store.sqlite").exists()


def test_a_backup_that_is_no_archive(tmp_path):
    (tmp_path / "b.tar").write_text("no archive")
    with pytest.raises(BackupError, match="not a backup"):
        backup.contents(tmp_path / "b.tar")
