"""Pictures of the page, and what each panel of the board is told, in a real daemon's night:
`python -m docs.night` writes page.png, label.png, phone.png and board.md beside it."""

from __future__ import annotations

import math
import runpy
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser

from tests.browser import Tab, chromium
from tests.integration.story import Story, told

HERE = Path(__file__).parent
BOARD = runpy.run_path(str(HERE.parent / "configs" / "grafana" / "board.py"))
WINDOWS = {BOARD["RATE"]: "30s", BOARD["RANGE"]: "15m"}
SETTLE_SECONDS = 20.0
SHOWN = 6
HEAD = """\
# What the board shows

`python -m docs.night` starts a daemon on the demo's model and a Prometheus that scrapes it every
second, has users ask, measures, promotes a version, rejects another and rolls the first one back.
Below is what each panel's query returned then: the newest value of each of its series (at most six
are listed), over the whole night; of single values, those at its end. Windows are 30 seconds for
rates and 15 minutes for counts.

| panel | query | series, newest value |
|---|---|---|
"""


def pictures(story: Story, browser: Browser) -> None:
    """The page on a screen, the judging, and the page on a phone in the dark."""
    link = story.daemon.ttrl("page").strip()
    root = link.split("/login")[0]
    screen = Tab(browser, viewport={"width": 1100, "height": 900}).page
    screen.goto(link)
    screen.screenshot(path=HERE / "page.png")
    screen.goto(f"{root}/label")
    while screen.get_by_text("Both versions say this").count():  # on to two that differ
        with screen.expect_navigation():
            screen.keyboard.press("?")
    screen.set_viewport_size({"width": 1100, "height": 520})
    screen.screenshot(path=HERE / "label.png")
    phone = Tab(browser, viewport={"width": 390, "height": 844}, color_scheme="dark").page
    phone.goto(link)
    phone.screenshot(path=HERE / "phone.png")


def rows(story: Story) -> Iterator[str]:
    """A line of the table for each query."""
    times = {"start": str(story.began), "end": str(time.time()), "step": "2"}
    for name, expression, shown in BOARD["queries"]():
        asked = expression
        for placeholder, window in WINDOWS.items():
            asked = asked.replace(placeholder, window)
        if shown.stat:
            found = story.prometheus.ask(asked)
        else:
            found = story.prometheus.get("query_range", query=asked, **times)["result"]
        told_of = "; ".join(map(_newest, found[:SHOWN])) or "no series"
        panel = name.replace("|", "\\|")
        yield f"| {panel} | `{asked}` | {told_of} |\n"


def _newest(series: dict[str, Any]) -> str:
    dull = ("__name__", "job", "instance")
    labels = " ".join(value for name, value in series["metric"].items() if name not in dull)
    values = series.get("values") or [series["value"]]
    told_of = [float(value) for _, value in values]
    known = [value for value in told_of if not math.isnan(value)]  # of no requests no quantile
    return f"{labels} {(known or told_of)[-1]:.4g}".strip()


def main() -> None:
    with tempfile.TemporaryDirectory() as name, told(Path(name)) as story:
        with chromium() as browser:
            pictures(story, browser)
        story.daemon.ttrl("adapters", "rollback")
        time.sleep(SETTLE_SECONDS)
        (HERE / "board.md").write_text(HEAD + "".join(rows(story)))


if __name__ == "__main__":
    main()
