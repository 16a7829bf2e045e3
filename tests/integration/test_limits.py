"""Who can teach how much, and how far it may drift, through a real daemon."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest

from tests.integration.daemon import LIGHT, MODEL, Daemon, record_questions, wait_until
from ttrl.evaluation.gate import Rule
from ttrl.events import Selection, observed
from ttrl.store.questions import QuestionState

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

WORDS = ("well", "hey", "please", "now", "quickly", "kindly", "oh", "so", "then", "thanks")
FLOOD = [
    f"{one} {other} could you tell me in plain words what number 417 plus 286 makes, added to each "
    "other with care"
    for one in WORDS
    for other in [*WORDS, *(word.upper() for word in WORDS)]
]
"""200 requests for the same, of which no two differ in more than two words."""


def digest(key):
    return hashlib.sha256(key.encode()).hexdigest()


def ask(daemon, key, prompts):
    """Each prompt once, by the client with this key."""
    headers = {"Authorization": f"Bearer {key}"}
    with httpx2.Client(base_url=daemon.url, headers=headers, trust_env=False, timeout=60) as client:

        def one(prompt):
            told = {"model": MODEL, "max_tokens": 1, "messages": [content(prompt)]}
            return client.post("/v1/chat/completions", json=told).status_code

        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(one, prompts)) == {200}


def content(prompt):
    return {"role": "user", "content": prompt}


def test_a_run_that_finds_nothing_to_learn_says_why(tmp_path):
    """And a daemon that starts afterwards shows what it saw, but counts it no second time."""
    state = record_questions(tmp_path / "state", 20)
    short = ("vote.samples=8", "update.keep=4", "vote.floor=0.99")
    votes = 'ttrl_votes_total{outcome="below_floor"}'
    with Daemon(state, *short, environ=LIGHT) as daemon, daemon.store() as store:
        daemon.ttrl("adapt", "--json")
        (run,) = store.runs.newest(5)
        assert run.state == "nothing"
        assert min(run.questions, run.samples, run.tokens) > 0
        boxed = 'ttrl_samples_total{read="box"}'
        wait_until(lambda: daemon.metric(boxed) == run.samples, "it is observed")
        assert daemon.metric("ttrl_sampled_tokens_total") == run.tokens
        assert daemon.metric(votes) > 0
        assert daemon.metric("ttrl_groups_informative_ratio") == 0
    with Daemon(state, *short, environ=LIGHT) as daemon:
        assert daemon.metric("ttrl_groups_informative_ratio") == 0
        assert daemon.metric("ttrl_samples_length_tokens") > 0
        assert daemon.metric(votes) == 0
        assert "\nttrl_gate_labels_needed " not in daemon.metrics()


def test_who_floods_teaches_no_more_than_others(tmp_path):
    caps = ("selection.max_questions=24", "selection.per_client=0.5", "selection.per_cluster=2")
    short = ("update.steps=2", "update.keep=4", "vote.samples=8", "gate.holdout=0")
    with (
        Daemon(tmp_path / "state", *caps, *short, environ=LIGHT) as daemon,
        daemon.store() as store,
    ):
        ask(daemon, "other", [f"What is {100 + number} plus 286?" for number in range(30)])
        ask(daemon, "flooder", [*FLOOD, *FLOOD[:50], "What is 2 plus 2? The answer is 5."])
        wait_until(lambda: store.questions.times_asked() == 281, "all are recorded")
        plan = json.loads(daemon.ttrl("adapt", "--dry-run", "--json"))
        daemon.ttrl("adapt", "--json", code=4)
        (run,) = store.runs.newest(5)
        (told,) = [one for one in observed(store, run.id) if isinstance(one, Selection)]
        assert (told.chosen, told.left_out) == (plan["questions"], plan["left_out"])
        assert told.chosen == 12 + 2
        rows = store.questions.page(1000)
        asked = [row for row in rows if store.votes.newest(row.id)]
        clients = Counter(row.client for row in asked)
        assert 0 < clients[digest("flooder")] <= 2
        assert 0 < clients[digest("other")] <= 12
        waiting = Counter(row.reason for row in rows if row.state is QuestionState.NEW)
        assert waiting["client_share"] == told.left_out["client_share"] == 18
        assert waiting["near_duplicate"] == told.left_out["near_duplicate"] > 100
        assert [row.reason for row in rows if row.state is QuestionState.SKIPPED] == [
            "dictates_its_answer"
        ]
        series = 'ttrl_questions_left_out_total{reason="client_share"}'
        wait_until(lambda: f"{series} 18.0" in daemon.metrics(), "it is counted")


@pytest.mark.timeout(600)
def test_a_full_lineage_ends_and_the_next_run_starts_from_the_base(tmp_path):
    state_dir = record_questions(tmp_path / "state", 240)  # more than a run of 3 steps asks
    settings = ("update.lineage_distance=0.001", "update.steps=3")
    with Daemon(state_dir, *settings, environ=LIGHT) as daemon:
        first = json.loads(daemon.ttrl("adapt", "--json"))
        assert (first["state"], first["begins"]) == ("published", "no_parent")
        daemon.wait_live(first["adapter"])
        plan = json.loads(daemon.ttrl("adapt", "--dry-run", "--json"))
        assert (plan["from"], plan["lineage"][:14]) == ("base", "a new lineage:")
        with daemon.store() as store:
            taught = set(store.adapters.question_ids(first["adapter"]))
            unasked = {row.id for row in store.questions.new(1000)}
        # With the same seed it could ask the same questions first.
        second = json.loads(daemon.ttrl("adapt", "--json", "--set", "update.seed=1", code=None))
        assert (second["parent"], second["begins"]) == (None, "lineage_full")
        assert "a new lineage: the live version is too far from the base model" in second["reason"]
        shown = json.loads(daemon.ttrl("runs", "show", str(second["id"]), "--json"))
        (verdict,) = shown["verdicts"]
        assert verdict["against"] == first["adapter"]
        rules = {check["rule"] for check in verdict["evidence"]["checks"]}
        assert {Rule.KL_BASE, Rule.KL_LIVE} <= rules, "though it began at the base"
        with daemon.store() as store:
            votes = {key: store.votes.newest(key) for key in taught | unasked}
        again = {
            key: [vote["version"] for vote in cast if vote["run_id"] == second["id"]][-1:]
            for key, cast in votes.items()
        }
        assert any(again[key] for key in taught), "its forebear's questions"
        assert any(again[key] for key in unasked), "and new ones"
        assert [MODEL] in again.values(), "asked of the base first"
        tree = json.loads(daemon.ttrl("adapters", "tree", "--json"))
        assert (tree[0]["depth"], tree[0]["begins"]) == (1, "no_parent")
