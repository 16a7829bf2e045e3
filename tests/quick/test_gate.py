"""The gate: labels certify, consensus may sharpen or veto, too little says nothing."""

from __future__ import annotations

import math
import random

import pytest

from ttrl.checks import Outcome, Rule
from ttrl.config import GateConfig, ShipPolicy
from ttrl.drift import Drift
from ttrl.evidence import GATES, Budget
from ttrl.gate import Verdict, judge
from ttrl.paired import Answered, Probe
from ttrl.staleness import Staleness

SETTINGS = GateConfig()
N = 16


def answered(rng, share, *, right, label, labelled, tokens=40.0, readable=1.0):
    """N answers of which about a share is the label and the rest is scattered."""
    given = [label if rng.random() < share else str(rng.randrange(10**6)) for _ in range(N)]
    given = [answer if rng.random() < readable else None for answer in given]
    accepted = tuple(answer == right for answer in given) if labelled else None
    return Answered(tuple(given), accepted, tokens)


def probes(count, live, candidate, *, base=None, seed=0, labelled=False, tags=(), **other):
    """Probes whose right answers differ. `live`, `candidate` and `base` are the shares of each
    version's answers that say the same thing; `wrong` makes this the wrong thing for a candidate,
    `same` says the same to all."""
    rng = random.Random(seed)
    made = []
    for number in range(count):
        right = f"{seed}-{number}"
        label = {"wrong": f"{right}!", "same": "0"}.get(other.get("says"), right)
        side = {"right": right, "labelled": labelled}
        ours = {key: other[key] for key in ("tokens", "readable") if key in other}
        made.append(
            Probe(
                right,
                f"{right}:{other.get('cluster', number)}",
                base=answered(rng, live if base is None else base, label=right, **side),
                live=answered(rng, live, label=right, **side),
                again=answered(rng, live, label=right, **side),
                candidate=answered(rng, candidate, label=label, **side, **ours),
                tags=tags,
            )
        )
    return made


def said(given, budget=None, **kwargs):
    return judge(given, SETTINGS, budget or Budget(), **kwargs)


@pytest.mark.parametrize(
    ("given", "verdict"),
    [
        pytest.param(probes(40, 0.3, 0.7), Verdict.SHARPER, id="agrees more"),
        pytest.param(probes(90, 0.3, 0.7, labelled=True), Verdict.BETTER, id="labels say better"),
        pytest.param(probes(40, 0.7, 0.3), Verdict.WORSE, id="agrees less"),
        pytest.param(probes(40, 0.7, 0.4, labelled=True), Verdict.WORSE, id="labels say worse"),
        pytest.param(probes(8, 0.3, 0.9), Verdict.UNPROVEN, id="too few probes"),
        pytest.param(probes(0, 0.3, 0.9), Verdict.UNPROVEN, id="no probes at all"),
    ],
)
def test_verdicts(given, verdict):
    assert said(given).verdict is verdict


@pytest.mark.parametrize("labelled", [False, True])
@pytest.mark.parametrize(
    ("spoilt", "rule"),
    [
        pytest.param({"candidate": 0.95, "says": "same"}, Rule.VARIETY, id="one answer to all"),
        pytest.param({"candidate": 0.95, "says": "wrong"}, Rule.KEPT, id="agreed on wrong ones"),
        pytest.param({"candidate": 0.8, "readable": 0.7}, Rule.READABLE, id="unreadable"),
        pytest.param({"candidate": 0.9, "tokens": 240.0}, Rule.LENGTH, id="six times as long"),
        pytest.param({"candidate": 0.9, "tokens": 6.0}, Rule.LENGTH, id="a sixth as long"),
    ],
)
def test_what_is_lost_vetoes_whatever_is_gained(spoilt, rule, labelled):
    found = said(probes(100, 0.6, labelled=labelled, **spoilt))
    assert found.verdict is Verdict.WORSE
    assert rule in found.reason
    assert rule in {check.rule for check in found.checks if check.outcome is Outcome.FAILED}


@pytest.mark.parametrize(("count", "verdict"), [(1, Verdict.UNPROVEN), (40, Verdict.WORSE)])
def test_no_majority_at_all_is_not_the_same_answer_to_all(count, verdict):
    """Of few probes it may be chance; of many, what was kept and can be read says it."""
    found = said(probes(count, 0.9, 0.9, readable=0.0))
    assert found.verdict is verdict
    (variety,) = (check for check in found.checks if check.rule is Rule.VARIETY)
    assert variety.outcome is not Outcome.FAILED


def test_a_few_that_were_right_and_are_wrong_veto_a_gain_elsewhere():
    gained = probes(300, 0.5, 0.9, labelled=True)
    spoilt = probes(40, 0.9, 0.9, labelled=True, says="wrong", seed=1)
    found = said(gained + spoilt)
    assert found.verdict is Verdict.WORSE
    assert Rule.KEPT_RIGHT in found.reason
    assert len(found.worst) == 10
    assert all(change.right_after < change.right_before for change in found.worst)
    assert {change.candidate for change in found.worst} <= {f"1-{n}!" for n in range(40)}


def test_sharpening_must_not_lose_what_could_be_reached():
    """Of probes with a right answer now and then, none is left; the others got better."""
    narrowed = probes(60, 0.2, 0.9, labelled=True, says="wrong", seed=1)
    found = said(probes(240, 0.5, 1.0, labelled=True) + narrowed)
    lost = next(check for check in found.checks if check.rule is Rule.REACH)
    assert lost.outcome is Outcome.FAILED
    assert lost.compared.after == pytest.approx(0.8, abs=0.02)


def test_what_few_probes_may_hide_is_not_shipped():
    """Better by far on most; of what it can no longer reach these probes show too little."""
    spoilt = probes(6, 0.12, 0.9, labelled=True, says="wrong", seed=1)
    found = said(probes(120, 0.3, 0.6, labelled=True) + spoilt)
    assert found.certainty.proves
    assert found.verdict is Verdict.UNPROVEN
    assert found.reason.startswith("reach: ")
    assert "probes like these would tell" in found.reason or "more labels" in found.reason


@pytest.mark.parametrize(
    ("drift", "rule"),
    [
        (Drift(5.0, 0.1), Rule.KL_BASE),
        (Drift(0.1, 5.0), Rule.KL_LIVE),
        (Drift(0.1, math.nan), Rule.KL_LIVE),
    ],
)
def test_it_may_not_go_too_far(drift, rule):
    found = said(probes(90, 0.3, 0.7, labelled=True), drift=drift)
    assert found.verdict is Verdict.WORSE
    assert rule in found.reason
    assert said(probes(90, 0.3, 0.7, labelled=True), drift=Drift(0.1, 0.1)).verdict != Verdict.WORSE


def test_a_tag_that_got_worse_than_the_base_vetoes():
    harmless = probes(200, 0.3, 0.8, labelled=True)
    safety = probes(60, 0.8, 0.4, base=0.95, labelled=True, tags=("safety",), seed=1)
    found = said(harmless + safety)
    assert found.verdict is Verdict.WORSE
    assert "safety" in found.reason


def test_a_tag_with_too_few_labels_is_unproven_and_says_how_many_it_takes():
    harmless = probes(200, 0.3, 0.8, labelled=True)
    few = probes(5, 0.9, 0.9, labelled=True, tags=("safety",), seed=1)
    found = said(harmless + few)
    assert found.verdict is Verdict.UNPROVEN
    assert "accuracy by tag safety" in found.reason
    many = probes(150, 0.9, 0.9, labelled=True, tags=("safety",), seed=1)
    assert said(harmless + many).verdict is Verdict.BETTER


def test_small_steps_downhill_end_at_the_base():
    """Better than the live version, which is worse than where all began."""
    found = said(probes(300, 0.3, 0.5, base=0.7, labelled=True))
    assert found.verdict is Verdict.WORSE
    assert Rule.BASE in found.reason
    level = said(probes(300, 0.3, 0.5, base=0.5, labelled=True))
    assert level.verdict is Verdict.UNPROVEN, "as good as the base, for all one knows"


def test_near_duplicates_are_one_piece_of_evidence():
    apart = probes(60, 0.3, 0.6, labelled=True)
    same = [Probe(p.key, "one", p.base, p.live, p.again, p.candidate) for p in apart]
    assert said(apart).certainty.e > 1000
    assert said(same).certainty.e < 2


def test_labels_that_are_too_few_to_be_sure_say_how_many_would_do():
    found = said(probes(40, 0.5, 0.6, labelled=True))
    assert found.verdict is not Verdict.BETTER
    assert 1 < found.certainty.e < found.certainty.threshold == GATES / 0.05
    assert f"about {found.certainty.needed} probes like these" in found.reason
    more = probes(2 * found.certainty.needed, 0.5, 0.6, labelled=True, seed=1)
    assert said(more).verdict is Verdict.BETTER


def test_nothing_is_better_once_the_year_is_spent():
    found = said(probes(90, 0.3, 0.7, labelled=True), Budget(GATES, 3))
    assert found.verdict is Verdict.SHARPER
    assert "error budget is spent" in found.reason


def test_a_few_labels_among_many_probes_do_not_certify():
    given = probes(8, 0.3, 0.7, labelled=True) + probes(90, 0.3, 0.7, seed=1)
    assert said(given).verdict is Verdict.SHARPER


def test_stale_probes_prove_nothing():
    given = probes(90, 0.3, 0.7, labelled=True)
    found = said(given, staleness=Staleness(0.99, 0.5))
    assert (found.verdict, found.reason[:5]) == (Verdict.UNPROVEN, "stale")
    assert said(given, staleness=Staleness(0.6, 0.01)).verdict is Verdict.UNPROVEN
    assert said(given, staleness=Staleness(0.6, 0.5)).verdict is Verdict.BETTER


@pytest.mark.parametrize("labelled", [False, True])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_an_unchanged_model_hardly_ever_gets_a_verdict(labelled, share):
    found = [said(probes(60, share, share, seed=s, labelled=labelled)) for s in range(100)]
    verdicts = [each.verdict for each in found]
    assert verdicts.count(Verdict.SHARPER) <= 3
    assert verdicts.count(Verdict.WORSE) <= 5
    assert Verdict.BETTER not in verdicts


@pytest.mark.parametrize(
    ("policy", "verdict", "ships"),
    [
        (ShipPolicy.BETTER, Verdict.BETTER, True),
        (ShipPolicy.BETTER, Verdict.SHARPER, False),
        (ShipPolicy.SHARPER, Verdict.SHARPER, True),
        (ShipPolicy.SHARPER, Verdict.BETTER, True),
    ],
)
def test_the_policy_says_what_ships(policy, verdict, ships):
    given = probes(90, 0.3, 0.7, labelled=verdict is Verdict.BETTER)
    assert said(given).verdict is verdict
    assert said(given).ships(policy) is ships


@pytest.mark.parametrize("policy", list(ShipPolicy))
def test_what_is_unproven_or_worse_never_ships(policy):
    assert not said(probes(8, 0.3, 0.9)).ships(policy)
    assert not said(probes(40, 0.7, 0.3)).ships(policy)
