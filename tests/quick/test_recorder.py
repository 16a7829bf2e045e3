"""The recorder: nothing waits for it, nothing is lost quietly."""

from __future__ import annotations

import asyncio
import errno
import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from sqlalchemy.exc import IntegrityError, OperationalError

from serve.gateway.live import Live, Target
from serve.gateway.recorder import Recorder
from tests.house import Tally
from tests.recording import until, writing
from tests.standin import DEADLINE
from tests.stores import both_stores
from ttrl.questions.question import Unlearnable, from_prompt
from ttrl.store import Store
from ttrl.store.database import cause
from ttrl.store.questions import Recorded

QUESTIONS = [from_prompt(f"What is {n}?") for n in range(1000)]
LOCKED = OperationalError("INSERT", {"body": "secret"}, sqlite3.OperationalError("locked"))


def texts(batch: Sequence[Recorded]) -> list[str]:
    return [recorded.question.text for recorded in batch]


def test_all_is_written_once_in_order_and_in_batches() -> None:
    batches: list[list[str]] = []
    tally = Tally()

    async def scenario() -> int:
        recorder = Recorder(
            lambda batch: batches.append(texts(batch)), batch=300, metrics=tally.metrics
        )
        async with writing(recorder):
            for question in QUESTIONS:
                assert recorder.offer(question)
            assert recorder.pending == 1000
            return await recorder.drain(DEADLINE)

    assert asyncio.run(scenario()) == 0
    assert [text for batch in batches for text in batch] == [q.text for q in QUESTIONS]
    assert [len(batch) for batch in batches] == [300, 300, 300, 100]
    assert tally.written == 1000


@pytest.mark.fault(
    "more questions come than the queue holds while nothing can be written",
    sees="nothing",
    keeps="the oldest of them; the others are counted as lost",
)
def test_a_full_queue_drops_the_newest_and_counts_it() -> None:
    tally = Tally()

    async def scenario() -> list[bool]:
        recorder = Recorder(lambda _: None, capacity=3, metrics=tally.metrics)
        return [recorder.offer(question) for question in QUESTIONS[:5]]

    assert asyncio.run(scenario()) == [True, True, True, False, False]
    assert tally.skips == {Unlearnable.QUEUE_FULL: 2}


def test_who_waits_for_what_was_offered_waits_for_no_more() -> None:
    written, gate = [], threading.Event()

    def write(batch: Sequence[Recorded]) -> None:
        written.extend(texts(batch))
        if len(written) > 2:
            gate.wait(DEADLINE)

    async def scenario() -> None:
        recorder = Recorder(write, batch=2, interval=0.001)
        for question in QUESTIONS[:2]:
            recorder.offer(question)
        waiting = asyncio.create_task(recorder.caught_up(DEADLINE))
        await asyncio.sleep(0)
        for question in QUESTIONS[2:4]:
            recorder.offer(question)
        async with writing(recorder):
            await waiting
            assert written[:2] == [each.text for each in QUESTIONS[:2]]
            assert recorder.pending == 2
            gate.set()
            await recorder.drain(DEADLINE)

    asyncio.run(scenario())


@pytest.mark.parametrize("error", [LOCKED, OSError(errno.ENOSPC, "No space left on device")])
def test_a_store_that_fails_keeps_the_batch_until_it_can_be_written(error: Exception) -> None:
    tally, stored, attempts = Tally(), [], []
    works = threading.Event()

    def write(batch: Sequence[Recorded]) -> None:
        attempts.append(texts(batch))
        if not works.is_set():
            raise error
        stored.extend(texts(batch))

    async def scenario() -> None:
        recorder = Recorder(
            write, capacity=2, batch=2, interval=0, retry=(0.001, 0.002), metrics=tally.metrics
        )
        async with writing(recorder):
            recorder.offer(QUESTIONS[0])
            await until(lambda: len(attempts) >= 3)
            taken = [recorder.offer(question) for question in QUESTIONS[1:4]]
            assert taken == [True, True, False]
            works.set()
            await until(lambda: not recorder.pending)

    asyncio.run(scenario())
    assert stored == [question.text for question in QUESTIONS[:3]]
    assert tally.skips == {Unlearnable.STORE_FAILED: 1}
    assert tally.written == 3


@pytest.mark.fault("a question cannot be stored", sees="nothing", keeps="every other one")
def test_one_question_that_cannot_be_stored_does_not_take_others_with_it() -> None:
    tally, stored = Tally(), []
    bad = {QUESTIONS[3].text, QUESTIONS[8].text}

    def write(batch: Sequence[Recorded]) -> None:
        if bad & set(texts(batch)):
            raise IntegrityError("INSERT", {}, sqlite3.IntegrityError("no"))
        stored.extend(texts(batch))

    async def scenario() -> None:
        recorder = Recorder(write, metrics=tally.metrics)
        async with writing(recorder):
            for question in QUESTIONS[:10]:
                recorder.offer(question)
            assert await recorder.drain(DEADLINE) == 0

    asyncio.run(scenario())
    assert stored == [q.text for q in QUESTIONS[:10] if q.text not in bad]
    assert tally.skips == {Unlearnable.STORE_FAILED: 2}


def test_draining_says_how_much_a_stuck_store_leaves() -> None:
    stuck = threading.Event()

    async def scenario() -> int:
        recorder = Recorder(lambda _: stuck.wait(DEADLINE) and None, interval=0)
        async with writing(recorder):
            for question in QUESTIONS[:7]:
                recorder.offer(question)
            left = await recorder.drain(0.05)
            stuck.set()
            return left

    assert asyncio.run(scenario()) == 7


@both_stores
def test_into_a_real_store(store: Store) -> None:
    odd = [from_prompt(text) for text in ("same", " same ", "nul \0 byte", "\N{GRINNING FACE}")]

    async def scenario() -> int:
        recorder = Recorder(lambda batch: store.questions.record(batch, holdout=0.0))
        async with writing(recorder):
            for question in odd:
                recorder.offer(question, "client")
            return await recorder.drain(DEADLINE)

    assert asyncio.run(scenario()) == 0
    assert {row.question.text: row.count for row in store.questions.page(10)} == {
        "same": 2,
        "nul \0 byte": 1,
        "\N{GRINNING FACE}": 1,
    }


def test_a_store_locked_by_another_only_delays_the_writer(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        database = next(path for path in tmp_path.rglob("*") if path.suffix in (".db", ".sqlite"))
        other = sqlite3.connect(database, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")

        async def scenario() -> None:
            recorder = Recorder(lambda batch: store.questions.record(batch, holdout=0.0))
            async with writing(recorder):
                recorder.offer(QUESTIONS[0])
                await asyncio.sleep(0)
                other.execute("COMMIT")
                assert await recorder.drain(DEADLINE) == 0

        asyncio.run(scenario())
        other.close()
        assert store.questions.times_asked() == 1


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (LOCKED, "OperationalError"),
        (OSError(errno.ENOSPC, "No space left on device"), "OSError (No space left on device)"),
        (ValueError("secret"), "ValueError"),
    ],
)
def test_a_cause_is_named_without_anybodys_words(error: Exception, said: str) -> None:
    assert cause(error) == said


def test_routes_follow_the_flip() -> None:
    live = Live("demo", "base-model")
    assert live.target("demo") == live.target(None) == Target("base", "base-model")
    live.flip("ttrl-1")
    assert live.target("demo") == Target("ttrl-1", "ttrl-1")
    assert live.target("ttrl-1") is None
    assert live.target("base-model") is None
    live.flip(None)
    assert live.target("demo") == live.base


def test_the_base_gets_its_name_from_the_engine_whoever_answers() -> None:
    live = Live("demo", "demo")
    live.found("base-model", 512)
    assert live.target("demo") == Target("base", "base-model")
    assert live.max_model_len == 512
    live.flip("ttrl-1")
    live.found("other-model", None)
    assert live.target("demo") == Target("ttrl-1", "ttrl-1")
    live.flip(None)
    assert live.target("demo") == Target("base", "other-model")


def test_requests_in_flight_are_counted_by_version() -> None:
    live = Live("demo", "base-model")
    with live.hold("a"), live.hold("a"), live.hold("b"):
        assert (live.in_flight("a"), live.in_flight("b"), live.in_flight("c")) == (2, 1, 0)
    assert live.in_flight("a") == 0
