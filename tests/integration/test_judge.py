"""A judge that scores a run's samples, and one that is distilled from it"""

from __future__ import annotations

import json
import random
import re
from dataclasses import replace
from itertools import count

import pytest
import torch
from click.testing import CliRunner

from jobs.distill import Answer, DistillRefused, Training, distill, held_out
from jobs.judge import judge_for
from serve.cli import main
from serve.views import judge_cost
from tests import graders
from tests.encoders import cross_encoder
from tests.integration.alone import adapt, votes_of
from tests.integration.daemon import LIGHT, Daemon, record_questions
from ttrl.config import Config
from ttrl.events import Scored, observed
from ttrl.judge.distilled import DistilledJudge
from ttrl.judge.records import Records, digest
from ttrl.questions.question import from_prompt
from ttrl.store import Store

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]
FAILING = 5


@pytest.mark.fault(
    "the judge refuses requests or answers nonsense in a run",
    sees="nothing",
    keeps="everything; the run goes on, and its reason says how many answers have no score",
)
def test_a_run_with_a_judge_that_fails_now_and_then(tmp_path):
    turns = count()

    def behave(body, headers):
        match next(turns) % FAILING:
            case 0:
                return 413, ""
            case 1:
                return 200, "I like it."
        score = 10 if graders.graded(body).strip()[-1:] in "02468" else 2
        return 200, json.dumps({"reason": "by its last digit", "score": score})

    with graders.serving(behave) as url:
        run, alone = adapt(
            record_questions(tmp_path / "state"),
            "judge.by=model",
            f"judge.url={url}",
            "judge.model=m",
            "judge.weight=0.5",
            'vote.rewards={"majority": 1, "judge": 0.5}',
        )
    assert run["state"] in ("held", "published", "rejected"), run["reason"]
    assert "answers without the judge's score" in run["reason"]
    asked = next(turns)
    with alone.store() as store:
        spent = [event for event in observed(store, run["id"]) if isinstance(event, Scored)]
        votes = votes_of(store)
        records = Records(alone.state_dir)
        (key,) = records.judges()
    assert sum(event.requests for event in spent) == asked
    assert sum(event.answers.get("scored", 0) for event in spent) == len(records.of(key))
    assert sum(event.answers["nonsense"] for event in spent if "nonsense" in event.answers) > 0
    assert f"{asked} requests" in judge_cost(spent)
    assert len({sample["reward"] for _, samples in votes for sample in samples}) > 2
    shown = alone.run("runs", "show", str(run["id"]))
    assert "refused 413" in shown.stdout


def test_labels_show_how_reliable_a_judge_is(tmp_path):
    """It knows sums."""

    def behave(body, headers):
        a, b = map(int, re.findall(r"What is (\d+) plus (\d+)", body.messages[0]["content"])[0])
        right = str(a + b) in graders.graded(body)
        return 200, json.dumps({"score": 9 if right else 1})

    rng = random.Random(4)
    sums = [(rng.randint(100, 999), rng.randint(100, 999)) for _ in range(40)]
    rows = [{"prompt": f"What is {a} plus {b}?", "answers": [str(a + b)]} for a, b in sums]
    probes = tmp_path / "probes.jsonl"
    probes.write_text("\n".join(map(json.dumps, rows)))
    with graders.serving(behave) as url:
        settings = ("judge.by=model", f"judge.url={url}", "judge.model=m")
        with Daemon(tmp_path / "state", *settings, environ=LIGHT) as daemon:
            daemon.ttrl("probes", "add", str(probes))
            measured = json.loads(daemon.ttrl("measure", "--json"))["signals"]["checks"]
            (key,) = measured
            assert key.startswith("judge m ")
            assert measured[key]["value"] == 1.0
            assert measured[key]["low"] > 0.5
            assert f"{key}: right about" in daemon.ttrl("status")


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    folder = tmp_path_factory.mktemp("start")
    torch.set_num_threads(1)  # more would spin while they wait for each other
    cross_encoder(folder, ("score",), room=256)
    return str(folder)


GOOD, BAD = "The parcel arrives on Tuesday, as ordered.", "Bananas grow in warm countries."
"""The judge likes whatever speaks of parcels."""


def answers(questions=100):
    """Samples as a judge scored them; the good ones come to the same."""
    made = []
    for number in range(questions):
        question = from_prompt(f"When does the parcel number {number} arrive?")
        made.append(Answer(question, GOOD, "tuesday", 1.0))
        made.append(Answer(question, BAD, "bananas", 0.0))
    return made


def distilled(made, start, out, **training):
    scores = {digest(each.question.hash, each.text): each.score for each in made}
    told = [
        (each.question, each.text, each.text == GOOD) for each in made if held_out(each.question)
    ]
    settings = Training(start, **{"learning_rate": 5e-3, "epochs": 3, **training})
    return distill(made, told, scores, "judge m", out, settings, "- To the point.")


@pytest.fixture(scope="module")
def learned(start, tmp_path_factory):
    out = tmp_path_factory.mktemp("state") / "judge" / "distilled"
    return distilled(answers(), start, out), out


def test_a_distilled_judge_scores_as_its_judge_does(learned):
    done, out = learned
    assert done.refused == ()
    assert done.grades.spearman > 0.8
    assert done.grades.auc == 1.0
    assert sum(done.grades.won.values()) == 0 < min(done.grades.tried.values())
    about = json.loads((out / "judge.json").read_text())
    assert (about["judge"], about["answers"]) == ("judge m", done.learned_from)
    assert GOOD not in "".join(each.read_text() for each in out.glob("*.md"))
    assert [each.name for each in out.parent.iterdir()] == ["distilled"], "nothing is left"


def test_a_distilled_judge_serves_from_the_state_directory(learned, tmp_path):
    _, out = learned
    config = Config(state_dir=out.parents[1], judge={"by": "distilled"})
    question = from_prompt("When does the parcel number 1000 arrive?")
    with Store.open(tmp_path) as store, judge_for(config, store, None, None) as judge:
        long = f"{GOOD} {'word ' * 600}"
        good, bad, blank, too_long = judge.scorer.scores(question, [GOOD, BAD, " ", long])
        assert judge.scorer.key.startswith("distilled judge ")
        assert "1 too long" in " ".join(judge.remarks())
    assert good > bad
    assert (blank, too_long) == (0.0, None), "what stands at the end could be anything"


def test_one_that_orders_by_chance_is_not_kept_and_leaves_the_one_before(learned, start):
    _, out = learned
    before = (out / "judge.json").read_bytes()
    rng = random.Random(1)
    liked = {each.question.hash: rng.choice((GOOD, BAD)) for each in answers()}
    by_chance = [
        replace(each, score=float(each.text == liked[each.question.hash])) for each in answers()
    ]
    again = distilled(by_chance, start, out, epochs=1)
    assert any(why.startswith("Spearman") for why in again.refused)
    assert (out / "judge.json").read_bytes() == before
    assert [each.name for each in out.parent.iterdir()] == ["distilled"], "nothing is left"
    with pytest.raises(DistillRefused, match="too little"):
        distilled(answers()[:8], start, out)


def test_a_judge_that_learned_otherwise_is_another_one(learned, start, tmp_path):
    _, out = learned
    done = distilled(answers(), start, tmp_path / "other", seed=1)
    assert done.refused == ()
    keys = {DistilledJudge(folder).key for folder in (out, tmp_path / "other")}
    assert len(keys) == 2, "what labels say of one says nothing of the other"


def test_from_the_command_line(start, tmp_path):
    Store.open(tmp_path).close()
    words = ["judge", "distill", "--start", start, "--state-dir", str(tmp_path)]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 1
    assert "no scores of a judge are recorded" in done.output
