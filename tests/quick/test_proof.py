"""Served weights are told from others by what they say of pinned sequences."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttrl.engine.proof import TOLERANCE, Pin, Pinned, Proof, prove

TOKENS = 400


def noisy(values, spread, seed):
    rng = random.Random(seed)
    return tuple(value + rng.gauss(0, spread) for value in values)


BASE = noisy([-1.0] * TOKENS, 0.7, 1)


def pinned(step, *, parent=None, dtype="float32"):
    """A version that lies `step` nats a token from its base."""
    pin = Pin(1, tuple(range(TOKENS + 3)), 3)
    return [Pinned(pin, dtype, noisy(BASE, step, 2), BASE, parent)]


CASES = [
    pytest.param(0.05, "own", 1e-6, "float32", Proof.PROVEN, id="its own, in float32"),
    pytest.param(0.05, "base", 1e-6, "float32", Proof.MISMATCH, id="the base's"),
    pytest.param(1e-4, "base", 1e-6, "float32", Proof.MISMATCH, id="the base's, very near"),
    pytest.param(0.05, "other", 1e-6, "float32", Proof.MISMATCH, id="some other version's"),
    pytest.param(0.03, "own", 0.06, "bfloat16", Proof.PROVEN, id="its own, under noise"),
    pytest.param(0.03, "base", 0.06, "bfloat16", Proof.MISMATCH, id="the base's, under noise"),
    pytest.param(1e-3, "own", 0.06, "bfloat16", Proof.INDISTINCT, id="less than the noise"),
    pytest.param(0.0, "own", 1e-6, "float32", Proof.INDISTINCT, id="the same as its base"),
    pytest.param(0.05, "own", 1.0, "bfloat16", Proof.MISMATCH, id="far from everything"),
]


@pytest.mark.parametrize(("step", "source", "noise", "dtype", "outcome"), CASES)
def test_what_is_served(step, source, noise, dtype, outcome):
    expected = pinned(step, dtype=dtype)
    sources = {"own": expected[0].own, "base": BASE, "other": noisy(BASE, step, 3)}
    served = [noisy(sources[source], noise, 4)]
    assert prove(expected, served).proof is outcome


def test_it_is_told_from_the_version_before_too():
    parent = noisy(BASE, 0.05, 5)
    expected = pinned(0.05, parent=parent)
    assert prove(expected, [expected[0].own]).proof is Proof.PROVEN
    assert prove(expected, [parent]).proof is Proof.MISMATCH
    same = pinned(0.05, parent=expected[0].own)
    assert prove(same, [expected[0].own]).proof is Proof.INDISTINCT


def test_nothing_pinned_is_said():
    found = prove([], [])
    assert (found.proof, found.proof.may_serve) == (Proof.NOTHING_PINNED, True)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_a_mismatch(value):
    expected = pinned(0.05)
    assert prove(expected, [(value, *expected[0].own[1:])]).proof is Proof.MISMATCH


def test_only_a_mismatch_does_not_serve():
    assert [proof for proof in Proof if not proof.may_serve] == [Proof.MISMATCH]


@given(step=st.floats(0.001, 0.1), dtype=st.sampled_from(sorted(TOLERANCE)))
def test_an_exact_engine_is_always_right(step, dtype):
    expected = pinned(step, dtype=dtype)
    assert prove(expected, [expected[0].own]).proof is Proof.PROVEN
    assert prove(expected, [BASE]).proof is Proof.MISMATCH
