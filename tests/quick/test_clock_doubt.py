"""A clock that was set a year ahead makes nothing old at once."""

from __future__ import annotations

import pytest

from serve.daemon.housekeeping import ClockDoubt

DAY, YEAR = 86_400.0, 365 * 86_400.0
NOW = 1.8e9


@pytest.mark.parametrize(
    ("looks", "believed"),
    [
        pytest.param([(0, 0, 0), (600, 600, 0)], [True, True], id="it goes as it should"),
        pytest.param([(0, 0, None)], [True], id="nothing is there yet"),
        pytest.param(
            [(YEAR, 0, 0), (YEAR + 600, 600, 0), (YEAR + 2 * DAY, 2 * DAY, 0)],
            [False, False, True],
            id="ahead at the start, and left so",
        ),
        pytest.param(
            [(0, 0, 0), (YEAR, 600, 0), (YEAR + 600, 1200, YEAR), (1800, 1800, YEAR)],
            [True, False, False, True],
            id="set ahead, with rows written by it, and put right",
        ),
        pytest.param([(0, 0, 0), (7 * DAY, 7 * DAY, 0)], [True, True], id="the host slept a week"),
        pytest.param([(-YEAR, 0, 0), (0, 600, 0)], [True, False], id="without a battery, then set"),
    ],
)
def test_when_the_time_of_day_is_believed(looks, believed):
    doubt = ClockDoubt()
    found = [
        doubt.believes(NOW + now, 5000.0 + up, None if newest is None else NOW + newest)
        for now, up, newest in looks
    ]
    assert found == believed
