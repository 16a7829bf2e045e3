"""A run that is told to stop, whatever it is in the midst of."""

from __future__ import annotations

import signal
from contextlib import suppress

import pytest

from jobs import adapt


@pytest.mark.parametrize("number", adapt.WHY_STOPPED)
def test_no_library_passes_over_a_stop(monkeypatch, number):
    """Such as an import that takes any Exception for a module that is not there."""
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    with pytest.raises(adapt.Stopped, match=adapt.WHY_STOPPED[number]), suppress(Exception):
        adapt._stop(number, None)
