"""How good versions are, in words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from serve import views
from tests.runs import BARE
from ttrl.evaluation.estimates import Withheld


@pytest.mark.parametrize(
    ("why", "speaking", "said"),
    [
        (Withheld.APART, 50, "agreement differs"),
        (Withheld.FEW, 3, "20 labels that represent the traffic are needed, and there are 3"),
    ],
)
def test_why_nothing_is_said_of_the_traffic(why, speaking, said):
    assert said in views.withheld(replace(BARE, withheld=why, speaking=speaking))
