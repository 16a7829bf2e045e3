"""The store in PostgreSQL keeps what the one in SQLite does, and outlives its server's death."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import psycopg
import pytest

from serve.core import core
from serve.recorder import Recorder
from tests.house import Tally
from tests.integration.daemon import Daemon, record_questions, wait_until
from tests.postgres import server
from tests.quick.conftest import store
from tests.quick.test_confirm import (
    test_enough_labels_on_disagreements_let_a_held_version_serve,
)
from tests.quick.test_forgetting import (
    test_a_purged_client_is_forgotten_by_whoever_learned_from_it,
    test_details_of_old_runs_go_and_their_votes_stay,
    test_files_go_when_they_are_unloaded_and_nobody_is_to_get_them,
    test_nothing_is_published_that_learned_from_what_was_forgotten_meanwhile,
    test_old_questions_go_but_for_those_that_prove_a_version_or_were_judged,
    test_purged_text_is_found_wherever_it_stands,
    test_too_many_questions_are_those_asked_longest_ago,
    test_what_went_out_comes_in_again,
    test_who_asked_what_expired_can_still_be_forgotten,
)
from tests.quick.test_labelling import (
    queue,
    test_a_question_is_asked_about_once,
    test_a_verdict_labels_and_another_takes_its_place,
    test_pairs_and_their_labels_go_with_their_question,
    test_what_the_operator_wrote_is_not_asked_nor_changed,
)
from tests.quick.test_migrations import test_a_newer_store_is_refused_with_a_sentence
from tests.quick.test_probes import (
    test_held_out_questions_count_their_exposures,
    test_no_update_gets_a_question_like_a_probe,
    test_probes_are_kept_and_said_anew,
)
from tests.quick.test_recorder import test_into_a_real_store, until, writing
from tests.quick.test_store import (
    adapter,
    asked,
    test_a_forgotten_question_leaves_no_answer_in_a_verdict,
    test_a_held_adapter_is_listed_but_not_wanted,
    test_a_reader_sees_one_moment,
    test_a_sole_client_is_known,
    test_a_store_has_one_owner_whatever_the_state_directory,
    test_clients_take_turns_and_asking_again_is_no_help,
    test_identical_questions_are_one_with_a_count,
    test_marked_questions_are_not_offered_again,
    test_migrations_make_the_schema_that_the_code_expects,
    test_names_are_never_used_twice,
    test_observations_are_read_in_order_and_once,
    test_one_run_at_a_time,
    test_only_the_keys_that_are_named_are_offered,
    test_probes_are_held_out_by_a_key_and_never_offered,
    test_roll_back_goes_to_the_version_before_and_never_to_a_bad_one,
    test_votes_are_kept_with_whatever_a_model_said,
    test_what_a_lineage_learned_from_is_offered_again_in_turn_with_the_new,
    test_what_a_rolled_back_version_alone_learned_from_is_quarantined,
    test_what_is_read_before_a_write_still_holds,
    test_what_made_a_rejected_version_worse_is_quarantined,
    test_what_was_compared_is_kept_for_these_versions_and_this_time,
    test_writers_in_processes_and_threads_lose_nothing,
)
from ttrl.config import Config
from ttrl.questions import from_prompt
from ttrl.settings import override
from ttrl.store import Store, StoreError
from ttrl.store.runs import Trigger

__all__ = [
    "queue",
    "store",
    "test_a_forgotten_question_leaves_no_answer_in_a_verdict",
    "test_a_held_adapter_is_listed_but_not_wanted",
    "test_a_newer_store_is_refused_with_a_sentence",
    "test_a_purged_client_is_forgotten_by_whoever_learned_from_it",
    "test_a_question_is_asked_about_once",
    "test_a_reader_sees_one_moment",
    "test_a_sole_client_is_known",
    "test_a_store_has_one_owner_whatever_the_state_directory",
    "test_a_verdict_labels_and_another_takes_its_place",
    "test_clients_take_turns_and_asking_again_is_no_help",
    "test_details_of_old_runs_go_and_their_votes_stay",
    "test_enough_labels_on_disagreements_let_a_held_version_serve",
    "test_files_go_when_they_are_unloaded_and_nobody_is_to_get_them",
    "test_held_out_questions_count_their_exposures",
    "test_identical_questions_are_one_with_a_count",
    "test_into_a_real_store",
    "test_marked_questions_are_not_offered_again",
    "test_migrations_make_the_schema_that_the_code_expects",
    "test_names_are_never_used_twice",
    "test_no_update_gets_a_question_like_a_probe",
    "test_nothing_is_published_that_learned_from_what_was_forgotten_meanwhile",
    "test_observations_are_read_in_order_and_once",
    "test_old_questions_go_but_for_those_that_prove_a_version_or_were_judged",
    "test_one_run_at_a_time",
    "test_only_the_keys_that_are_named_are_offered",
    "test_pairs_and_their_labels_go_with_their_question",
    "test_probes_are_held_out_by_a_key_and_never_offered",
    "test_probes_are_kept_and_said_anew",
    "test_purged_text_is_found_wherever_it_stands",
    "test_roll_back_goes_to_the_version_before_and_never_to_a_bad_one",
    "test_too_many_questions_are_those_asked_longest_ago",
    "test_votes_are_kept_with_whatever_a_model_said",
    "test_what_a_lineage_learned_from_is_offered_again_in_turn_with_the_new",
    "test_what_a_rolled_back_version_alone_learned_from_is_quarantined",
    "test_what_is_read_before_a_write_still_holds",
    "test_what_made_a_rejected_version_worse_is_quarantined",
    "test_what_the_operator_wrote_is_not_asked_nor_changed",
    "test_what_was_compared_is_kept_for_these_versions_and_this_time",
    "test_what_went_out_comes_in_again",
    "test_who_asked_what_expired_can_still_be_forgotten",
    "test_writers_in_processes_and_threads_lose_nothing",
]

pytestmark = pytest.mark.integration

DEADLINE = 30.0


@pytest.fixture(scope="module")
def postgres():
    with server() as started:
        yield started


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
                lambda batch: store.questions.record(batch, holdout=0.0), counts=tally
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
    with Store.open(tmp_path, url) as store, Daemon(state_dir, *settings) as daemon:
        assert daemon.ask("What is 1 plus 1?")[1] == "base"
        wait_until(lambda: store.questions.times_asked() == 121, "it is recorded")
        daemon.ttrl("adapt", "--steps", "1", code=4)  # nobody labelled anything
        (run,) = store.runs.newest()
        assert (run.trigger, run.steps) == (Trigger.OPERATOR, 1)
        assert json.loads(daemon.ttrl("status", "--json"))["last_run"]["id"] == run.id
    assert not list(state_dir.glob("*.sqlite*"))
    assert "hush" not in daemon.log
