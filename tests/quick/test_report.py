"""The page about a run."""

import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest

from serve import html
from tests.judging import FIRST, SETTINGS, probes
from tests.runs import STEP
from ttrl.evaluation.gate import judge
from ttrl.evaluation.probes import Label
from ttrl.events import observe
from ttrl.questions.question import from_prompt
from ttrl.store.database import NotFound
from ttrl.store.runs import RunState, Trigger


def a_run(store):
    run = store.runs.create(Trigger.OPERATOR, {})
    for step in range(1, 4):
        observe(store, run.id, replace(STEP, step=step, share=step / 4))
    asked = from_prompt("Is <script>alert(1)</script> a number?")
    store.probes.add([Label(asked, ("no",), None, ())])
    given = probes(40, 0.7, 0.7, labelled=True) + probes(1, 0.9, 0.1, labelled=True, seed=1)
    given[-1] = type(given[-1])(**{**vars(given[-1]), "key": asked.hash})
    judgement = judge(given, SETTINGS, FIRST)
    store.runs.add_verdict(run.id, "c", "base", judgement)
    store.runs.end(run.id, RunState.REJECTED, "unproven: & more")
    return run.id


def test_it_says_what_the_gate_saw_and_what_got_worse(store):
    page = " ".join(html.run_page(store, a_run(store)).split())
    assert "unproven: &amp; more" in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<script>" not in page
    assert page.count("<circle") >= 5, "a difference with its bounds for each compared check"
    assert "share of the majority: 0.25 at step 1, 0.75 at step 3; the plot ranges from" in page
    assert "http" not in page, "nothing is fetched from elsewhere"


def test_a_removed_probe_is_not_in_it(store):
    run_id = a_run(store)
    store.forgetting.delete_probes([probe.id for probe in store.probes.labelled()])
    page = html.run_page(store, run_id)
    assert "alert(1)" not in page
    assert "(deleted)" in page


def test_a_run_that_judged_nothing_has_a_page_as_well(store):
    run = store.runs.create(Trigger.OPERATOR, {})
    assert "queued" in html.run_page(store, run.id)
    with pytest.raises(NotFound, match="there is no run 99"):
        html.run_page(store, 99)


def test_curves_fill_their_box_and_flat_ones_lie_in_the_middle():
    rising = html.path([(1, 0.0), (2, 10.0)])
    assert rising == f"M8.0,{html.HEIGHT - 8:.1f} L{html.WIDTH - 8:.1f},8.0"
    assert html.path([(1, 3.0), (2, 3.0)]).count(f"{html.HEIGHT / 2:.1f}") == 2
    assert ET.fromstring(f'<path d="{rising}"/>').get("d")
    assert [html.place(value, -1) for value in (-1, 0, 1)] == [8, html.WIDTH / 2, html.WIDTH - 8]
