"""What is true whatever went wrong."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import openai

from tests.integration.daemon import START_SECONDS, Daemon, wait_until
from ttrl import versions
from ttrl.store.questions import QuestionState


def keeps_its_promises(daemon: Daemon) -> None:
    """What is true whatever was killed, once the daemon is up."""
    with daemon.store() as store, daemon.engine() as engine:
        rows = store.adapters.all()
        learned = {key for row in rows for key in store.adapters.question_ids(row.name)}
        states = {row.id: row.state for row in store.questions.page(10_000)}
        marked = {key for key, state in states.items() if state is QuestionState.LEARNED_FROM}
        assert marked <= learned, "a question was used up, and no version has learned from it"
        for row in rows:
            manifest = versions.verify(daemon.state_dir / "adapters" / row.name)
            assert (manifest.name, manifest.digest) == (row.name, row.digest)
        wait_until(lambda: store.runs.active() is None, "no run claims to be at work")
        needed = {store.adapters.wanted().adapter, store.adapters.previous()} - {None}

        def settled():
            loaded = {card.name for card in engine.models() if card.parent}
            return store.adapters.serving().adapter == store.adapters.wanted().adapter and (
                loaded == needed
            )

        wait_until(settled, "what should serve serves, and nothing else is loaded")
    wait_until(lambda: daemon.metric("ttrl_live_adapter_is_wanted") == 1, "the gauge says so")
    files = {path.relative_to(daemon.state_dir) for path in daemon.state_dir.rglob("*")}
    assert {path.name for path in files if path.parent.name == "adapters"} == {
        row.name for row in rows
    }
    assert not [path for path in files if path.parent.name == "runs"], "candidates are cleared away"
    assert not [path for path in files if path.suffix == ".new"]
    with closing(sqlite3.connect(daemon.state_dir / "store.sqlite")) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert not database.execute("PRAGMA foreign_key_check").fetchall()
        votes = "SELECT count(s.id) FROM votes v LEFT JOIN samples s ON s.vote_id = v.id"
        whole = set(database.execute(f"{votes} GROUP BY v.id").fetchall())
        assert whole <= {(16,), (32,)}, "no vote is half there"


def answers_until(daemon: Daemon, last: str, prompt: str) -> list[tuple[str, str]]:
    """What users get until `last` is answered: refusals at first, of which they are told when to
    try again, and nothing but whole answers of versions that were live."""
    restarts = daemon.metric("ttrl_engine_restarts_total")
    refusals: list[openai.APIStatusError] = []
    answers: list[tuple[str, str]] = []

    def asked_again() -> bool:
        try:
            answers.append(daemon.ask(prompt))
        except openai.APIStatusError as error:
            refusals.append(error)
        return bool(answers) and answers[-1][1] == last

    wait_until(asked_again, f"{last} answers again, {answers}", START_SECONDS)
    assert refusals, "it was down for a while"
    assert {error.status_code for error in refusals} <= {502, 503}
    assert all(
        error.response.headers["retry-after"] for error in refusals if error.status_code == 503
    )
    assert daemon.metric("ttrl_engine_restarts_total") == restarts + 1
    return answers
