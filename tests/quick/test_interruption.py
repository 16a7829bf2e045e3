"""A run that is told to stop, whatever it is in the midst of."""

from __future__ import annotations

import signal
from contextlib import suppress

import pytest

from jobs import interruption
from jobs.interruption import LAST_SECONDS, WHY, Stopped


@pytest.fixture
def hearing():
    before = {number: signal.getsignal(number) for number in WHY}
    interruption.hear()
    yield
    signal.alarm(0)
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", WHY)
def test_no_library_passes_over_a_stop(hearing, number):
    with pytest.raises(Stopped, match=WHY[number]), suppress(Exception):
        signal.raise_signal(number)


def test_one_stop_is_enough(hearing):
    """What follows it is the clearing away, which another must not break off."""
    with suppress(Stopped):
        signal.raise_signal(signal.SIGINT)
    for number in WHY:
        signal.raise_signal(number)
        assert signal.getsignal(number) is signal.SIG_IGN


def test_the_clearing_away_has_a_limit(hearing):
    """It asks an engine that may hang."""
    with suppress(Stopped):
        signal.raise_signal(signal.SIGTERM)
    assert 0 < signal.alarm(0) <= LAST_SECONDS


def test_a_stop_waits_for_what_would_lose_it(hearing):
    imported = []

    def load():
        with interruption.put_off():
            with suppress(BaseException):
                signal.raise_signal(signal.SIGTERM)
            imported.append("torch")

    with pytest.raises(Stopped):
        load()
    assert imported
