"""The page about a run."""

import xml.etree.ElementTree as ET

import pytest

from serve import plots, report
from tests.quick.test_gate import SETTINGS, probes
from ttrl.evidence import Budget
from ttrl.gate import judge
from ttrl.probes import Label
from ttrl.questions import from_prompt
from ttrl.store.runs import RunState, Trigger


def a_run(store):
    run = store.runs.create(Trigger.OPERATOR, {})
    for step in range(1, 4):
        store.runs.observe(run.id, "step", {"step": step, "share": step / 4, "entropy": 0.5})
    asked = from_prompt("Is <script>alert(1)</script> a number?")
    store.probes.add([Label(asked, ("no",), None, ())])
    given = probes(40, 0.7, 0.7, labelled=True) + probes(1, 0.9, 0.1, labelled=True, seed=1)
    given[-1] = type(given[-1])(**{**vars(given[-1]), "key": asked.hash})
    judgement = judge(given, SETTINGS, Budget())
    evidence = {"adapter": "c", "against": "base", "evidence": judgement.numbers()}
    store.runs.add_verdict({"run_id": run.id, "verdict": judgement.verdict, **evidence})
    store.runs.end(run.id, RunState.REJECTED, "unproven: & more")
    return run.id


def test_it_says_what_the_gate_saw_and_what_got_worse(store):
    page = " ".join(report.render(store, a_run(store)).split())
    assert "unproven: &amp; more" in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<script>" not in page
    assert page.count("<circle") >= 5, "a difference with its bounds for each compared check"
    assert "share of the majority: 0.25 at step 1, 0.75 at step 3; the box goes from" in page
    assert "http" not in page, "nothing is fetched from elsewhere"


def test_a_removed_probe_is_not_in_it(store):
    run_id = a_run(store)
    store.probes.remove([probe.id for probe in store.probes.labelled()])
    page = report.render(store, run_id)
    assert "alert(1)" not in page
    assert "(deleted)" in page


def test_a_run_that_judged_nothing_has_a_page_as_well(store):
    run = store.runs.create(Trigger.OPERATOR, {})
    assert "queued" in report.render(store, run.id)
    with pytest.raises(KeyError, match="there is no run 99"):
        report.render(store, 99)


def test_curves_fill_their_box_and_flat_ones_lie_in_the_middle():
    rising = plots.line("x", [(1, 0.0), (2, 10.0)])
    assert rising.path == f"M8.0,{plots.HEIGHT - 8:.1f} L{plots.WIDTH - 8:.1f},8.0"
    assert plots.line("x", [(1, 3.0), (2, 3.0)]).path.count(f"{plots.HEIGHT / 2:.1f}") == 2
    assert ET.fromstring(f'<path d="{rising.path}"/>').get("d")
    assert plots.bar(-1, 0, 1) == plots.Bar(8, plots.WIDTH / 2, plots.WIDTH - 8)
