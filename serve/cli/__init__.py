"""`ttrl`: the command line. Commands are imported when they are called, so that help is quick.

Exit codes: 0 done, 1 failed or interrupted, 2 wrong usage or configuration, 3 no daemon is running,
4 what was trained did not pass its gate.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
from typing import Any

import click

from ttrl import ReportedError

COMMANDS = {
    "serve": ("daemon", "Run the daemon in front of an engine."),
    "adapt": ("runs", "Run one training run now."),
    "assess": ("measure", "Estimate the training signal in a log of questions."),
    "answers": ("measure", "Show how sampled answers are read and counted."),
    "measure": ("measure", "Measure how good the live version is."),
    "judge": ("judge", "Distill a judge from its recorded scores."),
    "ask": ("ask", "Ask the running daemon a question."),
    "status": ("status", "Show queue, live adapter, last and next run."),
    "page": ("status", "Print a link to the operator's page."),
    "logs": ("status", "Print or follow the logs of engine and runs."),
    "pause": ("status", "Pause scheduled runs."),
    "resume": ("status", "Resume scheduled runs."),
    "runs": ("runs", "List runs, show one, stop one."),
    "adapters": ("adapters", "List, show, promote, roll back, export and import versions."),
    "probes": ("labels", "Add, list and remove labelled probes."),
    "label": ("labels", "Judge answers side by side to label probes."),
    "feedback": ("labels", "List and export what clients say of answers."),
    "questions": ("questions", "List, release, delete, purge and export questions."),
    "keys": ("keys", "Add, list and remove API keys."),
    "backup": ("backup", "Copy store and versions into one file."),
    "restore": ("backup", "Restore store and versions from a backup."),
    "doctor": ("doctor", "Check the installation and say how to fix it."),
    "config": ("config", "Show, explain, check or begin the configuration."),
    "service": ("service", "Write systemd units."),
    "demo": ("demo", "Try the whole loop in minutes on a laptop."),
}
"""Each with its module in this room, and its line of help."""


class LazyGroup(click.Group):
    """A group that knows its commands' one-line help without importing them, and turns known
    failures into a sentence and an exit code, without a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.Abort, click.exceptions.Exit):
            raise
        except Exception as error:
            if failure := _failure(error):
                raise failure from error
            raise

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            if ctx.resilient_parsing:  # to complete a line in a shell
                return None
            raise click.NoSuchCommand(cmd_name, possibilities=COMMANDS, ctx=ctx)
        module = importlib.import_module(f"serve.cli.{COMMANDS[cmd_name][0]}")
        command: click.Command = getattr(module, cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


def _failure(error: Exception) -> click.ClickException | None:
    """How a command ends at a known failure; None for a defect."""
    from sqlalchemy.exc import DBAPIError

    from serve.cli.output import Failure
    from serve.gateway.keys import KeysUnreadable
    from ttrl.config.loading import ConfigError
    from ttrl.engine.memory import MemoryRefused
    from ttrl.store.database import cause

    match error:
        case ConfigError() | KeysUnreadable() | MemoryRefused():
            return Failure(str(error), 2)
        case ReportedError():
            return Failure(str(error))
        case FileExistsError():
            return Failure(f"{error.filename} already exists; choose a new name")
        case OSError() if not isinstance(error, BrokenPipeError):
            # For a daemon's journal: others do not log at this level.
            logging.getLogger(__name__).info("an unexpected error", exc_info=error)
            words = ": ".join(filter(None, (error.filename, error.strerror)))
            return Failure(words or str(error))
        case DBAPIError():
            return Failure(f"the store cannot be used: {cause(error)}; see `ttrl doctor`")
    return None


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="ttrl")
def main() -> None:
    """Make a self-hosted model better from the questions it is asked, without labels.

    \b
    ttrl serve --model NAME      in front of a vLLM of its own
    ttrl serve --engine-url URL  in front of yours
    ttrl demo                    see it work on this machine
    """
    os.umask(0o077)  # what is written here, and by what is started from here, is its owner's
    logging.captureWarnings(True)
    if not sys.stderr.isatty():
        sys.stderr.reconfigure(line_buffering=True)  # type: ignore[union-attr]
