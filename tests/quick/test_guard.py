"""The guard: what has collapsed is stopped, what learns goes on.

The runs in tests/data/guard are real ones of the demo's model, recorded step by step with nothing
to stop them: sums that it can learn (good; drift, which learns and then forgets at 5 to 10 times
the learning rate; garbage, at 20 to 30 times), and sums of four to six digits, which it cannot
(misled). Three have no `kl`, so that the other rules must do; in the others it is estimated from
the tokens that were drawn, and only in good_b and good_c limited for single ones. They hold the
means of each step; what each question of it showed is made up to have these means. `right` is the
share of a step's samples that were right, which no rule sees. Other populations are those of
benchmarks/monitors.py.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import count, cycle, product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import monitors
from ttrl.config import GuardConfig
from ttrl.monitoring.run import Action, Bets, Reading, Rule, judge
from ttrl.monitoring.signs import Signs, Visit

RUNS = Path(__file__).parents[1] / "data" / "guard"
NAMES = sorted(path.stem for path in RUNS.glob("*.json"))
GOOD = [name for name in NAMES if name.startswith("good")]
COLLAPSED = [name for name in NAMES if not name.startswith("good")]
SETTINGS = GuardConfig()
DECIDED = 0.3
"""Of 32 samples, 10 for one answer and a few for the next decide a vote."""
QUESTIONS = 8
CALM = Signs(
    step=0, share=0.6, vote_entropy=1.0, asked_again=6, flipped=0, alike=0.1, no_signal=0.1,
    unreadable=0.05, cut=0.0, length=100.0, token_entropy=0.3, kl=0.05, mismatch=0.01,
    effective=1.0,
)  # fmt: skip


def recorded(name: str) -> tuple[list[Signs], list[float]]:
    """The steps of a run, and the share of right samples in each."""
    columns = json.loads((RUNS / f"{name}.json").read_text())
    right = columns.pop("right")
    del columns["flipped_since"]
    rows = zip(*columns.values(), strict=True)
    seen = [Signs(**dict(zip(columns, row, strict=True))) for row in rows]
    return [replace(signs, visits=tuple(visits(seen, at))) for at, signs in enumerate(seen)], right


def visits(seen: list[Signs], at: int) -> Iterator[Visit]:
    """Of the questions of a step, which all are like its mean. The oldest are asked again."""
    signs, fresh = seen[at], count(1000 * (at + 1))
    round_ = next((place for place, each in enumerate(seen) if each.asked_again), len(seen))
    total = max(QUESTIONS, signs.asked_again)
    alike = round((1 + math.sqrt(1 + 4 * (signs.alike or 0) * total * (total - 1))) / 2)
    for place in range(total):
        label = 0 if alike > 1 and place < alike else next(fresh)
        visit = Visit(
            signs.step, label, signs.share >= DECIDED, signs.share, signs.unreadable, signs.length
        )
        if place < signs.asked_again:
            before, flipped = seen[at - round_], place < signs.flipped
            visit = replace(
                visit, first_unreadable=before.unreadable, first_length=before.length,
                last_step=before.step, last_label=next(fresh) if flipped else label,
                last_share=before.share,
                changed=flipped if min(before.share, signs.share) >= DECIDED else None,
            )  # fmt: skip
        yield visit


def first_stop(seen: list[Signs], settings: GuardConfig = SETTINGS):
    """The ruling that ends the run, and after which step; the last one if none does."""
    for step in range(1, len(seen) + 1):
        ruling = judge(seen[:step], settings)
        if ruling.stops:
            break
    return ruling, step


def run(*parts: tuple[int, dict[str, object]]) -> list[Signs]:
    """So many steps each, otherwise calm."""
    steps = count(1)
    return [
        replace(CALM, step=next(steps), **changed) for times, changed in parts for _ in range(times)
    ]


def asked(step: int, **changed: object) -> Visit:
    """A question of a calm step, which had the same answer six steps before, if it is asked
    again."""
    number = next(NUMBERS)
    again: dict[str, object] = {}
    if step > 6:
        again = {
            "first_unreadable": 0.05, "first_length": 100.0, "last_step": step - 6,
            "last_label": number, "last_share": 0.6, "changed": False,
        }  # fmt: skip
    calm = Visit(step, number, True, share=0.6, unreadable=0.05, length=100.0)
    return replace(calm, **(again | changed))


NUMBERS = count(1)
NEVER = {"label": None, "share": 0.05, "last_label": None, "last_share": None, "changed": None}


def questions(*parts: tuple[int, dict[str, object]]) -> list[Signs]:
    """So many steps each, and what their questions show otherwise than calm ones."""
    steps = count(1)
    return [
        replace(CALM, step=step, visits=tuple(asked(step, **changed) for _ in range(QUESTIONS)))
        for times, changed in parts
        for step in (next(steps) for _ in range(times))
    ]


@pytest.mark.parametrize("name", GOOD)
def test_real_learning_goes_on(name):
    seen, right = recorded(name)
    ruling, step = first_stop(seen)
    assert (ruling.action, step) == (Action.GO_ON, len(seen)), ruling.reason
    assert ruling.trusted == len(seen)
    assert right[-1] > right[0] + 0.5, "it did learn"


@pytest.mark.parametrize("name", COLLAPSED)
def test_a_real_collapse_is_stopped_and_nothing_worse_is_trusted(name):
    seen, right = recorded(name)
    ruling, step = first_stop(seen)
    assert ruling.stops
    assert step <= 30
    assert right[ruling.trusted] >= right[0], "what may still ship is no worse than the start"
    assert max(right[-3:]) < 0.2, "and this is where it would have gone"


@pytest.mark.parametrize(
    ("changed", "rule", "within"),
    [
        pytest.param({"unreadable": 1.0}, Rule.UNREADABLE, 3, id="unreadable"),
        pytest.param({"unreadable": 0.6}, Rule.UNREADABLE, 6, id="mostly unreadable"),
        pytest.param({"length": 2.0}, Rule.SHORT, 3, id="answers shrink"),
        pytest.param({"label": 0, "share": 1.0, "changed": True}, Rule.ALIKE, 3, id="one answer"),
        pytest.param({"label": 0, "changed": None}, Rule.ALIKE, 3, id="one answer, undecided"),
        pytest.param({"label": -1, "last_label": -2, "changed": True}, Rule.ALIKE, 3, id="two"),
        pytest.param({"share": 0.1}, Rule.FALL, 4, id="agreement falls"),
    ],
)
def test_what_all_questions_show_is_seen_within_steps_and_what_was_before_is_trusted(
    changed, rule, within
):
    ruling, step = first_stop(questions((15, {}), (10, changed)))
    assert (ruling.action, ruling.rule) == (Action.HOLD, rule), ruling.reason
    assert 15 < step <= 15 + within
    assert ruling.trusted == 14, "weights 15 drew the samples of step 16"
    assert ruling.collapse
    assert ruling.reason.startswith(f"steps 16 to {step}: ")


@pytest.mark.parametrize(("staleness", "trusted"), [(0, 14), (1, 13)])
def test_weights_that_drew_samples_for_a_later_step_are_not_trusted(staleness, trusted):
    """A step ahead, weights 14 drew the samples of step 16."""
    seen = questions((15, {}), (10, {"unreadable": 1.0}))
    ruling, _ = first_stop([replace(signs, staleness=staleness) for signs in seen])
    assert ruling.trusted == trusted


@pytest.mark.parametrize(
    ("changed", "rule", "collapse"),
    [
        pytest.param({"token_entropy": 2.0}, Rule.ENTROPY, True, id="tokens at random"),
        pytest.param({"kl": 3.0}, Rule.KL, False, id="far from the start"),
    ],
)
def test_what_a_step_shows_must_show_twice(changed, rule, collapse):
    ruling, step = first_stop(run((15, {}), (10, changed)))
    assert (ruling.action, ruling.rule, ruling.collapse) == (Action.HOLD, rule, collapse)
    assert (step, ruling.trusted) == (17, 14)


@pytest.mark.parametrize(
    ("changed", "rule"), [({"mismatch": 0.5}, Rule.MISMATCH), ({"effective": 0.4}, Rule.EFFECTIVE)]
)
def test_an_engine_that_answers_with_other_weights_aborts_at_once(changed, rule):
    ruling, step = first_stop(run((3, changed)))
    assert (ruling.action, ruling.rule, ruling.trusted, step) == (Action.ABORT, rule, 0, 1)
    assert not ruling.collapse, "no question is to blame"


def test_when_most_decided_labels_are_given_up_nothing_is_trusted_since_the_oldest_of_them():
    own = {"share": 0.7, "changed": True}
    seen = questions((20, {}))
    flips = [
        replace(CALM, step=step, visits=tuple(
            replace(asked(step, **own), last_label=-next(NUMBERS), last_step=4 if place else 3)
            for place in range(QUESTIONS)
        )) for step in range(21, 30)
    ]  # fmt: skip
    ruling, step = first_stop(seen + flips)
    assert ruling.rule is Rule.FLIPS, ruling.reason
    assert step <= 24
    assert ruling.trusted == 1, "the weights after two steps gave the label of step 3"


@pytest.mark.parametrize(
    "seen",
    [
        pytest.param(run((10, {}), (1, {"kl": 9.0, "token_entropy": 9.0}), (10, {})), id="one odd"),
        pytest.param(run((10, {"token_entropy": None, "kl": None})), id="unknown"),
        pytest.param(run((1, {"share": 0.3, "length": 2}), (9, {"kl": 1.1, "length": 2}))),
        pytest.param(questions((10, {}), (1, {"unreadable": 1.0}), (10, {})), id="one odd step"),
        pytest.param(questions((1, {"unreadable": 0.7}), (9, {"unreadable": 0.1})), id="readable"),
        pytest.param(questions((1, {}), (30, {"length": 25.0})), id="a quarter of the length"),
        pytest.param(questions((1, {}), (30, {"length": 900.0})), id="nine times the length"),
        pytest.param(questions((20, {"label": 0, "last_label": 0})), id="one label"),
        pytest.param(questions((1, {}), (20, {"share": 1.0})), id="all agree"),
        pytest.param(questions((20, {"changed": None, "last_label": -1})), id="flips by chance"),
        pytest.param(questions((20, NEVER)), id="never a label"),
    ],
)  # fmt: skip
def test_what_is_no_trouble_goes_on(seen):
    ruling, _ = first_stop(seen)
    assert ruling.action is Action.GO_ON, ruling.reason


@pytest.mark.parametrize(("share", "label", "stops"), [(0.3, 1, False), (0.3, None, True)])
def test_only_questions_with_a_majority_ask_for_distance(share, label, stops):
    """Of eight questions with answers of two tokens; the others agree already."""
    first, *_ = questions((1, {"share": 0.95}))
    others = tuple(replace(visit, share=share, label=label) for visit in first.visits[:5])
    first = replace(first, visits=others + first.visits[5:])
    seen = [first, *run((9, {}))]
    seen = [replace(each, kl=0.5, length=2.0, step=at) for at, each in enumerate(seen, 1)]
    ruling, _ = first_stop(seen)
    assert (ruling.rule is Rule.KL) is stops


def test_trouble_from_the_second_step_on_leaves_nothing_to_trust():
    ruling, _ = first_stop(questions((1, {}), (9, {"unreadable": 0.9})))
    assert (ruling.action, ruling.trusted) == (Action.HOLD, 0)


def test_what_another_rule_saw_before_is_not_trusted_either():
    late = {"label": 0, "share": 1.0, "changed": True, "unreadable": 0.3}
    ruling, _ = first_stop(questions((10, {}), (4, {"unreadable": 0.3}), (6, late)))
    assert (ruling.rule, ruling.trusted) == (Rule.ALIKE, 9)


@pytest.mark.integration
@settings(max_examples=12, deadline=None)
@given(
    st.lists(st.floats(0, 0.04), min_size=12, max_size=40),
    st.floats(0.3, 10),
    st.floats(0, 1),
)
def test_sound_learning_of_any_speed_goes_on(gains, longer, sharper):
    """Agreement rises as it may, answers grow as long as it takes, token entropy falls to any
    part of what it was."""
    seen, share = [], 0.2
    for step, gain in enumerate(gains, 1):
        share = min(1.0, share + gain)
        part = (share - 0.2) / 0.8
        length = 100 * (1 + (longer - 1) * part)
        before = {"last_share": 0.2} if step > 6 else {}
        shown = {"share": share, "length": length, **before}
        visits = tuple(asked(step, **shown) for _ in range(QUESTIONS))
        entropy = 0.3 * (1 - (1 - sharper) * part)
        seen.append(replace(CALM, step=step, token_entropy=entropy, visits=visits))
    assert not first_stop(seen)[0].stops


@pytest.mark.parametrize("odds", [1.0, 1.5, 9.0])
def test_money_comes_from_nowhere(odds):
    """Exactly: over all outcomes whose mean is what is tolerated, there is 1 at most in all."""
    tolerated = 1 / (1 + odds)
    for steps in range(1, 9):
        expected = 0.0
        for outcome in product((0.0, 1.0), repeat=steps):
            chance = math.prod(tolerated if each else 1 - tolerated for each in outcome)
            bets = Bets([[Reading(each, 0.0, tolerated)] for each in outcome])
            expected += chance * bets.evidence
        assert expected == pytest.approx(1 - 1 / (steps + 1))


CHANGES = {"nothing changes": monitors.Change(), **monitors.SOUND}


@pytest.mark.integration
@pytest.mark.parametrize(("change", "kind"), [*zip(cycle(CHANGES), monitors.KINDS, strict=False)])
def test_nothing_is_stopped_that_does_not_collapse(change, kind):
    """How often it is, benchmarks.monitors measures; here is one run of each kind."""
    ruling, _ = monitors.judged(7, monitors.KINDS[kind], CHANGES[change], steps=25)
    assert not ruling.stops, ruling.reason


@pytest.mark.parametrize(("change", "kind"), monitors.collapses()[::7])
def test_what_collapses_is_stopped(change, kind):
    ruling, _ = monitors.judged(7, monitors.KINDS[kind], monitors.COLLAPSES[change])
    assert ruling.collapse
