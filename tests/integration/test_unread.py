"""From the gateway to the vote: what answers say is read as it is meant, and what was not read is
known. A real daemon; the model alone says what tests/talker.py has in its scripts."""

from __future__ import annotations

import json
import re

import httpx2
import pytest

from tests.integration.daemon import LIGHT, MODEL, Daemon, wait_until
from tests.talker import SCRIPTS
from ttrl.votes import VoteOutcome

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

SETTINGS = ("gate.holdout=0", "vote.floor=null", "vote.max_tokens=200", "update.steps=1")
MINORITY, THOUGHTS, RUN_ON, COMMAS, REPEATS = SCRIPTS


@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    """One that was asked each question by a user, and has had a run."""
    with Daemon(tmp_path_factory.mktemp("unread") / "state", *SETTINGS, environ=LIGHT) as started:
        for question in SCRIPTS:
            message = {"role": "user", "content": question}
            started.client.chat.completions.create(model=MODEL, messages=[message])
        with started.store() as store:
            recorded = lambda: len(store.questions.new(9)) == len(SCRIPTS)  # noqa: E731
            wait_until(recorded, "every question is in the store")
        started.ttrl("adapt", "--json", code=None)
        yield started


@pytest.fixture(scope="module")
def asked(daemon):
    """The ids of the questions."""
    with daemon.store() as store:
        return {row.question.text: row.id for row in store.questions.page(9)}


@pytest.mark.parametrize(
    ("question", "outcome", "label", "layers"),
    [
        pytest.param(
            MINORITY, VoteOutcome.TOO_FEW_READABLE, None,
            {"box": 12, "nothing_found": 12, "thoughts_not_ended": 8},
            id="a minority that alone can be read",
        ),
        pytest.param(
            THOUGHTS, VoteOutcome.LABEL, "105",
            {"whole_text": 12, "phrase": 8, "thoughts_not_ended": 12},
            id="thoughts before the answer",
        ),
        pytest.param(
            RUN_ON, VoteOutcome.LABEL, "42", {"whole_text": 24, "box": 8},
            id="questions made up behind the answer",
        ),
        pytest.param(
            COMMAS, VoteOutcome.LABEL, "15/4", {"whole_text": 24, "phrase": 8},
            id="decimal commas",
        ),
        pytest.param(
            REPEATS, VoteOutcome.LABEL, r"\{1, 1, 2\}", {"whole_text": 24, "box": 8},
            id="lists with repeats",
        ),
    ],
)  # fmt: skip
def test_the_label_is_what_most_answers_say(daemon, asked, question, outcome, label, layers):
    with daemon.store() as store:
        votes = store.votes.newest(asked[question])
    assert votes
    for vote in votes:
        assert (vote["outcome"], vote["label"]) == (outcome, label)
        assert vote["layers"] == layers


def test_a_question_shows_how_each_sample_was_read(daemon, asked):
    shown = daemon.ttrl("questions", "show", str(asked[MINORITY]), "--samples")
    assert "read 38% (box 38%); not read 62%: nothing found 38%, thoughts not ended 25%" in shown
    assert len(re.findall(r"^#\d+: box, reward", shown, re.MULTILINE)) == 12


def test_the_last_run_shows_what_was_not_read(daemon, asked):
    """On the command line and on the page, with the ends of some; in no metric and no log."""
    last = daemon.status()["last_run"]
    assert sum(last["layers"].values()) == last["samples"] > 0
    shown = {each["question"]: each["text"] for each in last["unread"]}
    assert shown.keys() == {asked[MINORITY], asked[THOUGHTS]}
    words = daemon.ttrl("status")
    link = daemon.ttrl("page").strip()
    with httpx2.Client(follow_redirects=True, trust_env=False) as browser:
        pages = [browser.get(link).text, browser.get(f"{link.split('/login')[0]}/runs/1").text]
    for where in (words, *pages):
        assert "not read" in where
        assert all(text[-20:] in where for text in shown.values())
    for layer, count in last["layers"].items():
        series = f'ttrl_samples_total{{read="{layer}"}}'
        wait_until(lambda s=series, n=count: daemon.metric(s) == n, series)
    for where in (daemon.metrics(), daemon.log):
        assert not any(text[-20:] in where for text in shown.values())


@pytest.mark.parametrize(
    ("questions", "warned"), [([MINORITY], True), ([MINORITY, RUN_ON, COMMAS], False)]
)
def test_an_assessment_warns_where_the_format_is_not_understood(
    daemon, tmp_path, questions, warned
):
    file = tmp_path / "questions.jsonl"
    file.write_text("\n".join(json.dumps({"prompt": question}) for question in questions))
    words = daemon.ttrl("assess", str(file))
    assert ("too few answers can be read: set vote.kind" in words) is warned
    assert f"question {MINORITY}, " in words
    assert f"read {38 if warned else 79}% (" in words
