"""`ttrl doctor`."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from serve.cli.common import (
    Failure,
    Resolve,
    counted,
    plain,
    print_json,
    standard_options,
)
from serve.doctor import Finding, Outcome, examine

STYLES = {
    Outcome.OK: "green",
    Outcome.NOTE: "cyan",
    Outcome.WARNING: "yellow",
    Outcome.BROKEN: "bold red",
}
WIDE = 160


@click.command()
@standard_options
def doctor(resolve: Resolve, as_json: bool) -> None:
    """Check the installation, and say how to fix what is wrong. Nothing is changed.

    Give it the daemon's configuration. Exit code 1 if something is broken.
    """
    findings = list(_examine(resolve))
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        _show(findings)
    if any(finding.outcome is Outcome.BROKEN for finding in findings):
        raise SystemExit(1)


def _examine(resolve: Resolve) -> Iterator[Finding]:
    """A configuration that cannot be read is what is wrong."""
    try:
        config = resolve().config
    except Failure as failure:
        yield Finding("configuration", Outcome.BROKEN, failure.message, "see `ttrl config show`")
        return
    yield Finding("configuration", Outcome.OK, "every setting is valid")
    yield from examine(config, time.time())


def _show(findings: Sequence[Finding]) -> None:
    table, console = Table(box=None, show_header=False), Console()
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        style = STYLES[finding.outcome]
        table.add_row(Text(finding.outcome, style), finding.check, plain(finding.what))
        if finding.mend:
            table.add_row("", "", plain(f"-> {finding.mend}"))
    if not console.is_terminal:
        console.width = WIDE
    console.print(table)
    counts = Counter(finding.outcome for finding in findings)
    broken, warned = counts[Outcome.BROKEN], counts[Outcome.WARNING]
    click.echo(f"{broken} broken, {counted(warned, 'warning')}.")
