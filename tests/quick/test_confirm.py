"""What an operator's judgements make of versions that wait."""

from __future__ import annotations

import json

import pytest

from jobs.probes import confirm
from serve.views import sides
from tests.judging import FIRST, PAIR, SETTINGS, label_command, probes
from tests.stores import both_stores, held_out
from ttrl.config import ShipPolicy
from ttrl.evaluation.gate import judge
from ttrl.evaluation.probes import Judged, Side
from ttrl.store.adapters import AdapterRow, AdapterState
from ttrl.store.runs import Trigger
from ttrl.store.schema import verdicts

COUNT = 40


@pytest.fixture
def ttrl(tmp_path):
    return label_command(tmp_path)


def adapter(name, run_id, state):
    where = ("x", run_id or 0, "d", None, "base", run_id, 16)
    return AdapterRow(name, *where, state, "sharper: ...", 1.0)


def held(store, given, *, against="base"):
    """A version that a run left to the operator, with COUNT pairs to judge."""
    run = store.runs.create(Trigger.OPERATOR, {})
    judgement = judge(given, SETTINGS, FIRST)
    assert not judgement.ships(ShipPolicy.BETTER)
    store.runs.add_verdict(run.id, "cand", against, judgement)
    store.adapters.publish(adapter(f"v{run.id}", run.id, AdapterState.HELD), [], author="run")
    keys = held_out(store, COUNT)
    pairs = [PAIR.__class__(key, PAIR.origin, PAIR.live, PAIR.candidate) for key in keys]
    store.comparisons.add(run.id, pairs)
    store.runs.end(run.id, "held", "sharper", adapter=f"v{run.id}")
    return f"v{run.id}"


def judged(store, candidate, live=0, other=()):
    """Judge the first so many pairs for either side, and some otherwise."""
    waiting = iter(store.comparisons.waiting())
    says = [Judged.CANDIDATE] * candidate + [Judged.LIVE] * live + list(other)
    for said in says:
        store.comparisons.judge(next(waiting), said)


@both_stores
def test_enough_labels_on_disagreements_let_a_held_version_serve(store):
    name = held(store, probes(40, 0.3, 0.7))
    assert confirm(store, SETTINGS) == [], "nothing was judged"
    judged(store, candidate=COUNT)
    (found,) = confirm(store, SETTINGS)
    assert (found.adapter, found.but) == (name, "")
    assert store.adapters.wanted().adapter == name
    assert store.adapters.get(name).state is AdapterState.APPROVED
    assert store.adapters.get(name).reason.startswith(
        "better: answers judged by hand: proven by 40"
    )
    assert [row.verdict for row in store.runs.verdicts(1)] == ["sharper", "better"]
    assert store.runs.labelled_gates() == [store.comparisons.first_judged(1)], "one test"
    assert confirm(store, SETTINGS) == [], "it waits no more"


@pytest.mark.parametrize(
    ("candidate", "live", "other"),
    [
        pytest.param(5, 0, (), id="a few"),
        pytest.param(16, 14, (), id="as many either way"),
        pytest.param(5, 0, [Judged.BOTH] * 20, id="most are both right"),
        pytest.param(0, 0, [Judged.CANNOT_TELL, Judged.NEITHER], id="nothing said"),
    ],
)
def test_too_little_evidence_leaves_it_waiting_and_says_what_it_takes(
    store, candidate, live, other
):
    name = held(store, probes(40, 0.3, 0.7))
    judged(store, candidate, live, other)
    (found,) = confirm(store, SETTINGS)
    assert found.but.startswith("not proven better")
    assert store.adapters.wanted().adapter is None
    assert store.adapters.get(name).state is AdapterState.HELD
    assert len(store.runs.labelled_gates()) == 1, "it is counted"


def test_labels_decide_what_a_gate_without_any_left_open(store):
    """Too few probes for it, and answers six times as long, which is no objection to labels."""
    name = held(store, probes(20, 0.6, 0.62, tokens=240.0))
    judged(store, candidate=COUNT)
    assert confirm(store, SETTINGS)[0].but == ""
    assert store.adapters.wanted().adapter == name


def test_labels_of_the_gate_that_raise_a_doubt_are_not_outvoted(store):
    held(store, probes(60, 0.3, 0.8) + probes(5, 0.9, 0.9, labelled=True, tags=("safety",)))
    judged(store, candidate=COUNT)
    assert "accuracy by tag safety" in confirm(store, SETTINGS)[0].but


def test_judging_by_hand_is_a_test_of_its_own(store):
    """The gate's labels have spent a part of the budget, and are no part of this evidence."""
    held(store, probes(20, 0.5, 0.52, labelled=True) + probes(60, 0.3, 0.7, seed=1))
    judged(store, candidate=COUNT)
    (found,) = confirm(store, SETTINGS)
    assert (found.certainty.labels, found.but) == (COUNT, "")
    assert found.certainty.threshold == pytest.approx(104, rel=1e-3)
    assert len(store.runs.labelled_gates()) == 2


def test_evidence_that_cannot_be_read_was_looked_at_all_the_same(store):
    held(store, probes(20, 0.5, 0.52, labelled=True))
    before = store.runs.labelled_gates()
    newer = verdicts.update().values(evidence={"certainty": {"e": 1}, "version": 99})
    store.runs.db.change(newer)
    assert store.runs.verdicts() == []
    assert store.runs.labelled_gates() == before
    assert before


def test_a_version_compared_with_what_no_longer_serves_waits(store):
    name = held(store, probes(40, 0.3, 0.7))
    judged(store, candidate=COUNT)
    store.adapters.publish(adapter("other", None, AdapterState.APPROVED), [], author="run")
    store.adapters.served("other", "")
    (found,) = confirm(store, SETTINGS)
    assert found.but == "it was compared with base, which is no longer live"
    assert store.adapters.get(name).state is AdapterState.HELD


@pytest.mark.parametrize(("labelled", "confirmed"), [(0, False), (90, True)])
def test_against_a_version_the_base_is_looked_at_as_well(store, labelled, confirmed):
    """By labelled probes: of the judged answers none is the base's."""
    store.adapters.publish(adapter("live", None, AdapterState.APPROVED), [], author="run")
    store.adapters.served("live", "")
    given = probes(labelled, 0.6, 0.62, base=0.2, labelled=True) + probes(60, 0.3, 0.7, seed=1)
    held(store, given, against="live")
    judged(store, candidate=COUNT)
    (found,) = confirm(store, SETTINGS)
    assert (found.but == "") is confirmed
    assert confirmed or "base model; it may be worse" in found.but


def test_sides_with_the_same_majority_are_worth_nothing():
    alike = PAIR.__class__(1, PAIR.origin, PAIR.live, Side("so", PAIR.live.label))
    assert {alike.worth(each) for each in Judged} == {0.0, None}
    assert [PAIR.worth(each) for each in Judged] == [-1.0, 1.0, 0.0, 0.0, None]


def test_ttrl_label_says_how_far_it_is_and_lets_it_serve(ttrl, store):
    name = held(store, probes(40, 0.3, 0.7))
    *_, last = store.comparisons.waiting()
    judged(store, candidate=COUNT - 1)
    a, _ = sides(last)
    key = "a" if a[0] is Judged.CANDIDATE else "b"
    other = {"a": "b", "b": "a"}[key]
    said = ttrl("--judge", str(last.id), other)
    assert f"{name} is proven better by your labels" in said, "39 for it outweigh one against it"
    assert store.adapters.wanted().adapter == name
    assert "is held" not in ttrl("--judge", str(last.id), key), "nothing waits any more"


def test_ttrl_label_says_why_a_version_waits(ttrl, store):
    name = held(store, probes(40, 0.3, 0.7))
    *others, last = store.comparisons.waiting()
    said = ttrl("--judge", str(last.id), "a")
    assert "is held" not in said, "it would tell which side is which"
    again = json.loads(ttrl("--judge", str(last.id), "both", "--json"))
    assert again == {"id": last.id, "judged": "both", "before": "a", "probe": True}
    for other in others[1:]:
        store.comparisons.judge(other, Judged.CANNOT_TELL)
    said = ttrl("--judge", str(others[0].id), "both")
    assert f"{name} is held: not proven better" in said
