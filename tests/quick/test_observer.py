"""What of the store shows in the metrics."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest

from serve.daemon.core import Core
from serve.daemon.housekeeping import Observer
from tests.runs import BARE, QUALITY, STEP
from ttrl.evaluation.drift import Drift, Shift
from ttrl.events import Selection, observe
from ttrl.metrics import Metrics
from ttrl.questions.question import from_prompt
from ttrl.store import StoreDamaged
from ttrl.store.adapters import AdapterRow, AdapterState
from ttrl.store.questions import Recorded
from ttrl.store.runs import Trigger


@pytest.fixture
def metrics():
    return Metrics()


@pytest.fixture
def told():
    return []


@pytest.fixture
def observer(store, metrics, tmp_path, told):
    observer = Observer(store, metrics, tmp_path, told.append)
    observer.look()
    return observer


@pytest.fixture
def value(metrics):
    def found(name, **labels):
        return metrics.registry.get_sample_value(f"ttrl_{name}", labels)

    return found


def test_a_store_that_is_found_damaged_later_trains_no_more(store, monkeypatch, caplog):
    def damaged():
        raise StoreDamaged("the store is damaged")

    monkeypatch.setattr(store, "check", damaged)
    parts = SimpleNamespace(store=store, damage=None, runs=SimpleNamespace(damage=None))
    for _ in range(2):
        asyncio.run(Core.check(parts))
    assert parts.damage == parts.runs.damage == "the store is damaged"
    assert len(caplog.records) == 1


def publish(store, name, state=AdapterState.APPROVED, parent=None, run=None):
    row = AdapterRow(name, "l", 1, "d", parent, "base", run, 16, state, "so", 1.0)
    store.adapters.publish(row, [], author="run")


def test_promotions_and_roll_backs_are_told_apart(store, observer, value, told):
    run = store.runs.create(Trigger.OPERATOR, {})
    publish(store, "one", run=run.id)
    publish(store, "two", parent="one")
    observer.look()
    store.adapters.roll_back(author="live_monitor", reason="flips")
    observer.look()
    store.adapters.roll_back(author="operator", reason="by hand")
    store.adapters.want("two", author="operator", reason="after all")
    observer.look()
    observer.look()
    assert value("promotions_total", author="run") == 2
    assert value("promotions_total", author="operator") == 1
    assert value("roll_backs_total", author="live_monitor") == 1
    assert value("roll_backs_total", author="operator") == 1
    assert [(change.about, change.adapter, change.back, change.run) for change in told] == [
        ("one", "one", False, run.id), ("two", "two", False, None), ("two", "one", True, None),
        ("one", None, True, run.id), ("two", "two", False, None),
    ]  # fmt: skip


def test_what_was_before_is_not_counted_again(store, metrics, tmp_path, value):
    publish(store, "one")
    store.adapters.roll_back(author="live_monitor", reason="flips")
    later = Observer(store, metrics, tmp_path)
    later.look()
    publish(store, "two")
    later.look()
    assert value("promotions_total", author="run") == 1
    assert value("roll_backs_total", author="live_monitor") == 0


def test_the_live_version_shows_and_what_cannot_be_said_does_not(store, observer, value):
    store.measurements.add(None, BARE)
    observer.stand()
    assert value("quality_agreement_ratio", role="live") == 0.7, "the base is what serves"
    assert value("quality_pass_at_1_ratio", role="live") is None
    store.measurements.add("one", QUALITY)
    store.measurements.add("one", Drift(from_base=0.2))
    store.adapters.served("one", "as wanted")
    observer.stand()
    assert value("quality_pass_at_1_ratio", role="live") == 0.5
    assert value("estimated_accuracy_ratio", role="live") == 0.55
    assert value("estimated_accuracy_low_ratio", role="live") == 0.4
    assert value("tag_accuracy_ratio", tag="sums") == 0.5
    assert value("drift_policy_nats", against="base") == 0.2
    assert value("drift_policy_nats", against="previous") is None
    assert value("live_adapter_since_timestamp_seconds") > 1e9
    store.measurements.add("one", BARE)
    observer.stand()
    assert value("estimated_accuracy_ratio", role="live") is None
    assert value("tag_accuracy_ratio", tag="sums") is None
    assert value("quality_agreement_ratio", role="base") == 0.7


def test_how_things_stand(store, observer, value, tmp_path):
    store.questions.record([Recorded(from_prompt(str(n)), 1.0) for n in range(3)], holdout=0)
    publish(store, "held", AdapterState.HELD)
    run = store.runs.create(Trigger.OPERATOR, {})
    observer.look()
    assert value("run_active") == 1
    store.runs.end(run.id, "nothing", "so")
    store.measurements.add(None, Shift(0.3, 0.1, 100, 100))
    observer.look()
    observer.stand()
    assert value("run_active") == 0
    assert value("questions", state="new") == 3
    assert value("adapters", state="held") == 1
    assert value("adapters", state="approved") is None
    assert value("last_run_timestamp_seconds") == store.runs.get(run.id).finished
    assert value("drift_questions_psi") == 0.3
    assert value("disk_free_bytes") > 0
    assert value("store_size_bytes") > 0


def test_observations_are_taken_once(store, observer, value):
    run = store.runs.create(Trigger.OPERATOR, {})
    observe(store, run.id, Selection(1, {"client_share": 2}))
    observer.look()
    observer.look()
    assert value("questions_left_out_total", reason="client_share") == 2


def test_a_daemon_that_starts_again_shows_the_newest_step(store, metrics, tmp_path, value):
    """And does not stumble over what another release of ttrl has written."""
    run = store.runs.create(Trigger.OPERATOR, {})
    for steps in (1, 2):
        observe(store, run.id, replace(STEP, step=steps))
    store.runs.observe(run.id, "verdict", {"of another": "release"})
    later = Observer(store, metrics, tmp_path)
    later.look()
    assert value("run_steps") == 2
    assert value("samples_length_tokens") == 12
    assert value("update_steps_total") == 0, "Prometheus has them"


def test_since_when_it_serves(store, observer, value):
    """A daemon that starts again says so again; what serves is as old as before."""
    observer.stand()
    assert value("live_adapter_since_timestamp_seconds") is None
    for name in ("one", None, "one", "one", "one"):
        store.adapters.served(name, "as wanted")
        time.sleep(0.002)
    newest = store.adapters.serving().at
    observer.stand()
    since = value("live_adapter_since_timestamp_seconds")
    assert since < newest
    assert since == store.adapters.live_since()
    store.adapters.served(None, "rolled back")
    assert store.adapters.live_since() == store.adapters.serving().at


def test_what_waits_for_the_operator(store, observer, value):
    """Not what was held before the version that is wanted now."""
    publish(store, "held", AdapterState.HELD)
    observer.stand()
    assert value("adapters_waiting") == 1
    publish(store, "better")
    observer.stand()
    assert value("adapters_waiting") == 0
    assert value("adapters", state="held") == 1
