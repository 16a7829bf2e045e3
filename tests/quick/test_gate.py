"""The gate: labels certify, consensus may sharpen or veto, too little says nothing."""

from __future__ import annotations

import random

import pytest

from ttrl.config import GateConfig, ShipPolicy
from ttrl.evidence import GATES, Budget
from ttrl.gate import Probe, Verdict, judge

SETTINGS = GateConfig(min_probes=16, flips=0.05)
N = 16


def answers(rng, share, label="7", others=40):
    """N answers of which about a share is the label and the rest is scattered."""
    return tuple(
        label if rng.random() < share else str(100 + rng.randrange(others)) for _ in range(N)
    )


def probes(count, live, candidate, *, candidate_label="7", labelled=False, seed=0):
    rng = random.Random(seed)
    made = []
    for _ in range(count):
        of_live, of_candidate = answers(rng, live), answers(rng, candidate, candidate_label)
        right = [
            tuple(a == "7" for a in side) if labelled else None for side in (of_live, of_candidate)
        ]
        made.append(Probe(of_live, of_candidate, *right))
    return made


@pytest.mark.parametrize(
    ("given", "verdict"),
    [
        pytest.param(probes(40, 0.3, 0.7), Verdict.SHARPER, id="agrees more"),
        pytest.param(probes(40, 0.3, 0.7, labelled=True), Verdict.BETTER, id="labels say better"),
        pytest.param(probes(40, 0.7, 0.3), Verdict.WORSE, id="agrees less"),
        pytest.param(probes(40, 0.7, 0.4, labelled=True), Verdict.WORSE, id="labels say worse"),
        pytest.param(probes(8, 0.3, 0.9), Verdict.UNPROVEN, id="too few probes"),
        pytest.param(probes(0, 0.3, 0.9), Verdict.UNPROVEN, id="no probes at all"),
        pytest.param(
            probes(40, 0.6, 0.95, candidate_label="0"), Verdict.WORSE, id="collapsed on one answer"
        ),
        pytest.param(
            probes(40, 0.6, 0.95, candidate_label="0", labelled=True),
            Verdict.WORSE,
            id="collapsed, and labels say so",
        ),
    ],
)
def test_verdicts(given, verdict):
    assert judge(given, SETTINGS, Budget()).verdict is verdict


def test_labels_that_are_too_few_to_be_sure_say_how_many_would_do():
    given = probes(30, 0.5, 0.6, labelled=True)
    found = judge(given, SETTINGS, Budget())
    assert found.verdict is not Verdict.BETTER
    assert 1 < found.certainty.e < found.certainty.threshold == GATES / 0.05
    assert f"about {found.certainty.needed} probes like these" in found.reason
    more = probes(2 * found.certainty.needed, 0.5, 0.6, labelled=True, seed=1)
    assert judge(more, SETTINGS, Budget()).verdict is Verdict.BETTER


def test_nothing_is_better_once_the_year_is_spent():
    given = probes(40, 0.3, 0.7, labelled=True)
    found = judge(given, SETTINGS, Budget(GATES, 3))
    assert found.verdict is Verdict.SHARPER
    assert "error budget is spent" in found.reason


def test_a_few_labels_among_many_probes_do_not_certify():
    given = probes(8, 0.3, 0.7, labelled=True) + probes(40, 0.3, 0.7, seed=1)
    assert judge(given, SETTINGS, Budget()).verdict is Verdict.SHARPER


def test_an_unchanged_model_is_seldom_called_sharper_and_hardly_ever_worse():
    verdicts = [judge(probes(40, 0.5, 0.5, seed=s), SETTINGS, Budget()).verdict for s in range(200)]
    assert verdicts.count(Verdict.SHARPER) <= 20
    assert verdicts.count(Verdict.WORSE) <= 30
    assert Verdict.BETTER not in verdicts


def test_unreadable_answers_are_no_agreement():
    blank = [Probe(p.live, (None,) * N) for p in probes(40, 0.5, 0.5)]
    assert judge(blank, SETTINGS, Budget()).verdict is Verdict.WORSE


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
    given = probes(40, 0.3, 0.7, labelled=verdict is Verdict.BETTER)
    assert judge(given, SETTINGS, Budget()).ships(policy) is ships


@pytest.mark.parametrize("policy", list(ShipPolicy))
def test_what_is_unproven_or_worse_never_ships(policy):
    assert not judge(probes(8, 0.3, 0.9), SETTINGS, Budget()).ships(policy)
    assert not judge(probes(40, 0.7, 0.3), SETTINGS, Budget()).ships(policy)
