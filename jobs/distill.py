"""Distilling a judge: a cross-encoder learns from the scores that a judge gave to samples of runs,
and is graded on questions that it did not learn from."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from pathlib import Path

from ttrl import ReportedError
from ttrl.answers.thoughts import spoken
from ttrl.evaluation.estimates import LEAST
from ttrl.evaluation.probes import Judged
from ttrl.judge import MANIFEST, Scorer
from ttrl.judge.grading import GOOD, Graded, Grades, grade
from ttrl.judge.pretenders import TEST, TRAINING, Pretender, pretenders
from ttrl.judge.records import Records, digest
from ttrl.questions.question import Question
from ttrl.store import Store
from ttrl.words import counted

MOST = 50_000
"""Newest samples that are looked at."""
HELD_OUT = 4
"""One of so many questions is held out, near-duplicates together."""

Told = tuple[Question, str, bool]
"""An answer to a question, and whether it is right by a label."""


class DistillRefused(ReportedError):
    """A judge cannot be distilled; says why."""


@dataclass(frozen=True)
class Answer:
    """A sample as the judge scored it, from 0 to 1; `given` is its answer as it was read."""

    question: Question
    text: str
    given: str | None
    score: float


@dataclass(frozen=True)
class Training:
    """How a distilled judge is trained: `start` is a sentence-transformers model."""

    start: str
    epochs: int = 4
    learning_rate: float = 1e-4
    device: str = "cpu"
    seed: int = 0


@dataclass(frozen=True)
class Distilled:
    """`refused` says why the judge was not kept; empty if it was."""

    judge: str
    learned_from: int
    """Answers."""
    grades: Grades
    refused: tuple[str, ...]


def run(
    store: Store,
    state_dir: Path,
    out: Path,
    training: Training,
    rubric: str,
    judge: str | None = None,
) -> Distilled:
    """Distill the judge that gave most scores, or the one of that name, into the directory `out`,
    unless its grades refuse it. Raises DistillRefused."""
    records = Records(state_dir)
    judges = records.judges()
    if not judges or (judge and judge not in judges):
        known = f"; there are those of {', '.join(judges)}" if judges else ""
        raise DistillRefused(f"no scores of {judge or 'a judge'} are recorded{known}")
    judge = judge or judges[0]
    scores = records.of(judge)
    return distill(
        answers_of(store, scores), labels_of(store), scores, judge, out, training, rubric
    )


def answers_of(store: Store, scores: Mapping[str, float]) -> list[Answer]:
    """Return the samples that are still in the store and have a score, each answer once."""
    found: dict[str, Answer] = {}
    for question, text, given in store.votes.texts(MOST):
        said = spoken(text) or ""
        of = digest(question.hash, said)
        if of in scores and of not in found:
            found[of] = Answer(question, said, given, scores[of])
    return list(found.values())


def labels_of(store: Store) -> list[Told]:
    """Return the answers that the operator judged (`ttrl label`)."""
    told: list[Told] = []
    for stored in store.comparisons.judged():
        pair, judged = stored.pair, stored.judged
        sides = (pair.live, judged is Judged.LIVE), (pair.candidate, judged is Judged.CANDIDATE)
        for side, right in sides:
            if said := spoken(side.text):
                told.append((stored.question, said, right or judged is Judged.BOTH))
    return told


def held_out(question: Question) -> bool:
    """Whether a question is kept from learning, as are all its near-duplicates."""
    return int(hashlib.sha256(question.cluster.encode()).hexdigest()[:8], 16) % HELD_OUT == 0


def distill(
    answers: Sequence[Answer],
    told: Sequence[Told],
    scores: Mapping[str, float],
    judge: str,
    out: Path,
    training: Training,
    rubric: str,
) -> Distilled:
    """Train on three quarters of the questions, grade on the others, and put the weights in their
    place if nothing speaks against it. Raises DistillRefused where there is too little of both."""
    if out.exists() and not (out / MANIFEST).is_file():
        raise DistillRefused(f"{out} exists and is no distilled judge; name another directory")
    learning = [each for each in answers if not held_out(each.question)]
    tested = [each for each in answers if held_out(each.question)]
    questions = len({each.question.cluster for each in tested})
    if questions < LEAST or not learning:
        have = counted(len(answers), "scored sample")
        raise DistillRefused(
            f"too little to distill from: {have}, of {counted(questions, 'held-out question')}; "
            f"{LEAST} needed"
        )
    from ttrl.judge.distilled import DistilledJudge, train  # imports torch

    pairs = [(each.question.asks, each.text) for each in learning]
    worth = [each.score for each in learning]
    for texts, question in _pretenders(learning, rubric, TRAINING):
        for text in (text for some in texts.values() for text in some):
            pairs.append((question.asks, text))
            worth.append(0.0)
    out.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(".part", f".{out.name}.", out.parent))
    try:
        train(
            training.start,
            pairs,
            worth,
            made,
            epochs=training.epochs,
            learning_rate=training.learning_rate,
            device=training.device,
            seed=training.seed,
        )
        grades = _grade(DistilledJudge(made, training.device), tested, told, scores, rubric)
        refused = grades.because()
        if not refused:
            about = {
                "judge": judge,
                "at": time.time(),
                "start": training.start,
                "answers": len(learning),
                "grades": asdict(grades),
            }
            (made / MANIFEST).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
            _replace(out, made)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return Distilled(judge, len(learning), grades, refused)


def best_answers(answers: Sequence[Answer]) -> list[Answer]:
    """Return the best answer to each question that has one which the judge takes to be right."""
    best: dict[str, Answer] = {}
    for each in answers:
        known = best.get(each.question.hash)
        if each.score >= GOOD and (known is None or each.score > known.score):
            best[each.question.hash] = each
    return list(best.values())


def _pretenders(
    answers: Sequence[Answer], rubric: str, which: int
) -> list[tuple[Mapping[Pretender, Sequence[str]], Question]]:
    """Return pretenders for each question that has a good answer. A good answer to another question
    is one only where it says something else."""
    best = best_answers(answers)
    made = []
    for number, each in enumerate(best):
        around = islice(cycle(best), number + 1, number + len(best))
        given = each.given or each.text
        strange = (
            one.text
            for one in around
            if (one.given or one.text) != given and one.question.cluster != each.question.cluster
        )
        other = next(strange, None)
        texts = pretenders(each.question.asks, rubric, other, number, which=which)
        made.append((texts, each.question))
    return made


def _grade(
    scorer: Scorer,
    tested: Sequence[Answer],
    told: Sequence[Told],
    scores: Mapping[str, float],
    rubric: str,
) -> Grades:
    by_question: dict[str, list[Answer]] = defaultdict(list)
    for each in tested:
        by_question[each.question.hash].append(each)
    ours: dict[tuple[str, str], float | None] = {}
    began = time.monotonic()
    for group in by_question.values():
        found = scorer.scores(group[0].question, [answer.text for answer in group])
        for answer, score in zip(group, found, strict=True):
            ours[answer.question.hash, answer.text] = score
    seconds = (time.monotonic() - began) / len(tested)
    graded = [
        Graded(each.question.cluster, each.score, score)
        for each in tested
        if (score := ours[each.question.hash, each.text]) is not None
    ]
    trials: list[tuple[float, dict[str, list[float | None]]]] = []
    best = {each.question.hash: each for each in best_answers(tested)}
    for texts, question in _pretenders(tested, rubric, TEST):
        top = ours[question.hash, best[question.hash].text]
        said = iter(scorer.scores(question, [text for some in texts.values() for text in some]))
        if top is not None:
            trials.append((top, {kind: [next(said) for _ in some] for kind, some in texts.items()}))
    labelled = [
        (right, scorer.scores(question, [text])[0], scores.get(digest(question.hash, text)))
        for question, text, right in told
    ]
    return grade(graded, trials, labelled, seconds=seconds, silent=len(tested) - len(graded))


def _replace(out: Path, made: Path) -> None:
    """Put a directory in another's place. Who loads the judge in between goes without."""
    old = out.with_name(f".{out.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        out.rename(old)
    made.rename(out)
    shutil.rmtree(old, ignore_errors=True)
