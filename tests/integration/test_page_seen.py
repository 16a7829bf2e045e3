"""What of the page is seen, in a real browser: on a phone nothing that matters is beside it."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager

import pytest
import uvicorn

from tests.browser import Tab, chromium, needs_chromium
from tests.pages import KEY, Runs, daemonless, publish
from ttrl.evaluation.estimates import Asked, measure
from ttrl.evaluation.evidence import Answered
from ttrl.evaluation.probes import Pair, ProbeOrigin, Side
from ttrl.questions.question import from_prompt
from ttrl.store import Store
from ttrl.store.adapters import AdapterState
from ttrl.store.questions import Recorded
from ttrl.store.runs import RunState, Trigger

pytestmark = [pytest.mark.integration, needs_chromium, pytest.mark.timeout(120)]

LIVE, BACK = "ttrl-3f6f7c2e7a1d-1", "ttrl-3f6f7c2e7a1d-2"
PHONE = {"viewport": {"width": 390, "height": 844}}


def quality(right):
    """Of a version that answers so many of 50 labelled questions rightly, and as surely others."""
    answers = [("yes",) * 8 if n < right else ("no", *"abcdefg") for n in range(50)]
    asked = [
        Asked(f"l{n}", Answered(each, tuple(a == "yes" for a in each)))
        for n, each in enumerate(answers)
    ]
    asked += [Asked(f"u{n}", Answered(("x",) * 8)) for n in range(60)]
    found = measure(asked)
    assert found is not None
    return found


def a_week(store):
    """A promotion, a roll-back, a rejection, a vote that is a tie, and two pairs to label."""
    questions = [Recorded(from_prompt(f"What is {n} plus {n}, as a number?"), 1.0) for n in (1, 2)]
    store.questions.record(questions, holdout=1)
    first = store.runs.create(Trigger.SCHEDULE, {})
    store.runs.end(first.id, RunState.PUBLISHED, "better: labelled probes: +73%", adapter=LIVE)
    publish(store, LIVE, run_id=first.id, at=time.time() - 7200)
    store.adapters.served(LIVE, "as wanted")
    publish(store, BACK, parent=LIVE, at=time.time() - 3600)
    store.adapters.roll_back(author="live_monitor", reason="it flips answers of the version before")
    second = store.runs.create(Trigger.OPERATOR, {})
    why = "worse: it is 0.2 nats a token from the base model, and 1e-06 are allowed"
    store.runs.end(second.id, RunState.REJECTED, why)
    publish(store, "ttrl-held-3", AdapterState.HELD, parent=LIVE, at=time.time() - 60)
    for version, right in ((None, 6), (LIVE, 43)):
        store.measurements.add(version, quality(right))
    vote = {
        "run_id": first.id, "question_id": 1, "version": "base", "step": 15, "at": time.time(),
        "kind": "math", "outcome": "tie", "label": None, "share": 1 / 16, "entropy": 1.1,
        "counts": [["2", 1], ["3", 1], ["4", 1]], "stop": "all",
    }  # fmt: skip
    sample = {
        "position": 0, "text": "2", "answer": "2", "finish": "stop", "reward": 0.0, "kept": False,
        "token_ids": b"", "logprobs": b"",
    }  # fmt: skip
    store.votes.add([(vote, [sample])])
    pairs = [
        Pair(1, ProbeOrigin.DISAGREEMENT, Side("It is 2.", "2"), Side("It is 3.", "3")),
        Pair(2, ProbeOrigin.RANDOM, Side("It is 4.", "4"), Side("It is 4.", "4")),
    ]
    store.comparisons.add(second.id, pairs)


@contextmanager
def listening(app):
    """Its address while it serves."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture
def address(tmp_path):
    with Store.open(tmp_path) as store:
        a_week(store)
        with listening(daemonless(store, tmp_path, Runs(store), [], [None])) as found:
            yield found


def row_of(page, name):
    return page.locator("table").first.locator("tr", has_text=name).first


def test_what_matters_is_within_a_phones_width(address):
    with chromium() as browser:
        for settings in (PHONE, PHONE | {"color_scheme": "dark"}, {}):
            tab = Tab(browser, **settings)
            page, width = tab.page, settings.get("viewport", {"width": 1280})["width"]
            page.goto(f"{address}/login?key={KEY}")
            row = row_of(page, LIVE)
            for share in row.locator("strong").all():
                box = share.bounding_box()
                assert 0 <= box["x"] < box["x"] + box["width"] <= width
            assert "86%" in row.locator("strong").first.inner_text()
            for path in ("/questions", "/questions/1", "/runs/1", "/label", "/"):
                page.goto(address + path)
                assert not tab.overflows(), path
                for wide in page.locator(".scroll").all():
                    assert wide.evaluate("it => it.scrollWidth <= it.clientWidth + 1"), path
            assert tab.complaints == []
            page.close()
