"""Whatever happened, the plan leads to what the store says, and nobody waits for it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttrl.engine.reconcile import Flip, Load, Situation, Unload, plan

A, B, C = "ttrl-x-1-aaaaaaaa", "ttrl-x-2-bbbbbbbb", "ttrl-cand-7-123456-3"


@pytest.mark.parametrize(
    ("now", "actions"),
    [
        pytest.param(Situation(None, None, None), [], id="nothing learned yet"),
        pytest.param(Situation(A, None, None), [Load(A), Flip(A)], id="first publication"),
        pytest.param(Situation(A, None, A, {A}), [], id="steady"),
        pytest.param(Situation(B, A, A, {A}), [Load(B), Flip(B)], id="second publication"),
        pytest.param(Situation(B, A, B, {A, B}), [], id="the previous one stays loaded"),
        pytest.param(
            Situation(B, A, B, set()), [Flip(None), Load(B), Load(A)], id="the engine restarted"
        ),
        pytest.param(
            Situation(B, A, B, {A}), [Flip(A), Load(B)], id="the engine lost the live one only"
        ),
        pytest.param(
            Situation(B, A, None, {A}, broken={B}), [Flip(A)], id="broken: the previous serves"
        ),
        pytest.param(
            Situation(B, A, None, set(), broken={A, B}), [], id="both broken: the base serves"
        ),
        pytest.param(Situation(None, A, A, {A}), [Flip(None)], id="rolled back to the base"),
        pytest.param(
            Situation(None, None, None, {A}, in_flight={A: 2}), [], id="requests end where they are"
        ),
        pytest.param(Situation(None, None, None, {A}), [Unload(A)], id="nobody needs it"),
        pytest.param(
            Situation(A, None, A, {A, C}, leases={"ttrl-cand-7-"}), [], id="a run's candidate"
        ),
        pytest.param(Situation(A, None, A, {A, C}), [Unload(C)], id="a dead run's candidate"),
        pytest.param(Situation(None, None, None, {"other"}), [], id="somebody else's adapter"),
    ],
)
def test_the_plan(now, actions):
    assert plan(now) == actions


names = st.sampled_from([None, A, B])
some = st.frozensets(st.sampled_from([A, B, C]))


@given(wanted=names, previous=names, live=names, loaded=some, broken=some)
def test_carrying_out_plans_settles_on_the_best_version_that_can_be_loaded(
    wanted, previous, live, loaded, broken
):
    loaded = set(loaded)
    for _ in range(4):
        actions = plan(Situation(wanted, previous, live, loaded, broken))
        for action in actions:
            match action:
                case Load(version):
                    assert version not in broken
                    loaded.add(version)
                case Flip(version):
                    assert version is None or version in loaded, "flipped to what is not there"
                    live = version
                case Unload(version):
                    assert version != live, "unloaded what users get"
                    loaded.remove(version)
    assert actions == []
    expected = next((v for v in (wanted, previous) if v is None or v not in broken), None)
    assert live == expected
