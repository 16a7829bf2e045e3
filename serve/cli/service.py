"""`ttrl service`: the unit files for systemd, what is in them, and putting them in place."""

from __future__ import annotations

import os
import re
import sysconfig
from importlib.resources import files
from pathlib import Path

import click

from serve.cli.common import PATH
from serve.cli.output import fail, json_option, tell
from ttrl.files import whole

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
NEXT_STEPS = """\
Next, as root:
  id ttrl || useradd --system --user-group --home-dir /var/lib/ttrl --no-create-home \\
    --shell /usr/sbin/nologin ttrl
  write /etc/ttrl/ttrl.yaml, with at least `state_dir: /var/lib/ttrl` and `model: {{name: ...}}`
  with --vllm, write /etc/ttrl/vllm.env, as ttrl-vllm.service says in its first lines
  systemctl daemon-reload
  systemctl enable {names}
  systemctl restart {names}
  systemctl status ttrl; journalctl --unit ttrl --follow"""


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


@click.group()
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
) -> None:
    """Write ttrl.service, and print the next steps.

    Put your own changes into drop-ins (`systemctl edit ttrl`), which are kept when the units are
    written again.
    """
    program = ttrl or Path(sysconfig.get_path("scripts")) / "ttrl"
    wanted = units(directory, program, vllm)
    if print_only:
        words = "\n".join(f"# {path}\n{text}" for path, text in wanted.items()).removesuffix("\n")
        tell(words, units={str(path): text for path, text in wanted.items()})
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
    there = {path: path.read_text(errors="replace") for path in wanted if path.exists()}
    changed = [str(path) for path, text in there.items() if text != wanted[path]]
    if changed and not force:
        fail(
            f"{' and '.join(changed)} would be changed: compare with --print, move your changes "
            f"to a drop-in (`systemctl edit`), then give --force"
        )
    if not os.access(directory, os.W_OK):
        fail(
            f"cannot write units into {directory}; run as root, or choose another directory with "
            f"--directory"
        )
    new = {str(path): there.get(path) != text for path, text in wanted.items()}
    for path, text in wanted.items():
        with whole(path, again=True) as file:
            os.fchmod(file.fileno(), 0o644)
            file.write(text.encode())
    lines = [f"{path}: {'written' if new[path] else 'unchanged'}" for path in new]
    names = " ".join(path.name for path in wanted)
    tell("\n".join([*lines, NEXT_STEPS.format(names=names)]), written=new)
