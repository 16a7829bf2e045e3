"""`ttrl backup` and `ttrl restore`."""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click
from rich.progress import BarColumn, DownloadColumn, TextColumn

from serve import state
from serve.cli.common import PATH, require_state_dir, standard_options
from serve.cli.output import fail, print_json, progress, tell, wants_json
from ttrl import backup as archive
from ttrl.backup import Manifest, Newest
from ttrl.config import Config
from ttrl.config.section import clock
from ttrl.files import hand_over, stamp, whole
from ttrl.store.database import FILE
from ttrl.words import counted

COLUMNS = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
SPARE = 64 * 1024**2
"""Bytes that a disk must have left beside what is written."""
MIB = 1024**2


@click.command()
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@click.option(
    "--adapters-only",
    is_flag=True,
    help="Leave out the store, for example because it is in PostgreSQL.",
)
@standard_options
def backup(config: Config, file: Path, adapters_only: bool) -> None:
    """Copy the store and every version into FILE, a tar; `-` is standard output.

    The daemon may run, answer and learn meanwhile: the copy is a consistent snapshot. FILE
    contains your users' questions: keep it safe.
    """
    require_state_dir(config)
    piped = str(file) == "-"
    if piped and wants_json():
        fail(
            "cannot write both the backup and JSON to stdout; give a file or leave out --json",
            code=2,
        )
    if piped and sys.stdout.isatty():
        fail(
            "refusing to write a backup to a terminal; redirect stdout to a file or pipe it", code=2
        )
    if not piped and file.exists():
        fail(f"{file} already exists; choose a new name")
    if not piped and config.state_dir.resolve() in file.resolve().parents:
        fail(f"{file} is in the state directory and would be lost with it; choose a path outside")
    if state.unfinished_restore(config.state_dir):
        state.prepare(config.state_dir)
    made = _back_up(config, file, piped, not adapters_only)
    if not adapters_only:
        newest = Newest(made.at, str(file.resolve()))
        if piped:  # what went into a pipe is elsewhere: the newest file is the one from before
            before = archive.newest(config.state_dir)
            newest = Newest(made.at, before.file if before else None, piped=True)
        try:
            archive.remember(config.state_dir, newest)
        except OSError as error:  # a full or read-only disk is when one backs up
            click.echo(f"Not noted as the newest backup: {error.strerror}.", err=True)
    for why in made.left_out.values():
        click.echo(f"Left out: {why}; see `ttrl doctor`.", err=True)
    if wants_json():
        print_json({"file": str(file.resolve()), "left_out": made.left_out, **_fields(made)})
    else:
        click.echo(f"{'-' if piped else file} has {_words(made)}.", err=piped)


@click.command()
@click.argument("file", type=PATH)
@click.option(
    "--force", is_flag=True, help="Move the current contents of the state directory aside."
)
@standard_options
def restore(config: Config, file: Path, force: bool) -> None:
    """Restore FILE, a backup, into the state directory.

    The whole backup is verified before anything is replaced. With --force, the previous contents
    are moved to `replaced-TIME` in the state directory.
    """
    manifest = archive.contents(file)
    archive.check_revision(manifest)
    if FILE in manifest.members and config.store.url is not None:
        fail(
            f"{file} holds an SQLite store, but store.url names another database: restore it "
            f"without store.url, or restore the database with its own tools",
            code=2,
        )
    with state.owning(config.state_dir):
        parts = {name.partition("/")[0] for name in manifest.members}
        if (there := state.in_the_way(config.state_dir, parts)) and not force:
            fail(
                f"{config.state_dir} already holds {', '.join(there)}; choose an empty "
                "directory with --state-dir, or move its contents aside with --force"
            )
        _require_room(config.state_dir, manifest.size)
        with (
            state.staging(config.state_dir, stamp(time.time())) as staged,
            progress("restoring", *COLUMNS) as move,
        ):
            archive.unpack(file, staged, lambda size: move(advance=size, total=manifest.size))
            state.decide_restore(staged)
        aside = state.finish_restore(config.state_dir)
    hand_over(config.state_dir, config.state_dir)
    words = f"{config.state_dir} now has {_words(manifest)}."
    if aside:
        words += (
            f"\nThe previous contents are in {aside}; delete them when you no longer need them."
        )
    tell(words, aside=aside, **_fields(manifest))


def _back_up(config: Config, file: Path, piped: bool, store: bool) -> Manifest:
    """The store's copy lies where the backup is to go, which has to have room for it."""
    state_dir, url = config.state_dir, config.store.url
    sizes = archive.size_of(state_dir, url, store=store)
    beside = Path(tempfile.gettempdir()) if piped else file.absolute().parent
    _require_room(beside, sizes[0] + (0 if piped else sum(sizes)))
    target = nullcontext(sys.stdout.buffer) if piped else whole(file)
    with (
        tempfile.TemporaryDirectory(prefix=".ttrl-backup-", dir=beside) as work,
        target as out,
        progress("backing up", *COLUMNS) as move,
    ):
        total = sum(sizes)
        return archive.write(
            out, state_dir, url, Path(work), lambda size: move(advance=size, total=total),
            store=store,
        )  # fmt: skip


def _require_room(directory: Path, size: int) -> None:
    free = shutil.disk_usage(directory).free
    if free < size + SPARE:
        fail(
            f"{directory} has room for {free / MIB:.0f} MiB, but {(size + SPARE) / MIB:.0f} MiB "
            f"are needed; nothing was changed"
        )


def _fields(manifest: Manifest) -> dict[str, Any]:
    return {
        "at": manifest.at,
        "ttrl": manifest.ttrl,
        "store": FILE in manifest.members,
        "revision": manifest.revision,
        "versions": manifest.versions,
        "bytes": manifest.size,
    }


def _words(manifest: Manifest) -> str:
    store = "the store and " if FILE in manifest.members else ""
    versions = counted(manifest.versions, "version")
    return f"{store}{versions} as of {clock(manifest.at)}, {manifest.size / MIB:.1f} MiB"
