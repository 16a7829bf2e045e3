"""A run that is told to stop, whatever it is in the midst of."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import suppress

import pytest

from jobs import process
from jobs.process import CLEANUP_SECONDS, STOPPED_BECAUSE, Stopped


@pytest.fixture
def hearing():
    before = {number: signal.getsignal(number) for number in STOPPED_BECAUSE}
    process.raise_on_signals()
    yield
    signal.alarm(0)
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", STOPPED_BECAUSE)
def test_no_library_passes_over_a_stop(hearing, number):
    with pytest.raises(Stopped, match=STOPPED_BECAUSE[number]), suppress(Exception):
        signal.raise_signal(number)


def test_one_stop_is_enough(hearing):
    """What follows it is the clearing away, which another must not break off."""
    with suppress(Stopped):
        signal.raise_signal(signal.SIGINT)
    for number in STOPPED_BECAUSE:
        signal.raise_signal(number)
        assert signal.getsignal(number) is signal.SIG_IGN


def test_the_clearing_away_has_a_limit(hearing):
    """It asks an engine that may hang."""
    with suppress(Stopped):
        signal.raise_signal(signal.SIGTERM)
    assert 0 < signal.alarm(0) <= CLEANUP_SECONDS


def take_it_here(number):
    os.kill(os.getpid(), number)


def take_it_elsewhere(number):
    """By a thread that does not wait for anything, as the one that beats for the run."""
    thread = threading.Thread(target=lambda: signal.pthread_kill(threading.get_ident(), number))
    thread.start()
    thread.join()


@pytest.mark.parametrize("take", [take_it_here, take_it_elsewhere])
@pytest.mark.parametrize("number", STOPPED_BECAUSE)
def test_a_stop_waits_for_what_would_lose_it(hearing, take, number):
    imported = []

    def load():
        with process.signals_deferred():
            with suppress(BaseException):
                take(number)
                take(number)
            imported.append("torch")

    with pytest.raises(Stopped, match=STOPPED_BECAUSE[number]):
        load()
    assert imported


def test_what_is_put_off_outside_the_main_thread_hinders_nobody(hearing):
    """A daemon measures in a thread, which can neither hear a signal nor say who does."""
    inside, over = threading.Event(), threading.Event()

    def load():
        with process.signals_deferred():
            inside.set()
            over.wait(10)

    thread = threading.Thread(target=load)
    thread.start()
    assert inside.wait(10)
    with pytest.raises(Stopped):
        signal.raise_signal(signal.SIGINT)
    over.set()
    thread.join()
