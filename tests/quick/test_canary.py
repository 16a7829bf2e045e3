"""An engine that hangs is told from one that is only busy."""

from __future__ import annotations

from itertools import count

import pytest

from serve.daemon.core import Canary
from ttrl.engine.client import EngineRefused, EngineUnreachable, Load


class Engine:
    """Answers a pulse with `failure`; `generated` are the tokens that it counts, look by look."""

    def __init__(self, failure=None, generated=()):
        self.failure = failure
        self.pulses = 0
        self._generated = iter(generated or count())

    def pulse(self, timeout):
        self.pulses += 1
        if self.failure:
            raise self.failure

    def load(self):
        tokens = next(self._generated)
        if tokens == "gone":
            raise EngineUnreachable("gone")
        return None if tokens is None else Load(waiting=0, running=1, tokens=tokens)


LATE = EngineUnreachable("too late")


@pytest.mark.parametrize(
    ("engine", "sings"),
    [
        pytest.param(Engine(), True, id="well"),
        pytest.param(Engine(LATE, [7, 7]), False, id="it generates for nobody"),
        pytest.param(Engine(LATE, [7, 8]), True, id="busy with others"),
        pytest.param(Engine(LATE, [None, None]), False, id="late, and it does not count"),
        pytest.param(Engine(LATE, [7, "gone"]), False, id="its counts are late as well"),
        pytest.param(Engine(LATE, ["gone", "gone"]), False, id="gone"),
        pytest.param(Engine(EngineRefused(500, "dead")), False, id="what generates is dead"),
        pytest.param(Engine(EngineRefused(400, "no such token")), True, id="it answers"),
    ],
)
def test_whether_it_sings(engine, sings):
    assert Canary(engine, patience=1).sings() is sings


def test_it_sings_now_and_then_and_at_once_in_doubt():
    engine = Engine()
    canary = Canary(engine, patience=1)
    assert canary.sings()
    assert canary.sings()
    assert engine.pulses == 1
    canary.doubt()
    assert canary.sings()
    assert engine.pulses == 2
