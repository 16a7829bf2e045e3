"""`ttrl service`."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from serve import service as systemd
from serve.cli.common import fail, json_option, tell
from serve.service import Standing, Unit

CONFIGURATION = Path("/etc/ttrl/ttrl.yaml")
VLLM_SETTINGS = Path("/etc/ttrl/vllm.env")
USER = "ttrl"


@click.group()
def service() -> None:
    """Run under systemd."""


@service.command()
@click.option(
    "--directory",
    type=click.Path(path_type=Path),
    default=Path("/etc/systemd/system"),
    show_default=True,
    help="Where units are put.",
)
@click.option("--ttrl", type=click.Path(path_type=Path), help="The program, if not this one.")
@click.option(
    "--vllm",
    type=click.Path(path_type=Path),
    help="A `vllm` program: write ttrl-vllm.service for it, too.",
)
@click.option("--force", is_flag=True, help="Replace units that are not as they would be written.")
@click.option("--print", "print_only", is_flag=True, help="Write nothing; show what would be.")
@json_option
def install(
    directory: Path,
    ttrl: Path | None,
    vllm: Path | None,
    force: bool,
    print_only: bool,
    as_json: bool,
) -> None:
    """Write ttrl.service, and say what is to be done next.

    What is different with you belongs into drop-ins (`systemctl edit ttrl`), which stay when the
    units are written anew.
    """
    program = ttrl or systemd.own_program()
    units = systemd.units(directory, program, vllm)
    if print_only:
        words = "\n".join(f"# {unit.path}\n{unit.text}" for unit in units).removesuffix("\n")
        tell(as_json, words, units={str(unit.path): unit.text for unit in units})
        return
    for each in filter(None, (program, vllm)):
        _refuse_unusable(each)
    try:
        standing = _write(units, force)
    except OSError as error:
        fail(
            f"cannot write units into {directory} ({error.strerror}); "
            "be root, or choose another with --directory"
        )
    written = {str(unit.path): found is not Standing.SAME for unit, found in standing.items()}
    said = (f"{path}: {'written' if new else 'as it was'}" for path, new in written.items())
    words = "\n".join((*said, "Next, as root:", *_next_steps(units)))
    tell(as_json, words, written=written)


def _refuse_unusable(program: Path) -> None:
    if not systemd.writable(program):
        fail(f"systemd takes no program named {program}: install it under another name", code=2)
    if not program.is_absolute() or not os.access(program, os.X_OK) or program.is_dir():
        fail(f"{program} is no program: units need its whole path, and that it can run", code=2)
    if found := systemd.hidden(program):
        path, setting = found
        fail(
            f"the unit could not run {program}: it does not see {path} ({setting}=yes); install "
            "it elsewhere, such as in /opt, with a Python that every user may run",
            code=2,
        )


def _write(units: Sequence[Unit], force: bool) -> dict[Unit, Standing]:
    """All of them or none; how each stood before. Raises OSError."""
    standing = {unit: unit.standing() for unit in units}
    others = [str(unit.path) for unit, found in standing.items() if found is Standing.ANOTHER]
    if others and not force:
        fail(
            f"{' and '.join(others)} would be changed; look with --print, keep what is yours in a "
            "drop-in (`systemctl edit`), and give --force"
        )
    for unit, found in standing.items():
        if found is not Standing.SAME:
            unit.write()
    return standing


def _next_steps(units: Sequence[Unit]) -> Iterator[str]:
    names = [unit.path.name for unit in units]
    if not _has_user():
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


def _has_user() -> bool:
    try:
        pwd.getpwnam(USER)
    except KeyError:
        return False
    return True
