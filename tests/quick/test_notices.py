"""What an operator hears of, by webhook and in the log."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
from dataclasses import replace

import pytest

from serve.daemon.webhook import CAPACITY, Notice, Webhook, of_change, of_run
from tests.hook import SECRET, listening
from tests.runs import RUN
from ttrl.config import WebhookConfig
from ttrl.config.loading import ConfigError, load
from ttrl.metrics import Metrics
from ttrl.store.adapters import Change
from ttrl.store.runs import RunState

NOTICE = Notice("adapter.promoted", "better", adapter="ttrl-1", author="run", at=1.0)


@pytest.mark.parametrize(
    ("state", "event"),
    [
        (RunState.HELD, "adapter.held"),
        (RunState.REJECTED, "run.rejected"),
        (RunState.FAILED, "run.failed"),
        (RunState.PUBLISHED, None),  # the change of what is wanted tells it
        (RunState.NOTHING, None),
        (RunState.ABORTED, None),
    ],
)
def test_ends_of_runs(state, event):
    notice = of_run(replace(RUN, state=state))
    assert (notice and notice.event) == event
    if notice is not None:
        assert (notice.run, notice.adapter, notice.reason) == (3, "ttrl-1", "sharper")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (Change(1, "a", "run", "so", 0.0, False, None, 7), ("adapter.promoted", "a", 7, "a")),
        (Change(2, "b", "operator", "so", 0.0, False, "a", 8), ("adapter.promoted", "b", 8, "b")),
        (
            Change(3, "a", "live_monitor", "so", 0.0, True, "b", 8),
            ("adapter.rolled_back", "b", 8, "a"),
        ),
        (
            Change(4, None, "operator", "so", 0.0, True, "a", 7),
            ("adapter.rolled_back", "a", 7, "base"),
        ),
        (
            Change(5, None, "operator", "so", 0.0, False, "a", None),
            ("adapter.promoted", "base", None, "base"),
        ),
    ],
)
def test_changes(change, told):
    """Of a roll-back, the version that was taken back is told, and what serves instead."""
    notice = of_change(change)
    assert (notice.event, notice.adapter, notice.run, notice.live) == told
    assert (notice.author, notice.reason) == (change.author, "so")


def tell(url, *notices, pauses=(0.01, 0.01), until=lambda metrics: True):
    """Have them sent; the metrics afterwards."""
    metrics = Metrics()

    async def run():
        webhook = Webhook(WebhookConfig(url=url, secret=SECRET), metrics, pauses=pauses)
        sending = asyncio.create_task(webhook.run())
        for notice in notices:
            webhook.tell(notice)
        async with asyncio.timeout(20):
            while not until(metrics):  # noqa: ASYNC110 - nothing says that it is sent
                await asyncio.sleep(0.01)
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)

    asyncio.run(run())
    return metrics


def count(metrics, outcome):
    return metrics.registry.get_sample_value("ttrl_webhook_notices_total", {"outcome": outcome})


def test_it_is_told_and_signed():
    with listening() as hook:
        tell(hook.url, NOTICE, until=lambda m: count(m, "delivered"))
    (told,) = hook.heard
    assert told == {
        "event": "adapter.promoted", "at": 1.0, "reason": "better", "run": None,
        "adapter": "ttrl-1", "author": "run", "live": None,
    }  # fmt: skip


def test_what_is_not_taken_is_told_again_under_its_name():
    with listening(refuse=2) as hook:
        tell(hook.url, NOTICE, until=lambda m: count(m, "delivered"))
    assert len(hook.ids) == 3
    assert len(set(hook.ids)) == 1


def test_nobody_listens():
    metrics = tell("http://127.0.0.1:1/hook", NOTICE, until=lambda m: count(m, "failed"))
    assert count(metrics, "delivered") == 0


def test_too_much_is_dropped():
    with listening() as hook:
        every = [NOTICE] * (CAPACITY + 5)
        metrics = tell(hook.url, *every, until=lambda m: count(m, "delivered") == CAPACITY)
    assert count(metrics, "dropped") == 5


def test_without_an_address_it_is_only_in_the_log(caplog):
    async def run():
        Webhook(WebhookConfig(), Metrics()).tell(NOTICE)

    with caplog.at_level(logging.INFO):
        asyncio.run(run())
    (record,) = caplog.records
    assert record.message == "adapter.promoted: better"
    assert record.adapter == "ttrl-1"


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"webhook.url": "http://example.org"}, "openssl rand"),
        ({"webhook.url": "http://example.org", "webhook.secret": "short"}, "openssl rand"),
        ({"webhook.url": "http://example.org", "webhook.secret": "!" * 40}, "openssl rand"),
        ({"webhook.url": "example.org", "webhook.secret": SECRET}, "https://"),
        ({"webhook.url": "http://", "webhook.secret": SECRET}, "https://"),
        ({"webhook.url": "http://example.org:99999", "webhook.secret": SECRET}, "https://"),
    ],
)
def test_bad_settings(setting, said):
    with pytest.raises(ConfigError, match=said):
        load(None, environ={}, overrides=setting)


def test_the_secret_is_not_shown():
    settings = {"webhook.url": "http://example.org", "webhook.secret": SECRET}
    found = load(None, environ={}, overrides=settings)
    assert SECRET not in repr(found.config)
    assert SECRET not in str(list(found.rows()))


@pytest.mark.parametrize("form", ["auto", "json", "text"])
def test_the_log_is_for_programs_where_nobody_reads_it(form):
    program = (
        "import logging\nfrom ttrl import logs\n"
        f"logs.configure('info', {form!r}, run=7)\n"
        "logging.getLogger('a').info('%s is live', 'x', extra={'adapter': 'x'})\n"
        "try: 1 / 0\nexcept ZeroDivisionError: logging.exception('it failed')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    lines = done.stderr.splitlines()
    if form == "text":
        assert lines[0].endswith("INFO x is live")
        return
    live, failed = map(json.loads, lines)
    assert live.pop("timestamp")
    assert live == {
        "level": "INFO", "logger": "a", "message": "x is live", "adapter": "x", "run": 7,
    }  # fmt: skip
    assert "ZeroDivisionError" in failed["exc_info"]
