"""`ttrl doctor`."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import asdict

import click

from serve.cli.common import Resolve, resolve_options
from serve.cli.output import json_option, plain, print_json, say, wants_json
from serve.doctor import Outcome, broken, examine, ok
from ttrl.config.loading import ConfigError
from ttrl.words import counted

COLOURS = {
    Outcome.OK: "green",
    Outcome.NOTE: "cyan",
    Outcome.WARNING: "yellow",
    Outcome.BROKEN: "red",
}
WIDTH = 15


@click.command()
@json_option
@resolve_options
def doctor(resolve: Resolve) -> None:
    """Check the installation, and say how to fix what is wrong. Nothing is changed.

    Give it the daemon's configuration. Exit code 1 if something is broken.
    """
    try:
        config = resolve().config
    except ConfigError as error:
        findings = [("configuration", broken(str(error), "see `ttrl config show`"))]
    else:
        valid = "configuration", ok("every setting is valid")
        findings = [valid, *examine(config, time.time())]
    counts = Counter(finding.outcome for _, finding in findings)
    if wants_json():
        print_json([{"check": check, **asdict(finding)} for check, finding in findings])
    else:
        for check, finding in findings:
            outcome = click.style(f"{finding.outcome:8}", COLOURS[finding.outcome])
            click.echo(f"{outcome} {check:{WIDTH}} {plain(finding.what)}")
            if finding.mend:
                say(f"{'':8} {'':{WIDTH}} -> {finding.mend}")
        warnings = counted(counts[Outcome.WARNING], "warning")
        click.echo(f"{counts[Outcome.BROKEN]} broken, {warnings}.")
    if counts[Outcome.BROKEN]:
        raise SystemExit(1)
