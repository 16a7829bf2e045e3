"""Makes the reference of the metrics: `python docs/metrics.py` writes metrics.md beside it."""

from __future__ import annotations

from pathlib import Path

from ttrl.metrics import Metrics

FILE = Path(__file__).with_suffix(".md")
HEAD = """\
# Metrics

The daemon has them at `/metrics` of its admin address and of the gateway; `python docs/metrics.py`
makes this page from `ttrl/metrics`. Besides there are the usual ones of the process (`process_*`,
`python_info`). No label holds anything of a user's.
A counter counts from the daemon's start, as Prometheus expects; gauges of the newest step, gate or
measurement keep their value until the next, also when the daemon starts again. What cannot be said
(an accuracy without labels, a step before any, a check that the newest gate did not make) is no
series.

| name | kind | labels | |
|---|---|---|---|
"""


def reference() -> str:
    """The whole page."""
    rows = (
        f"| `{each.name}` | {each.kind} | {' '.join(f'`{label}`' for label in each.labels)} "
        f"| {each.text} |\n"
        for each in Metrics().described
    )
    return HEAD + "".join(rows)


if __name__ == "__main__":
    FILE.write_text(reference())
