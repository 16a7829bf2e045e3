"""`ttrl logs`: what engine, runs and measurements wrote."""

from __future__ import annotations

import os
import time
from collections import deque
from contextlib import suppress
from pathlib import Path

import click

from serve.cli.common import config_options
from serve.cli.output import fail, say
from ttrl.config import Config

LOOK_SECONDS = 0.5


@click.command()
@click.argument("name", required=False)
@click.option("--follow", "-f", is_flag=True, help="Go on as lines come, until Ctrl-C.")
@click.option(
    "--lines", "-n", type=click.IntRange(min=1), default=50, show_default=True,
    help="Number of last lines.",
)  # fmt: skip
@config_options
def logs(config: Config, name: str | None, follow: bool, lines: int) -> None:
    """Print the end of a log: NAME is engine, measure, run (the newest) or run-7; without it, the
    one that was written last.

    The daemon logs to its standard error: of a service, `journalctl --unit ttrl` shows it.
    """
    if name == "daemon":
        fail("the daemon logs to its standard error; of a service: journalctl --unit ttrl")
    found = sorted((config.state_dir / "logs").glob("*.log"), key=lambda file: file.stat().st_mtime)
    wanted = [file for file in found if name in (None, file.stem, file.stem.partition("-")[0])]
    if not wanted:
        there = ", ".join(file.stem for file in found) or "none"
        fail(f"there is no log {name or ''} in {config.state_dir / 'logs'}; there are: {there}")
    file = wanted[-1]
    click.echo(f"{file}:", err=True)
    with file.open("rb") as log:
        for line in deque(log, maxlen=lines):
            _print(line)
        place = log.tell()
    if follow:
        _follow(file, place)


def _follow(file: Path, place: int) -> None:
    """Print the lines behind a place as they are ended, also of the file that takes its place when
    it is rotated. Ctrl-C ends it."""
    number = file.stat().st_ino
    while True:
        with suppress(FileNotFoundError), file.open("rb") as log:  # it is missing between two files
            now = os.fstat(log.fileno())
            if now.st_ino != number or now.st_size < place:
                number, place = now.st_ino, 0
            log.seek(place)
            for line in log:
                if line.endswith(b"\n"):
                    _print(line)
                    place += len(line)
        time.sleep(LOOK_SECONDS)


def _print(line: bytes) -> None:
    say(line.decode("utf-8", "replace").rstrip("\r\n"))
