"""The store in PostgreSQL keeps what the one in SQLite does, and outlives its server's death."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import psycopg
import pytest

from serve.daemon.core import core
from serve.gateway.recorder import Recorder
from tests.house import Tally
from tests.integration.daemon import LIGHT, Daemon, record_questions, wait_until
from tests.recording import until, writing
from tests.services import needs
from tests.stores import adapter, asked
from ttrl.config import Config
from ttrl.config.loading import override
from ttrl.questions.question import from_prompt
from ttrl.store import Store, StoreError
from ttrl.store.runs import Trigger

pytestmark = [pytest.mark.integration, needs("postgresql")]

DEADLINE = 30.0


@pytest.fixture
def fresh_url(postgres):
    return postgres.url


def test_what_is_wrong_is_said_without_the_password(postgres, tmp_path):
    with pytest.raises(StoreError, match=r"ENCODING 'UTF8'") as told:
        Store.open(tmp_path, postgres.url("SQL_ASCII"))
    assert "hush" not in str(told.value)
    with pytest.raises(StoreError, match=r"//ttrl:\*\*\*@/nowhere cannot be used: ") as told:
        Store.open(tmp_path, f"postgresql://ttrl:hush@/nowhere?host={tmp_path}")
    assert "hush" not in str(told.value)


def test_two_state_directories_do_not_share_a_database(fresh_url, tmp_path):
    url = fresh_url()

    async def own(state_dir: Path) -> None:
        async with core(override(Config(), {"state_dir": state_dir, "store.url": url})) as parts:
            if state_dir.name == "a":
                await own(tmp_path / "b")
            assert parts.store.questions.times_asked() == 0

    with pytest.raises(StoreError, match=r"ttrl:\*\*\*@.* in use by another process"):
        asyncio.run(own(tmp_path / "a"))
    asyncio.run(own(tmp_path / "b"))


@pytest.mark.fault(
    "the PostgreSQL server goes away and comes back", sees="nothing", keeps="every question"
)
def test_a_dead_server_delays_the_recorder_and_loses_nothing(postgres, fresh_url, tmp_path):
    tally = Tally()
    with Store.open(tmp_path, fresh_url()) as store, store.owning():

        async def scenario() -> None:
            recorder = Recorder(
                lambda batch: store.questions.record(batch, holdout=0.0), metrics=tally.metrics
            )
            async with writing(recorder):
                recorder.offer(from_prompt("before"))
                await until(lambda: not recorder.pending)
                await asyncio.to_thread(postgres.stop)
                recorder.offer(from_prompt("meanwhile"))
                await until(lambda: recorder.failing)
                await asyncio.to_thread(postgres.start)
                assert await recorder.drain(DEADLINE) == 0

        asyncio.run(scenario())
        texts = [row.question.text for row in store.questions.page(10)]
    assert texts == ["meanwhile", "before"]
    assert (tally.written, tally.skips) == (2, {})


@pytest.mark.fault(
    "another daemon has taken the PostgreSQL store over",
    sees="nothing",
    keeps="the store: the first one writes no more",
)
def test_an_owner_that_lost_its_place_writes_no_more(postgres, fresh_url, tmp_path):
    url = fresh_url()
    with Store.open(tmp_path, url) as first, Store.open(tmp_path, url) as second:
        with first.owning():
            postgres.stop()
            postgres.start()
            first.set_fact("still", "mine")
            with pytest.raises(StoreError, match="in use"), second.owning():
                pass
            postgres.stop()
            postgres.start()
            with second.owning():
                with pytest.raises(StoreError, match="in use"):
                    first.set_fact("still", "mine?")
                second.set_fact("now", "mine")
            first.set_fact("again", "mine")
        assert (second.fact("still"), second.fact("again")) == ("mine", "mine")


def test_ids_of_questions_outlast_an_integer(fresh_url, tmp_path):
    """Each time that a question comes in uses one up."""
    url = fresh_url()
    with Store.open(tmp_path, url) as store:
        with psycopg.connect(url.replace("+psycopg", "")) as connection:
            connection.execute("SELECT setval('questions_id_seq', 3000000000)")
        store.questions.record(asked("late"), holdout=0)
        (late,) = store.questions.new(1)
        assert late.id == 3_000_000_001
        store.adapters.publish(adapter("x"), [late.id], author="run")
        assert store.adapters.question_ids("x") == [late.id]


@pytest.mark.timeout(240)
def test_a_daemon_and_its_run(fresh_url, tmp_path):
    """All three processes use it, and the state directory holds none."""
    url = fresh_url()
    settings = (f"store.url={url}", "gate.ship=better")
    state_dir = record_questions(tmp_path / "state", url=url)
    with Store.open(tmp_path, url) as store, Daemon(state_dir, *settings, environ=LIGHT) as daemon:
        assert daemon.ask("What is 1 plus 1?")[1] == "base"
        wait_until(lambda: store.questions.times_asked() == 121, "it is recorded")
        daemon.ttrl("adapt", "--steps", "1", code=4)  # nobody labelled anything
        (run,) = store.runs.newest()
        assert (run.trigger, run.steps) == (Trigger.OPERATOR, 1)
        assert json.loads(daemon.ttrl("status", "--json"))["last_run"]["id"] == run.id
    assert not list(state_dir.glob("*.sqlite*"))
    assert "hush" not in daemon.log
