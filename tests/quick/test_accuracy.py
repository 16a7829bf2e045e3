"""How good versions are, in words."""

from __future__ import annotations

import pytest

from serve import views

RIGHT = {"value": 0.85, "low": 0.75, "high": 0.924, "labels": 50}


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ({"withheld": "apart", "speaking": 50}, "agreement differs"),
        ({"withheld": "few", "speaking": 3}, "20 labels that represent"),
        ({}, "see the next measurement"),
    ],
)  # fmt: skip
def test_why_nothing_is_said_of_the_traffic(numbers, said):
    assert said in views.withheld(numbers)


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ({"pass_at_1": 0.85, "right": RIGHT}, "85% (75% to 92%)"),
        ({"pass_at_1": None, "right": None}, None),
    ],
)
def test_right_on_the_probes(numbers, said):
    assert views.on_probes(numbers) == said
