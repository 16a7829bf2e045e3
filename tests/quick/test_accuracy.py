"""How good versions are, in words."""

from __future__ import annotations

import pytest

from serve import accuracy

RIGHT = {"value": 0.85, "low": 0.75, "high": 0.924, "labels": 50}


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ({"withheld": "apart", "speaking": 50}, "agrees with itself otherwise"),
        ({"withheld": "few", "speaking": 3}, "takes 20 labels"),
        ({}, "the next measurement says why"),
    ],
)  # fmt: skip
def test_why_nothing_is_said_of_the_traffic(numbers, said):
    assert said in accuracy.withheld(numbers)


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ({"pass_at_1": 0.85, "right": RIGHT}, "85% (75% to 92%)"),
        ({"pass_at_1": 0.85}, "85%"),
        ({"pass_at_1": None, "right": None}, None),
    ],
)
def test_right_on_the_probes(numbers, said):
    assert accuracy.on_probes(numbers) == said
