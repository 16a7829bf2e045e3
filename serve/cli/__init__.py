"""`ttrl`: the command line. Commands are imported when they are called, so that help is quick.

Exit codes: 0 done, 1 failed or interrupted, 2 wrong usage or configuration, 3 no daemon is running,
4 the gate did not let the candidate ship.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys

import click

COMMANDS = {
    "serve": ("serve.cli.daemon", "serve", "Run the daemon in front of an engine."),
    "adapt": ("serve.cli.adapt", "adapt", "Adapt once, by hand."),
    "assess": ("serve.cli.assess", "assess", "Say what a vote could teach; train nothing."),
    "measure": ("serve.cli.measure", "measure", "Say how good the live version is."),
    "status": ("serve.cli.status", "status", "Show queue, live adapter, last and next run."),
    "page": ("serve.cli.status", "page", "Print a link to the operator's page."),
    "pause": ("serve.cli.status", "pause", "Start no more scheduled runs."),
    "resume": ("serve.cli.status", "resume", "Start scheduled runs again."),
    "runs": ("serve.cli.runs", "runs", "List runs, show one, stop one."),
    "adapters": ("serve.cli.adapters", "adapters", "List, show, promote, roll back, export."),
    "probes": ("serve.cli.probes", "probes", "Add, list and remove labelled probes."),
    "label": ("serve.cli.label", "label", "Judge answers, side by side, into labelled probes."),
    "questions": (
        "serve.cli.questions",
        "questions",
        "List, release, delete, purge, export.",
    ),
    "keys": ("serve.cli.keys", "keys", "Say who may ask: add, list, remove keys."),
    "backup": ("serve.cli.backup", "backup", "Copy store and versions into one file."),
    "restore": ("serve.cli.backup", "restore", "Put a backup in their place."),
    "doctor": ("serve.cli.doctor", "doctor", "Say what is wrong, and how to mend it."),
    "config": ("serve.cli.config", "config", "Show or check the configuration."),
    "service": ("serve.cli.service", "service", "Write the units for systemd."),
    "demo": ("serve.cli.demo", "demo", "See the whole thing work, in minutes, on a laptop."),
}


class LazyGroup(click.Group):
    """A group that knows its commands' one-line help without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, name, _ = COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in COMMANDS.items()])


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
