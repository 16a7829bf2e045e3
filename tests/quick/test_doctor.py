"""Whatever is wrong with an installation is found, with what mends it; nothing is changed."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import sqlite3
import sys
import time
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from packaging.requirements import Requirement

from serve.cli import doctor as doctor_room
from serve.cli import main
from serve.cli.doctor import Outcome
from serve.state import OWNER, announce, owner_at, owning
from tests.migrations import TODAY
from tests.versions import publish
from ttrl.backup import Newest
from ttrl.config import Config
from ttrl.questions.question import from_prompt
from ttrl.store import Store, StoreDamaged
from ttrl.store.questions import Recorded
from ttrl.store.runs import Run, RunState, Trigger

OK, NOTE, WARNING, BROKEN = Outcome
MIB = 1024**2
DAY = 86_400.0


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    made = tmp_path_factory.mktemp("made") / "state"
    made.mkdir(mode=0o700)
    with Store.open(made) as opened:
        asked = [Recorded(from_prompt(f"question {n}"), 1.0) for n in range(500)]
        opened.questions.record(asked, holdout=0)
    publish(made, 2)
    return made


@pytest.fixture
def state(tmp_path, made):
    """A state directory with questions and two versions, where nothing is wrong."""
    return shutil.copytree(made, tmp_path / "state")


@pytest.fixture
def doctor(state, monkeypatch):
    """Runs it, as a program does; what is not well, by check, without what every test machine
    lacks."""
    monkeypatch.setattr(doctor_room, "ASK_SECONDS", 0.5)
    monkeypatch.setattr(doctor_room, "LOCK_SECONDS", 0.1)
    usual = {"engine.kind": "embedded", "gateway.port": 0, "admin.port": 0}

    def run(*words, **settings):
        given = {**usual, **{name.replace("__", "."): value for name, value in settings.items()}}
        sets = [word for pair in given.items() for word in ("--set", "{}={}".format(*pair))]
        command = ["doctor", "--json", "--state-dir", str(state), *sets, *words]
        done = CliRunner().invoke(main, command)
        assert isinstance(done.exception, SystemExit | None), done.exception
        findings = json.loads(done.output)
        assert done.exit_code == any(each["outcome"] == "broken" for each in findings)
        bad = [each for each in findings if each["outcome"] != "ok"]
        return {each["check"]: each for each in bad if each["check"] not in ("model", "backups")}

    return run


def test_nothing_is_wrong_and_nothing_is_changed(state, doctor):
    def files():
        found = (path for path in state.rglob("*") if not path.name.endswith(("-wal", "-shm")))
        return {path: path.is_file() and path.read_bytes() for path in found}

    before = files()
    assert doctor() == {}
    assert files() == before


def test_on_a_terminal_it_is_a_table_and_a_sentence(state):
    command = ["doctor", "--state-dir", str(state), "--set", "engine.kind=embedded"]
    said = CliRunner().invoke(main, command).output
    assert f"{state}, accessible to its owner only" in " ".join(said.split())
    assert "there is no backup yet" in said
    assert "-> ttrl backup FILE" in said
    assert re.search(r"^\d broken, \d warnings?\.$", said, re.MULTILINE)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("gateway: {prot: 1}", "did you mean gateway.port?"),
        ("update: {steps: 0, keep: 1}", "update.steps"),
        (": :", "is not valid YAML"),
    ],
)
def test_a_configuration_that_cannot_be_read_is_the_finding(doctor, tmp_path, text, said):
    (tmp_path / "ttrl.yaml").write_text(text)
    found = doctor("--config", str(tmp_path / "ttrl.yaml"))
    assert list(found) == ["configuration"]
    assert said in found["configuration"]["what"]


@pytest.mark.parametrize("text", [None, "["])
def test_a_file_of_keys_that_is_none(doctor, tmp_path, text):
    file = tmp_path / "keys.yaml"
    if text is not None:
        file.write_text(text)
    found = doctor(gateway__keys=file)["keys"]
    assert (found["outcome"], str(file) in found["what"]) == ("broken", True)
    check = ["config", "check", "--set", f"gateway.keys={file}"]
    assert CliRunner().invoke(main, check).exit_code == 2
    file.write_text("[]")
    assert "keys" not in doctor(gateway__keys=file)


@pytest.mark.parametrize("cut", [Path.unlink, lambda file: file.write_bytes(b"")])
def test_a_store_that_was_lost(state, doctor, cut):
    for file in state.glob("store.sqlite*"):
        cut(file)
    found = doctor()["store"]
    assert found["outcome"] == "broken"
    assert "beside 2 versions on disk: the store was lost" in found["what"]
    assert "ttrl restore" in found["mend"]
    with pytest.raises(StoreDamaged, match="was lost"):
        Store.open(state)
    for each in ("store.sqlite", "adapters"):
        if (state / each).exists():
            (state / each).rename(state / f"away-{each}")
    Store.open(state).close()


def test_a_store_that_can_never_be(doctor):
    assert "there is no directory" in doctor(store__url="sqlite:////nowhere/x.db")["store"]["what"]


def test_before_the_first_start(tmp_path):
    state_dir = tmp_path / "none"
    command = ["doctor", "--json", "--state-dir", str(state_dir), "--set", "engine.kind=embedded"]
    findings = json.loads(CliRunner().invoke(main, command).output)
    (found,) = [each for each in findings if each["check"] == "state directory"]
    assert (found["outcome"], state_dir.exists()) == ("note", False)


def test_vllm_is_asked_for_where_it_is_to_run(doctor):
    assert "has no vLLM" in doctor(engine__kind="vllm")["vllm"]["what"]
    other = doctor(engine__kind="vllm", engine__python="/no/such/python")["vllm"]
    assert "cannot run" in other["what"]
    assert "vllm" not in doctor(engine__kind="vllm", engine__url="http://127.0.0.1:1")


@pytest.mark.parametrize(
    ("installed", "said"),
    [
        ({"a": "1.5", "b": "2.1"}, []),
        ({"a": "1.5", "b": "2.1", "c": "0"}, []),
        ({"a": "1.5"}, ["b is not installed"]),
        ({"a": "0.9", "b": "3"}, ["a is 0.9, but >=1 is required", "b is 3, but <3,>=2 is"]),
    ],
)
def test_what_is_required_with_the_extras(monkeypatch, installed, said):
    required = map(Requirement, ["a>=1", 'b>=2,<3; extra == "train"', 'c>=1; extra == "embed"'])

    def version(name):
        if name not in installed:
            raise doctor_room.metadata.PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(doctor_room.metadata, "version", version)
    found = dict(doctor_room.unmet(required, ("", "train"))).values()
    assert len(found) == len(said)
    assert all(map(str.startswith, found, said))


@pytest.mark.parametrize(
    ("mode", "owners", "us", "outcome", "mend"),
    [
        (0o700, [1000], 1000, OK, ""),
        (0o700, [1000], 0, OK, ""),
        (0o700, [1000], 1001, BROKEN, "as its owner"),
        (0o700, [1000, 0], 1000, BROKEN, "chown -R 1000 /state"),
        (0o750, [1000], 1000, WARNING, "chmod 700"),
        (0o500, [1000], 1000, BROKEN, "chmod u+rwx"),
    ],
)
def test_who_may_do_what(mode, owners, us, outcome, mend):
    inside = {f"/state/{number}": uid for number, uid in enumerate(owners)}
    found = doctor_room.judge_access(Path("/state"), 1000, mode, inside, us)
    assert found.outcome is outcome
    assert mend in found.mend


@pytest.mark.parametrize(
    ("free", "outcome"), [(1000, OK), (300, OK), (255, WARNING), (63, BROKEN), (0, BROKEN)]
)
def test_room_on_the_disk(monkeypatch, tmp_path, free, outcome):
    usage = SimpleNamespace(free=free * MIB)
    monkeypatch.setattr(doctor_room.shutil, "disk_usage", lambda _: usage)
    assert doctor_room.disk(Config(state_dir=tmp_path)).outcome is outcome


@pytest.mark.parametrize(
    ("days", "there", "outcome"),
    [(None, True, NOTE), (1, True, OK), (8, True, WARNING), (1, False, WARNING)],
)
def test_how_old_the_newest_backup_is(monkeypatch, tmp_path, days, there, outcome):
    (tmp_path / "there.tar").touch()
    file = str(tmp_path / ("there.tar" if there else "gone.tar"))
    newest = None if days is None else Newest(100 * DAY - days * DAY, file)
    monkeypatch.setattr(doctor_room.backup, "newest", lambda _: newest)
    assert doctor_room.backups(Config(state_dir=tmp_path), 100 * DAY).outcome is outcome


@pytest.mark.parametrize(("hours", "outcome"), [(0, None), (1, "warning"), (1e12, "warning")])
def test_rows_from_the_future(state, doctor, hours, outcome):
    with Store.open(state) as opened:
        later = Recorded(from_prompt("later"), time.time() + hours * 3600)
        opened.questions.record([later], holdout=0)
    assert doctor().get("clock", {}).get("outcome") == outcome


def test_nothing_in_the_current_directory_is_a_library(monkeypatch, tmp_path):
    (tmp_path / "email.py").write_text("open('run', 'w')")
    monkeypatch.chdir(tmp_path)
    doctor_room.vllm(sys.executable)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("state", "silent", "owned", "outcome"),
    [
        (RunState.UPDATING, 5, True, OK),
        (RunState.UPDATING, 60, True, BROKEN),
        (RunState.UPDATING, 60, False, NOTE),
    ],
)
def test_a_run_that_says_it_is_at_work(state, silent, owned, outcome):
    run = Run(
        3, Trigger.SCHEDULE, state, None, 0.0, 1.0, None, 1000.0 - silent, 1, {}, None, None, None,
        0, 0, 0, 0,
    )  # fmt: skip
    assert doctor_room.judge_run(run, 1000.0, owned).outcome is outcome
    assert doctor_room.judge_run(None, 1000.0, owned).outcome is OK


@pytest.mark.fault(
    "the store's file is damaged",
    sees="ttrl doctor says so, and which backup to restore by which command",
    keeps="the newest backup, put back by that command",
)
@pytest.mark.parametrize(("at", "size"), [(0, 100), (8192, 32768)])
def test_a_damaged_store_is_mended_as_it_says(state, doctor, tmp_path, at, size):
    backup = tmp_path / "night.tar"
    words = ["backup", str(backup), "--state-dir", str(state)]
    assert CliRunner().invoke(main, words).exit_code == 0
    with (state / "store.sqlite").open("r+b") as file:
        file.seek(at)
        file.write(os.urandom(size))
    found = doctor()["store"]
    assert (found["outcome"], "damaged" in found["what"]) == ("broken", True)
    command = f"ttrl restore --force {backup} --state-dir {state}"
    assert f"stop the daemon, then `{command}`" in found["mend"]
    assert f"move {state}/store.sqlite, " in found["mend"]
    assert CliRunner().invoke(main, command.split()[1:]).exit_code == 0
    assert [each["check"] for each in doctor().values()] == ["leftovers"]
    with Store.open(state) as opened:
        assert opened.questions.times_asked() == 500


def test_a_damaged_store_without_a_backup(state, doctor):
    (state / "store.sqlite").write_bytes(b"no database, for sure" * 1000)
    (state / "backups").mkdir()
    (state / "backups" / "store-0008-20260101T000000Z.sqlite").touch()
    mend = doctor()["store"]["mend"]
    assert "ttrl restore --force FILE" in mend
    assert "store-0008-20260101T000000Z.sqlite, a copy from before an upgrade" in mend


def test_rows_that_refer_to_nothing(state, doctor):
    with closing(sqlite3.connect(state / "store.sqlite")) as connection, connection:
        connection.execute("INSERT INTO adapter_questions VALUES ('nobody', 99)")
    assert "rows of adapter_questions refer to missing rows" in doctor()["store"]["what"]


def test_tables_that_nothing_says_the_revision_of(state, doctor):
    with closing(sqlite3.connect(state / "store.sqlite")) as connection, connection:
        connection.execute("DELETE FROM alembic_version")
    found = doctor()["schema"]
    assert found["outcome"] == "broken"
    assert "ttrl restore" in found["mend"]


def test_a_version_that_should_serve_and_is_none(state, doctor):
    with closing(sqlite3.connect(state / "store.sqlite")) as connection, connection:
        connection.execute(
            "INSERT INTO wanted (adapter, author, reason, at) VALUES ('nope', 'x', 'x', 1)"
        )
    found = doctor()["versions"]
    assert (found["outcome"], "nope should be live" in found["what"]) == ("broken", True)


@pytest.mark.parametrize("text", ['{"at": "x", "file": 5}', "[" * 200_000, '{"at": 1e300}', "[]"])
def test_nonsense_of_the_newest_backup_is_none(state, doctor, text):
    (state / "backups").mkdir(mode=0o700)
    (state / "backups" / "newest.json").write_text(text)
    assert doctor() == {}


def test_a_check_that_fails_itself_is_a_finding_and_the_others_go_on(state, doctor, monkeypatch):
    def fails(*_):
        raise TypeError("of what a user wrote")

    monkeypatch.setattr(doctor_room, "directory", fails)
    monkeypatch.setattr(doctor_room, "timestamps", fails)
    shutil.rmtree(next((state / "adapters").iterdir()))
    found = doctor()
    assert found.keys() == {"state directory", "clock", "versions"}
    assert "TypeError at" in found["clock"]["what"]
    assert "a user" not in str(found)


def test_a_writer_that_does_not_let_go(state, doctor):
    with closing(sqlite3.connect(state / "store.sqlite")) as connection:
        connection.isolation_level = None
        connection.execute("BEGIN IMMEDIATE")
        assert "locked" in doctor()["writing"]["what"]
        connection.execute("ROLLBACK")
    assert doctor() == {}


def test_an_older_and_a_newer_store_are_left_as_they_are(state, doctor, upgraded):
    upgraded()
    assert doctor()["schema"]["outcome"] == "note"
    with Store.look(state) as look:
        assert look.revision() == TODAY
    with closing(sqlite3.connect(state / "store.sqlite")) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    assert doctor()["schema"]["outcome"] == "broken"


def test_a_postgresql_that_does_not_answer(doctor):
    found = doctor(store__url="postgresql://me:hush@127.0.0.1:1/ttrl")["store"]
    assert found["outcome"] == "broken"
    assert "hush" not in str(found)


def test_versions_that_are_not_as_the_store_has_them(state, doctor, tmp_path):
    with Store.look(state) as look:
        wanted, previous = (row.name for row in look.adapters.all())
    weights = state / "adapters" / wanted / "adapter_model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-8])
    found = doctor()["versions"]
    assert (found["outcome"], wanted in found["what"]) == ("broken", True)
    weights.write_bytes(whole)
    shutil.move(state / "adapters" / previous, state / "adapters" / "nobodys")
    (state / "adapters" / ".staging-x").mkdir()
    found = doctor()
    assert "nobodys" in found["versions"]["what"], "the last of its findings"
    assert ".staging-x" in found["leftovers"]["what"]
    assert doctor(model__name=str(tmp_path))["versions"]["outcome"] == "note"


def test_versions_of_another_base_model(state, doctor, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    found = doctor(model__name=str(tmp_path))["versions"]
    assert "was made for another base model" in found["what"]


def test_what_a_run_left(state, doctor):
    (state / "runs" / "12").mkdir(parents=True)
    (state / "runs" / "12" / "weights").write_bytes(b"x")
    assert f"rm -r {state}/runs/12" in doctor()["leftovers"]["mend"]


@pytest.mark.fault(
    "a daemon hangs and still owns its state directory",
    sees="ttrl doctor names its process",
    keeps="everything",
)
def test_a_daemon_that_hangs(state, doctor):
    with socket.create_server(("127.0.0.1", 0)) as listener, owning(state):
        announce(state, owner_at(f"http://127.0.0.1:{listener.getsockname()[1]}"))
        found = doctor()["daemon"]
    assert found["outcome"] == "broken"
    assert f"kill {os.getpid()}" in found["mend"]


def test_a_daemon_that_was_killed_or_starts(state, doctor):
    with owning(state):
        assert "no address yet" in doctor()["daemon"]["what"]
    (state / OWNER).write_text("{}")
    assert "was killed" in doctor()["daemon"]["what"]


def test_addresses_that_are_taken(doctor):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert doctor(gateway__port=port)["addresses"]["outcome"] == "broken"
        assert doctor(admin__port=port)["addresses"]["outcome"] == "warning"


def test_an_engine_that_is_not_up(doctor):
    found = doctor(engine__url="http://127.0.0.1:1")["engine"]
    assert "no engine answers" in found["what"]


def test_what_cannot_be_looked_at_is_a_finding(state, doctor, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied", "/somewhere")

    monkeypatch.setattr(doctor_room.shutil, "disk_usage", refuse)
    assert "Permission denied" in doctor()["disk"]["what"]
