"""Events, evidence and measurements come back from the store as they were written."""

import json
from dataclasses import asdict, fields, replace

import pytest

from tests.judging import FIRST, SETTINGS, probes
from tests.runs import BARE, QUALITY, STEP, judgement
from ttrl.engine.pacing import Pause, Resume
from ttrl.evaluation.drift import Drift, Shift
from ttrl.evaluation.gate import judge
from ttrl.events import Draw, Probed, Scored, Selection, Unanswered, observe, observed, read
from ttrl.monitoring.run import Action, Rule, Ruling
from ttrl.monitoring.signs import Visit
from ttrl.store import shapes
from ttrl.store.runs import Trigger

VISITED = replace(STEP, visits=(Visit(1, 0, True, 0.5, 0.0, None),), grad_norm=0.1)
EVENTS = (
    Selection(3, {"client_share": 2}, {"own_vote": 1, "all_votes": 2}),
    Draw(**{field.name: getattr(STEP, field.name) for field in fields(Draw)}),
    VISITED,
    Pause(20),
    Resume(1.5),
    Unanswered(2),
    Scored({"scored": 3, "nonsense": 1}, 4, 400, 20, 2.5),
    Probed(1, 2),
    Ruling(Action.HOLD, 3, Rule.KL, "so"),
    judge(probes(40, 0.3, 0.7, labelled=True), SETTINGS, FIRST, Drift(0.1)),
)


def test_events_come_back_in_order(store):
    run = store.runs.create(Trigger.OPERATOR, {})
    for event in EVENTS:
        observe(store, run.id, event)
    assert observed(store, run.id) == list(EVENTS)


@pytest.mark.parametrize("found", [QUALITY, BARE, Drift(0.1), Shift(0.3, 0.1, 100, 100)])
def test_measurements_come_back(store, found):
    store.measurements.add("one", found)
    assert store.measurements.newest(type(found), "one").found == found
    assert store.measurements.newest(type(found)) is None


def test_rows_without_a_version_are_read(store):
    """As the releases before versions wrote them: with more numbers in a step, with no remarks."""
    run = store.runs.create(Trigger.OPERATOR, {})
    more = {"informative": 0.5, "samples": 40, "completions/mean_length": 12.0, "loss": 0.1}
    store.runs.observe(run.id, "step", json.loads(json.dumps({**asdict(VISITED), **more})))
    (row,) = store.runs.observed()
    assert read(row) == VISITED
    old = asdict(QUALITY)
    del old["remarks"]
    assert shapes.load(type(QUALITY), old) == QUALITY
    evidence = asdict(EVENTS[-1])
    del evidence["verdict"]
    store.runs.add_verdict(run.id, None, "base", EVENTS[-1])
    with store.write() as connection:
        connection.exec_driver_sql("update verdicts set evidence = ?", (json.dumps(evidence),))
    (verdict,) = store.runs.verdicts(run.id)
    assert verdict.evidence == EVENTS[-1]


@pytest.mark.parametrize(
    ("kind", "numbers"),
    [
        ("step", {}),
        ("step", {**asdict(STEP), "version": shapes.VERSION + 1}),
        ("pause", {"waiting": "many"}),
        ("unheard of", {}),
    ],
)
def test_what_cannot_be_read_is_skipped(store, kind, numbers):
    run = store.runs.create(Trigger.OPERATOR, {})
    store.runs.observe(run.id, kind, numbers)
    assert observed(store, run.id) == []


def test_an_unreadable_row_is_not_quoted_in_the_log(store, caplog):
    shapes._warn.cache_clear()  # it is said once in a process
    run = store.runs.create(Trigger.OPERATOR, {})
    store.runs.add_verdict(run.id, None, "base", judgement(probe="a user's words"))
    with store.write() as connection:
        connection.exec_driver_sql("""update verdicts set evidence = '{"worst": "words"}'""")
    assert store.runs.verdicts(run.id) == []
    assert [record.message for record in caplog.records] == [
        "skipping a stored Judgement that this release cannot read"
    ]
