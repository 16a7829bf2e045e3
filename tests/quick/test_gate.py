"""The gate: labels decide; without them consensus may sharpen, and only a collapse is worse."""

from __future__ import annotations

import math
import random

import pytest

from tests.judging import FIRST, SETTINGS, N, answered, probes
from ttrl.config import GateConfig, ShipPolicy
from ttrl.evaluation.drift import Drift, Staleness
from ttrl.evaluation.evidence import Answered, Probe
from ttrl.evaluation.gate import Outcome, Rule, Verdict, judge


def said(given, threshold=FIRST, **kwargs):
    return judge(given, SETTINGS, threshold, **kwargs)


@pytest.mark.parametrize(
    ("given", "verdict"),
    [
        pytest.param(probes(40, 0.3, 0.7), Verdict.SHARPER, id="agrees more"),
        pytest.param(probes(90, 0.3, 0.7, labelled=True), Verdict.BETTER, id="labels say better"),
        pytest.param(probes(40, 0.7, 0.3), Verdict.UNPROVEN, id="agrees less"),
        pytest.param(probes(40, 0.7, 0.4, labelled=True), Verdict.WORSE, id="labels say worse"),
        pytest.param(probes(8, 0.3, 0.9), Verdict.UNPROVEN, id="too few probes"),
        pytest.param(probes(0, 0.3, 0.9), Verdict.UNPROVEN, id="no probes at all"),
    ],
)
def test_verdicts(given, verdict):
    assert said(given).verdict is verdict


def lookup(found, rule):
    return next(check for check in found.checks if check.rule is rule)


@pytest.mark.parametrize(
    ("spoilt", "rule"),
    [
        pytest.param({"candidate": 0.95, "says": "same"}, Rule.VARIETY, id="one answer to all"),
        pytest.param({"candidate": 0.8, "readable": 0.3}, Rule.READABLE, id="unreadable"),
    ],
)
@pytest.mark.parametrize("labelled", [False, True])
def test_a_collapse_is_worse_with_and_without_labels(spoilt, rule, labelled):
    found = said(probes(100, 0.6, labelled=labelled, **spoilt))
    assert found.verdict is Verdict.WORSE
    assert lookup(found, rule).outcome is Outcome.FAILED


@pytest.mark.parametrize(
    ("changed", "rule"),
    [
        pytest.param({"candidate": 0.9, "readable": 0.9}, Rule.READABLE, id="less readable"),
        pytest.param({"candidate": 0.9, "tokens": 240.0}, Rule.LENGTH, id="six times as long"),
        pytest.param({"candidate": 0.9, "tokens": 6.0}, Rule.LENGTH, id="a sixth as long"),
    ],
)
def test_what_shows_without_labels_is_held_and_never_contradicts_them(changed, rule):
    without = said(probes(100, 0.6, **changed))
    assert (without.verdict, lookup(without, rule).outcome) == (
        Verdict.UNPROVEN,
        Outcome.UNPROVEN,
    )
    assert rule in without.reason
    assert said(probes(100, 0.6, labelled=True, **changed)).verdict is Verdict.BETTER


@pytest.mark.parametrize("drift", [Drift(5.0, 0.1), Drift(0.1, 5.0), Drift(0.1, math.nan)])
def test_distance_is_held_and_never_contradicts_labels(drift):
    assert said(probes(90, 0.3, 0.7), drift=drift).verdict is Verdict.UNPROVEN
    assert said(probes(90, 0.3, 0.7), drift=Drift(0.1, 0.1)).verdict is Verdict.SHARPER
    assert said(probes(90, 0.3, 0.7, labelled=True), drift=drift).verdict is Verdict.BETTER


def test_other_majorities_on_unlabelled_probes_are_no_loss():
    """As sure of other answers than before on every question: learning, for all one knows."""
    given = probes(100, 0.6, 0.95, says="wrong")
    assert said(given).verdict is Verdict.SHARPER
    assert said(given + probes(60, 0.3, 0.8, labelled=True, seed=1)).verdict is Verdict.BETTER


def domain(seed, count, *, corrected=0.0, lost=0.0, wrong=0.4, labelled=True, answers="other"):
    """Questions in a domain whose wrong answers are alike: the live version is surely wrong on a
    share `wrong` of them, of which a candidate corrects some, and loses some that were correct."""
    rng = random.Random(seed)
    made = []
    for number in range(count):
        is_wrong = rng.random() < wrong
        before = 0.1 if is_wrong else 0.92
        turns = rng.random() < (corrected / wrong if is_wrong else lost / (1 - wrong))
        after = {True: 0.9, False: 0.1}[is_wrong] if turns else before
        names = ("yes", "no") if answers == "binary" else (f"right {number}", f"wrong {number}")
        right, other = names if rng.random() < 0.5 else names[::-1]
        live, candidate = (
            Answered(
                tuple(given := [right if rng.random() < share else other for _ in range(N)]),
                tuple(each == right for each in given) if labelled else None,
                300.0,
                greedy_right=share > 0.5 if labelled else None,
            )
            for share in (before, after)
        )
        made.append(Probe(str(number), f"{seed}-{number}", live, live, candidate))
    return made


@pytest.mark.integration
@pytest.mark.parametrize("answers", ["other", "binary"])
@pytest.mark.parametrize("corrected", [0.06, 0.08, 0.15, 0.3])
def test_a_candidate_that_corrects_wrong_majorities_is_better(corrected, answers):
    """Most wrong answers to a question are the same one, as in yes/no and multiple choice."""
    for seed in range(4):
        given = domain(seed, 400, corrected=corrected, answers=answers)
        given += domain(seed + 99, 64, corrected=corrected, answers=answers, labelled=False)
        assert said(given).verdict is Verdict.BETTER


def test_a_candidate_that_loses_as_much_as_it_gains_is_neither():
    verdicts = [said(domain(s, 300, corrected=0.1, lost=0.1)).verdict for s in range(8)]
    assert Verdict.WORSE not in verdicts
    assert Verdict.BETTER not in verdicts


@pytest.mark.integration
def test_large_gains_take_few_labels():
    verdicts = [said(domain(s, 60, corrected=0.25)).verdict for s in range(40)]
    assert verdicts.count(Verdict.BETTER) >= 36


def tempered(seed, count, power, *, labelled=True):
    """The same model at a lower temperature: each answer's chance to a power, normalised."""
    rng = random.Random(seed)
    made = []
    for number in range(count):
        chances = [rng.gammavariate(0.45, 1) + 1e-3 for _ in range(6)]
        best = chances.index(max(chances))
        right = best if rng.random() < 0.7 else rng.randrange(6)
        arms = [
            Answered(
                tuple(map(str, given := rng.choices(range(6), [c**p for c in chances], k=N))),
                tuple(answer == right for answer in given) if labelled else None,
                300.0,
                greedy_right=best == right,
            )
            for p in (1, power)
        ]
        made.append(Probe(str(number), f"{seed}-{number}", arms[0], *arms))
    return made


@pytest.mark.parametrize("temperature", [0.75, 0.5])
def test_a_lower_temperature_alone_is_not_better(temperature):
    found = said(tempered(1, 800, 1 / temperature))
    assert found.certainty.proves, "as users sample, more answers are correct"
    assert found.verdict is Verdict.SHARPER
    assert "a lower temperature alone would explain it" in found.reason


def stacked(n, right, greedy):
    """An answer to probe n: a share of the samples is right, the others are wrong in different
    ways."""
    k = round(N * right)
    given = [f"{n}"] * k + [f"{n}: {place}" for place in range(N - k)]
    return Answered(tuple(given), (True,) * k + (False,) * (N - k), 9.0, greedy_right=greedy)


def test_a_gain_beyond_what_the_live_version_gives_at_temperature_0_is_better():
    """A model that blurts: most likely it answers at once, and wrongly, however cold."""
    sides = [(stacked(n, 0.2, n % 12 == 0), stacked(n, 0.5, n % 12 == 0)) for n in range(100)]
    made = [Probe(f"{n}", f"{n}", live, live, other) for n, (live, other) in enumerate(sides)]
    assert said(made).verdict is Verdict.BETTER


@pytest.mark.parametrize("margin", ["base_margin", "tag_margin"])
def test_a_margin_of_all_asks_for_no_proof(margin):
    settings = GateConfig(**{margin: 1.0}, proven_tags=["law"])
    given = probes(90, 0.3, 0.7, base=0.3, labelled=True, tags=("law",))
    assert judge(given, settings, FIRST).checks


@pytest.mark.parametrize(("lost", "verdict"), [(8, Verdict.UNPROVEN), (0, Verdict.SHARPER)])
def test_a_likely_loss_is_held_however_sure_the_candidate_is(lost, verdict):
    sides = [(stacked(n, 0.8, None), agreed(n, 1)) for n in range(lost)]
    sides += [(agreed(n, 0.3), agreed(n, 0.9)) for n in range(lost, 60 + lost)]
    sides += [(stacked(n, 0.9, None),) * 2 for n in range(60 + lost, 150)]
    made = [Probe(f"{n}", f"{n}", live, live, other) for n, (live, other) in enumerate(sides)]
    assert said(made).verdict is verdict


def agreed(n, share):
    """A share of the samples gives one wrong answer, the others different ones."""
    k = round(N * share)
    return Answered((f"{n}!",) * k + tuple(f"{n}: {i}" for i in range(N - k)), (False,) * N, 9.0)


def test_correct_answers_that_are_lost_in_a_tag_are_worse():
    gained = probes(300, 0.5, 0.9, labelled=True)
    spoilt = probes(40, 0.9, 0.9, labelled=True, says="wrong", seed=1, tags=("law",))
    found = said(gained + spoilt)
    assert found.verdict is Verdict.WORSE
    assert found.reason.startswith("accuracy by tag law")
    assert len(found.worst) == 10
    assert all(change.right_after < change.right_before for change in found.worst)
    assert {change.candidate for change in found.worst} <= {f"1-{n}!" for n in range(40)}


def test_sharpening_that_loses_what_could_be_reached_waits_for_a_human():
    """Of probes with a right answer now and then, none is left; the others got better."""
    narrowed = probes(60, 0.2, 0.9, labelled=True, says="wrong", seed=1)
    found = said(probes(240, 0.5, 1.0, labelled=True) + narrowed)
    assert found.verdict is Verdict.UNPROVEN
    assert found.reason.startswith("reach: ")
    assert lookup(found, Rule.REACH).compared.after == pytest.approx(0.8, abs=0.02)


def test_a_safety_tag_asks_for_proof_and_says_how_many_labels_it_takes():
    harmless = probes(200, 0.3, 0.8, labelled=True)
    few = probes(5, 0.9, 0.9, labelled=True, tags=("safety",), seed=1)
    found = said(harmless + few)
    assert found.verdict is Verdict.UNPROVEN
    assert "accuracy by tag safety" in found.reason
    assert "labels needed" in found.reason
    many = probes(150, 0.9, 0.9, labelled=True, tags=("safety",), seed=1)
    assert said(harmless + many).verdict is Verdict.BETTER
    other = probes(5, 0.9, 0.9, labelled=True, tags=("sums",), seed=1)
    assert said(harmless + other).verdict is Verdict.BETTER, "no other tag does"


def test_small_steps_downhill_end_at_the_base():
    found = said(probes(300, 0.55, 0.5, base=0.7, labelled=True))
    assert found.verdict is Verdict.WORSE
    assert Rule.BASE in found.reason


@pytest.mark.parametrize("tags", [(), ("law",)])
def test_a_step_up_from_a_live_version_that_is_below_the_base_is_held(tags):
    others = probes(300, 0.3, 0.7, labelled=True, seed=1) if tags else []
    found = said(others + probes(300, 0.3, 0.5, base=0.7, labelled=True, tags=tags))
    assert found.verdict is Verdict.UNPROVEN
    assert f"by tag {tags[0]}" if tags else Rule.BASE in found.reason
    level = said(probes(300, 0.3, 0.5, base=0.5, labelled=True))
    assert level.verdict is Verdict.UNPROVEN, "as good as the base, for all one knows"


@pytest.mark.parametrize(("base", "verdict"), [(0.8, Verdict.UNPROVEN), (0.5, Verdict.SHARPER)])
def test_what_is_likely_to_be_worse_than_the_base_is_held_however_sure_it_is(base, verdict):
    labelled = probes(60, 0.5, 0.5, base=base, labelled=True)
    assert said(labelled + probes(200, 0.3, 0.9, seed=1)).verdict is verdict


def test_labels_that_lean_to_better_save_from_a_collapse_that_they_do_not_show():
    """Most questions of these few have the same answer now, and rightly so."""
    rng = random.Random(1)
    live = [answered(rng, 0.5, right="no", label=f"{n % 4}", labelled=True) for n in range(24)]
    candidate = [answered(rng, 0.9, right="no", label="no", labelled=True) for _ in live]
    pairs = zip(live, candidate, strict=True)
    given = [Probe(str(n), str(n), one, one, other) for n, (one, other) in enumerate(pairs)]
    assert said(given).verdict is Verdict.BETTER
    unlabelled = [
        Probe(p.key, p.key, *(Answered(side.answers) for side in (p.base, p.live, p.candidate)))
        for p in given
    ]
    assert said(unlabelled).verdict is Verdict.WORSE
    assert said(given[:4] + unlabelled[4:]).verdict is Verdict.UNPROVEN


def test_near_duplicates_are_one_piece_of_evidence():
    apart = probes(60, 0.3, 0.6, labelled=True)
    same = [Probe(p.key, "one", p.base, p.live, p.candidate) for p in apart]
    assert said(apart).certainty.e > 1000
    assert said(same).certainty.e < 2
    assert (said(apart).certainty.labels, said(same).certainty.labels) == (60, 1)


def test_labels_that_are_too_few_to_be_sure_say_how_many_would_do():
    found = said(probes(30, 0.5, 0.57, labelled=True))
    assert found.verdict is not Verdict.BETTER
    assert 1 < found.certainty.e < found.certainty.threshold == 52
    assert f"30 labels, about {found.certainty.needed} needed" in found.reason
    more = probes(2 * found.certainty.needed, 0.5, 0.57, labelled=True, seed=1)
    assert said(more).verdict is Verdict.BETTER


def test_a_gate_of_a_spent_budget_asks_for_more():
    given = probes(40, 0.5, 0.8, labelled=True)
    assert said(given).verdict is Verdict.BETTER
    assert said(given, 2e9).verdict is Verdict.SHARPER


def test_a_few_labels_among_many_probes_do_not_certify():
    given = probes(8, 0.3, 0.7, labelled=True) + probes(90, 0.3, 0.7, seed=1)
    assert said(given).verdict is Verdict.SHARPER


def test_stale_probes_prove_nothing():
    given = probes(90, 0.3, 0.7, labelled=True)
    found = said(given, staleness=Staleness(0.99, 0.5))
    assert (found.verdict, found.reason[:5]) == (Verdict.UNPROVEN, "stale")
    assert said(given, staleness=Staleness(0.6, 0.01)).verdict is Verdict.UNPROVEN
    assert said(given, staleness=Staleness(0.6, 0.5)).verdict is Verdict.BETTER


@pytest.mark.parametrize("gates", [8, pytest.param(100, marks=pytest.mark.long)])
@pytest.mark.parametrize("labelled", [False, True])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_an_unchanged_model_hardly_ever_gets_a_verdict(gates, labelled, share):
    found = [said(probes(60, share, share, seed=s, labelled=labelled)) for s in range(gates)]
    verdicts = [each.verdict for each in found]
    assert verdicts.count(Verdict.SHARPER) <= max(1, 0.03 * gates)
    assert verdicts.count(Verdict.WORSE) <= max(1, 0.05 * gates)
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
