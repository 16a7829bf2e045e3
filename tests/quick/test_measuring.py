"""When the daemon measures the live version by itself."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from types import SimpleNamespace

import pytest

from serve.daemon import housekeeping
from serve.daemon.housekeeping import Measuring
from tests.runs import QUALITY
from ttrl.config import Config
from ttrl.evaluation.drift import Shift
from ttrl.questions.question import from_prompt
from ttrl.store.measurements import Kind
from ttrl.store.questions import Recorded
from ttrl.store.runs import Trigger

HOUR = timedelta(hours=1)


@pytest.fixture
def core(store, tmp_path):
    asked = [Recorded(from_prompt(f"q{n}"), 1.0) for n in range(20)]
    store.questions.record(asked, holdout=1)
    return SimpleNamespace(
        store=store,
        config=Config(state_dir=tmp_path, measure={"every": HOUR}),
        engine=SimpleNamespace(up=True, url="http://127.0.0.1:1"),
    )


SHIFT = Shift(0.3, 0.1, 100, 100)
BOTH = [Kind.QUALITY, Kind.QUESTIONS]


def measured(store, seconds_ago, found=QUALITY):
    store.measurements.add(None, found)
    with store.write() as connection:
        connection.exec_driver_sql("update measurements set at = ?", (time.time() - seconds_ago,))


def few_probes(core):
    core.store.forgetting.delete(list(range(1, 10)))


def under_way(core):
    core.store.runs.create(Trigger.OPERATOR, {})


def never(core):
    core.config = core.config.model_copy(
        update={"measure": core.config.measure.model_copy(update={"every": None})}
    )


@pytest.mark.parametrize(
    ("so", "due"),
    [
        (lambda core: None, BOTH),
        (lambda core: measured(core.store, 3500), [Kind.QUESTIONS]),
        (lambda core: measured(core.store, 3700), BOTH),
        (lambda core: measured(core.store, 3500, SHIFT), [Kind.QUALITY]),
        (lambda core: setattr(core.engine, "up", False), []),
        (few_probes, [Kind.QUESTIONS]),
        (under_way, []),
        (never, []),
    ],
)
def test_when(core, so, due):
    """A run's gate measures the quality, never the questions."""
    so(core)
    assert Measuring(core)._due() == due


def test_another_version_has_not_been_measured(core):
    measured(core.store, 10)
    core.store.adapters.served("new", "as wanted")
    assert Kind.QUALITY in Measuring(core)._due()


@pytest.mark.parametrize("code", [0, 1])
def test_it_is_not_tried_again_at_once(core, monkeypatch, caplog, code):
    """Whatever comes of it; a failure is told."""
    started = []

    async def spawn(job, arguments, config, log_file):
        started.append((job, arguments))

        async def wait():
            return code

        return SimpleNamespace(wait=wait)

    monkeypatch.setattr(housekeeping, "spawn", spawn)
    measuring = Measuring(core)

    async def look_twice():
        await measuring.look()
        await measuring.look()

    asyncio.run(look_twice())
    assert started == [("jobs.measure", ["--engine-url", "http://127.0.0.1:1", *BOTH])]
    assert bool(caplog.records) == bool(code)
