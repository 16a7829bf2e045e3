"""The unit files: written whole, not over somebody's changes, and good in systemd's own eyes."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from serve.cli import main, service
from serve.cli.service import UNITS
from tests.services import needs
from ttrl.engine.process import VLLM_ENVIRONMENT, vllm_command

PROGRAM = shutil.which("true") or "/bin/true"
EXPOSURE = 21
"""Of 100: what a unit could do, as `systemd-analyze security` sums it up, which prints 2.1, of 10.
What is left is what a GPU, compilers of kernels, and a server of others need."""
needs_systemd = needs("systemd")


@pytest.fixture
def install(tmp_path):
    def run(*words, code=0):
        programs = ["--ttrl", PROGRAM, "--vllm", PROGRAM]
        done = CliRunner().invoke(
            main, ["service", "install", "--directory", str(tmp_path), *programs, *words]
        )
        assert done.exit_code == code, done.output
        return done.output

    return run


def test_units_are_written_for_this_program_and_the_next_steps_told(install, tmp_path):
    said = install()
    assert "systemctl enable ttrl.service ttrl-vllm.service" in said
    assert {path.name for path in tmp_path.iterdir()} == {"ttrl.service", "ttrl-vllm.service"}
    text = (tmp_path / "ttrl.service").read_text()
    assert f"ExecStart={PROGRAM} serve --config" in text
    assert "/opt/" not in text
    assert (tmp_path / "ttrl.service").stat().st_mode & 0o777 == 0o644


def test_a_changed_unit_is_replaced_by_force_only_and_then_all_are(install, tmp_path):
    install()
    ours = (tmp_path / "ttrl.service").read_text()
    (tmp_path / "ttrl-vllm.service").write_text("mine")
    (tmp_path / "ttrl.service").unlink()
    said = install(code=1)
    assert "ttrl-vllm.service would be changed" in said
    assert "systemctl edit" in said
    assert not (tmp_path / "ttrl.service").exists()
    install("--force")
    assert (tmp_path / "ttrl.service").read_text() == ours
    assert "unchanged" in install()


def test_print_writes_nothing(install, tmp_path):
    assert f"ExecStart={PROGRAM} serve" in install("--print")
    assert not list(tmp_path.iterdir())


def test_what_a_unit_could_not_run_is_refused(install, tmp_path):
    for path, why in (
        ("ttrl", "absolute path"),
        ("/nowhere/ttrl", "absolute path"),
        ("/", "absolute path"),
    ):
        assert why in install("--ttrl", path, code=2)
    script = tmp_path / "ttrl"
    script.write_text("#!/usr/bin/python3\n")
    script.chmod(0o755)
    assert "(PrivateTmp=yes)" in install("--ttrl", str(script), code=2)
    assert "cannot write units into /nowhere" in install("--directory", "/nowhere", code=1)


@pytest.mark.parametrize(
    ("first", "hidden"),
    [
        (b"#!/opt/ttrl/bin/python3 -I\n", None),
        (b"\x7fELF", None),
        (b"#!/home/me/.venv/bin/python\n", (Path("/home/me/.venv/bin/python"), "ProtectHome")),
        (b"#!/root/python\n", (Path("/root/python"), "ProtectHome")),
    ],
)
def test_a_program_is_seen_with_its_interpreter(first, hidden, tmp_path, monkeypatch):
    monkeypatch.setattr(service, "HIDDEN", {"ProtectHome": ("/home", "/root")})
    (tmp_path / "ttrl").write_bytes(first)
    assert service.hidden(tmp_path / "ttrl") == hidden


def test_vllms_unit_has_the_flags_and_the_environment_that_ttrl_would_give_it():
    text = (UNITS / "ttrl-vllm.service").read_text().replace("\\\n", " ")
    lines = dict(line.split("=", 1) for line in text.splitlines() if line.startswith("Exec"))
    found = shlex.split(lines["ExecStart"])
    *flags, last = found[found.index("--host") :]
    ours = vllm_command("m", 8001, "m", max_loras=6)
    assert flags == ours[ours.index("--host") :]
    assert last == "$FLAGS"
    given = [f"{name}={value}" for name, value in VLLM_ENVIRONMENT.items()]
    assert f"Environment={' '.join(given)}\n" in text


@pytest.mark.parametrize("name", ["ttrl.service", "ttrl-vllm.service"])
@needs_systemd
def test_systemd_finds_no_fault_and_little_that_a_unit_could_do(name, install, tmp_path):
    install()
    unit = str(tmp_path / name)
    analyse("verify", "--man=no", unit)
    analyse("security", "--offline=true", f"--threshold={EXPOSURE}", unit)


@pytest.mark.parametrize("name", ["a b", "50%x", "a%%b", "$HOME", "a;b", "ä#", "-"])
@needs_systemd
def test_any_path_of_a_program_is_one_word_to_systemd(name, tmp_path):
    """It looks whether the program is there."""
    program = tmp_path / "in" / name / "program"
    program.parent.mkdir(parents=True)
    shutil.copy(PROGRAM, program)
    for path, text in service.units(tmp_path, program, program).items():
        path.write_text(text)
        analyse("verify", "--man=no", str(path))


def test_a_path_that_no_unit_can_hold_is_refused(install):
    for path in ("/opt/a\nb/ttrl", "/opt/\udcff/ttrl", "/opt/it's/ttrl", "/a\\b", '/a"b'):
        assert "systemd cannot run a program" in install("--ttrl", path, code=2)


def analyse(*words: str) -> None:
    done = subprocess.run(["systemd-analyze", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "service:" not in done.stderr, done.stderr


def test_units_are_started_again_however_they_end():
    for file in UNITS.glob("*.service"):
        lines = file.read_text().splitlines()
        assert {"Restart=always", "StartLimitIntervalSec=0"} <= set(lines)
