"""`ttrl service`: the unit files for systemd, what is in them, and putting them in place."""

from __future__ import annotations

import os
import pwd
import re
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from importlib.resources import files
from pathlib import Path

import click

from serve.cli import Group
from serve.cli.common import PATH, json_option
from serve.cli.output import fail, tell

_PACKAGE = Path(str(files("serve")))
UNITS = next(p for p in (_PACKAGE / "units", _PACKAGE.parent / "systemd") if p.is_dir())
"""Where the wheel has them, or in the tree."""
TTRL, VLLM = "/opt/ttrl/bin/ttrl", "/opt/vllm/bin/vllm"
"""The programs as the files in the package have them."""
HIDDEN = {
    "ProtectHome": ("/home", "/root", "/run/user"),
    "PrivateTmp": ("/tmp", "/var/tmp"),  # noqa: S108 - named, not used
}
"""Where the units see nothing, by the setting that makes it so."""
CONFIGURATION = Path("/etc/ttrl/ttrl.yaml")
VLLM_SETTINGS = Path("/etc/ttrl/vllm.env")
USER = "ttrl"


def units(directory: Path, ttrl: Path, vllm: Path | None = None) -> dict[Path, str]:
    """The text of the daemon's unit, and of vLLM's if its program is named, by their files."""
    programs = {"ttrl.service": (TTRL, ttrl)}
    if vllm is not None:
        programs["ttrl-vllm.service"] = (VLLM, vllm)
    texts = {}
    for name, (placeholder, program) in programs.items():
        # One word of a command line of systemd's, for which % begins what it puts in itself.
        word = str(program).replace("%", "%%")
        if not re.fullmatch(r"[\w/.+@:,=~%-]+", word):
            word = f'"{word}"'
        text = (UNITS / name).read_text(encoding="utf-8")
        texts[directory / name] = text.replace(placeholder, word)
    return texts


def hidden(program: Path) -> tuple[Path, str] | None:
    """What the units would not see of what it takes to run a program, itself or its interpreter,
    and the setting that hides it. Raises OSError."""
    with program.open("rb") as file:
        first = file.readline(1024)
    needed = [program]
    if first.startswith(b"#!"):
        needed += [Path(os.fsdecode(word)) for word in first[2:].split()[:1]]
    for path in (*needed, *(path.resolve() for path in needed)):
        for setting, directories in HIDDEN.items():
            if any(path.is_relative_to(directory) for directory in directories):
                return path, setting
    return None


@click.group(cls=Group)
def service() -> None:
    """Run under systemd."""


@service.command()
@click.option(
    "--directory",
    type=PATH,
    default=Path("/etc/systemd/system"),
    show_default=True,
    help="Where to write the units.",
)
@click.option("--ttrl", type=PATH, help="The ttrl program, if not this one.")
@click.option("--vllm", type=PATH, help="A `vllm` program: also write ttrl-vllm.service for it.")
@click.option("--force", is_flag=True, help="Overwrite units that differ.")
@click.option("--print", "print_only", is_flag=True, help="Print the units; write nothing.")
@json_option
def install(
    directory: Path,
    ttrl: Path | None,
    vllm: Path | None,
    force: bool,
    print_only: bool,
    as_json: bool,
) -> None:
    """Write ttrl.service, and print the next steps.

    Put your own changes into drop-ins (`systemctl edit ttrl`), which are kept when the units are
    written again.
    """
    program = ttrl or Path(sysconfig.get_path("scripts")) / "ttrl"
    wanted = units(directory, program, vllm)
    if print_only:
        words = "\n".join(f"# {path}\n{text}" for path, text in wanted.items()).removesuffix("\n")
        tell(as_json, words, units={str(path): text for path, text in wanted.items()})
        return
    for each in filter(None, (program, vllm)):
        if not str(each).isprintable() or set("'\"\\").intersection(str(each)):
            fail(
                f"systemd cannot run a program named {each}: install it under another name", code=2
            )
        if not each.is_absolute() or not os.access(each, os.X_OK) or each.is_dir():
            fail(f"{each} is not an executable file: give its absolute path", code=2)
        if found := hidden(each):
            fail(
                f"the unit could not run {each}: it cannot see {found[0]} ({found[1]}=yes); "
                "install it elsewhere, such as in /opt, with a Python that every user may run",
                code=2,
            )
    try:
        written = _write(wanted, force)
    except OSError as error:
        fail(
            f"cannot write units into {directory} ({error.strerror}); "
            "run as root, or choose another directory with --directory"
        )
    lines = [f"{path}: {'written' if new else 'unchanged'}" for path, new in written.items()]
    lines += ["Next, as root:", *_next_steps([path.name for path in wanted])]
    tell(as_json, "\n".join(lines), written=written)


def _write(units: Mapping[Path, str], force: bool) -> dict[str, bool]:
    """All of them or none, each whole or not at all; whether each is new. Raises OSError."""
    there: dict[Path, str] = {}
    for path in units:
        with suppress(FileNotFoundError):
            there[path] = path.read_text(encoding="utf-8", errors="replace")
    others = [str(path) for path, text in there.items() if text != units[path]]
    if others and not force:
        fail(
            f"{' and '.join(others)} would be changed: compare with --print, move your changes "
            f"to a drop-in (`systemctl edit`), then give --force"
        )
    for path, text in units.items():
        if there.get(path) != text:
            staging = path.with_name(f".{path.name}.new")
            staging.write_text(text, encoding="utf-8")
            staging.chmod(0o644)
            staging.replace(path)
    return {str(path): there.get(path) != text for path, text in units.items()}


def _next_steps(names: Sequence[str]) -> Iterator[str]:
    try:
        pwd.getpwnam(USER)  # not all users: a directory service need not list them
    except KeyError:
        yield (
            f"  useradd --system --user-group --home-dir /var/lib/{USER} --no-create-home "
            f"--shell /usr/sbin/nologin {USER}"
        )
    if not CONFIGURATION.exists():
        yield (
            f"  write {CONFIGURATION}, with at least `state_dir: /var/lib/ttrl` and "
            "`model: {name: ...}`"
        )
    if len(names) > 1 and not VLLM_SETTINGS.exists():
        yield f"  write {VLLM_SETTINGS}, as ttrl-vllm.service says in its first lines"
    yield "  systemctl daemon-reload"
    yield f"  systemctl enable {' '.join(names)}"
    yield f"  systemctl restart {' '.join(names)}"
    yield "  systemctl status ttrl; journalctl --unit ttrl --follow"
