"""A real daemon's night: board, alerts and annotations on a real Prometheus, and the page in a real
browser."""

from __future__ import annotations

import json
import re
import runpy
import time

import pytest

from benchmarks.metrics import use
from tests.browser import Tab, chromium, needs_chromium
from tests.integration.daemon import wait_until
from tests.integration.story import told
from tests.prometheus import CONFIGS, needs_prometheus

pytestmark = [
    pytest.mark.integration, needs_prometheus, needs_chromium, pytest.mark.timeout(500),
]  # fmt: skip

BOARD = runpy.run_path(str(CONFIGS / "grafana" / "board.py"))
WINDOWS = {BOARD["RATE"]: "30s", BOARD["RANGE"]: "15m"}


def over(story, expression):
    """What an expression was, from the beginning until now."""
    for name, window in WINDOWS.items():
        expression = expression.replace(name, window)
    times = {"start": str(story.began), "end": str(time.time()), "step": "2"}
    return story.prometheus.get("query_range", query=expression, **times)["result"]


def alerts(story):
    found = story.prometheus.get("alerts")["alerts"]
    return {alert["labels"]["alertname"] for alert in found if alert["state"] == "firing"}


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    with told(tmp_path_factory.mktemp("story")) as found:
        yield found


def test_a_night(story):
    """One test, since a night takes minutes: what each part of it shows, in order."""
    assert alerts(story) == set(), "nothing is wrong yet"
    with chromium() as browser:
        _looked_at(story, browser)
        _rolled_back(story, browser)
    wait_until(lambda: alerts(story) == {"TtrlRolledBack"}, "the roll-back is told")
    live = 'ttrl_live_adapter_info{version="base"}'
    wait_until(lambda: story.prometheus.ask(live), "the base model is live")

    def empty():
        usual = [(name, ask) for name, ask, panel in BOARD["queries"]() if not panel.seldom]
        return [name for name, ask in usual if not over(story, ask)]

    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and empty():
        time.sleep(2)
    assert empty() == []
    for name, (series, _) in BOARD["ANNOTATIONS"].items():
        assert over(story, f"sum(increase({series}[30s])) > 0"), name
    groups = story.prometheus.get("rules")["groups"]
    assert {rule["health"] for group in groups for rule in group["rules"]} == {"ok"}
    for role in ("live", "base"):
        (measured,) = over(story, f'ttrl_quality_pass_at_1_ratio{{role="{role}"}}')
        values = [float(value) for _, value in measured["values"]]
        assert 0 <= min(values) < 0.5, "users ask at temperature 0, where the base blurts"
        assert (max(values) > 0.3) == (role == "live"), "it learned, and the base did not"
    by = {each["metric"]["verdict"]: each for each in over(story, "ttrl_gate_verdicts_total")}
    assert by["worse"]["values"][-1][1] == "1"
    wait_until(lambda: len(story.hook.heard) == 3, "the webhook has heard of all")
    told_of = ("event", "run", "adapter", "live")
    assert [tuple(each[key] for key in told_of) for each in story.hook.heard] == [
        ("adapter.promoted", 1, story.promoted, story.promoted),
        ("run.rejected", 2, None, None),
        ("adapter.rolled_back", 1, story.promoted, "base"),
    ]
    said = story.daemon.ttrl("status")
    (base,) = (line for line in said.splitlines() if line.startswith("quality"))
    assert re.search(r"\d+% \(\d+% to \d+%\) correct on \d+ labelled probes", base), base
    assert f"roll-back  {story.promoted} by operator" in said
    use(story.daemon.url)
    series = [line for line in story.daemon.metrics().splitlines() if line.startswith("ttrl_")]
    assert len(series) < 250, "few are asked for, whatever was answered"
    _discreet(story)


def _discreet(story):
    """The log is for programs, and tells as little of what was asked as the metrics do."""
    lines = list(map(json.loads, story.daemon.log.splitlines()))
    assert story.promoted in {line.get("adapter") for line in lines}
    assert {1, 2} <= {line.get("run") for line in lines}
    for place in (story.daemon.log, story.daemon.metrics(), json.dumps(story.hook.heard)):
        assert not [prompt for prompt in story.asked if prompt in place]


def _looked_at(story, browser):
    """What there is to see, on a phone in the dark and without JavaScript as well."""
    link = story.daemon.ttrl("page").strip()
    for settings in (
        {},
        {"viewport": {"width": 390, "height": 844}, "color_scheme": "dark"},
        {"java_script_enabled": False},
    ):
        tab = Tab(browser, **settings)
        tab.page.goto(link)
        assert f"Serving {story.promoted}" in tab.page.locator(".state").inner_text()
        live = tab.page.locator("table").first.locator("tr", has_text=story.promoted).first
        accuracy = live.locator("td").nth(2).inner_text()
        assert re.search(r"\d+%\s+\d+% to \d+%, by \d+ labels", accuracy), accuracy
        assert re.search(r"by \d+ labels|not known: \w+", live.locator("td").nth(3).inner_text())
        place = live.locator("strong").first.bounding_box()
        assert place["x"] + place["width"] <= tab.page.viewport_size["width"]
        assert "it is better" in tab.page.locator("main").inner_text()
        for path in ("/questions", "/questions/1", "/runs/1", "/runs/2", "/label", "/"):
            tab.page.goto(link.split("/login")[0] + path)
            assert tab.page.locator("h1").count() == 1
            assert settings.get("java_script_enabled") is False or not tab.overflows(), path
        assert {url.split("/")[2] for url in tab.asked} == {link.split("/")[2]}
        assert tab.complaints == []
        tab.page.close()


def _rolled_back(story, browser):
    """By the buttons: pause, judge by the keyboard, roll back."""
    tab = Tab(browser)
    page = tab.page
    page.goto(story.daemon.ttrl("page").strip())
    page.get_by_role("button", name="Pause training").click()
    assert story.daemon.status()["paused"]
    page.get_by_role("button", name="Resume training").click()
    page.goto(page.url + "label")
    with story.daemon.store() as store:
        before = len(store.comparisons.waiting())
        assert before > 1, "the gate has found answers to judge"
        page.keyboard.press("n")  # neither is right, or the one that both say is not
        page.get_by_text(f"{before - 1} to label").wait_for()
        assert len(store.comparisons.waiting()) == before - 1
        page.keyboard.press("u")
        page.get_by_text(f"{before} to label").wait_for()
        assert len(store.comparisons.waiting()) == before
    page.get_by_role("link", name="ttrl").click()
    page.get_by_role("button", name=f"Roll back {story.promoted}").click()
    story.daemon.wait_live("base")
    page.reload()
    said = page.locator(".state").inner_text()
    assert said.startswith("Serving the base model; ")
    assert f"{story.promoted} was rolled back by the operator" in said
    assert "the last run, 2, was rejected" in said
    assert tab.complaints == []
    page.close()
