"""Other ways to learn from the same questions: TTRL as published, the truth, supervised tuning."""

from __future__ import annotations

import random
import shutil
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.laboratory.bench import READER, truth_of
from benchmarks.laboratory.mixtures import Questions
from jobs.candidate import Candidate
from jobs.process import reader_for
from jobs.run import Run, training_rows
from ttrl import verifiers
from ttrl.config import Config, Teacher
from ttrl.config.loading import override
from ttrl.engine.client import EngineClient
from ttrl.engine.pacing import Pacer
from ttrl.engine.samples import SampleSet
from ttrl.questions.question import from_prompt
from ttrl.sampling import prompts
from ttrl.sampling.groups import Group, Roller, pacer_for
from ttrl.sampling.selection import Rounds
from ttrl.store import Store
from ttrl.store.questions import QuestionState, Recorded, StoredQuestion
from ttrl.store.runs import RunState, Trigger
from ttrl.training import Row, TrainingEnded
from ttrl.votes import Vote, VoteOutcome

PUBLISHED = {
    "vote.samples": 64,
    "vote.floor": 0.0,
    "update.keep": 32,
    "update.downsampling": "random",
}
"""Zuo et al., TTRL, arXiv 2504.16084."""
CLIENTS = 24
"""Of those who ask honestly, each with a key."""


@dataclass(frozen=True)
class Night:
    """One update: from `parent` (None: the base), which the engine serves as `served`, to weights
    in `out`."""

    client: EngineClient
    config: Config
    questions: Questions
    served: str
    parent: Path | None
    out: Path


Teach = Callable[[Night], int]
"""Does the update and says how many optimizer steps it took."""
Choose = Callable[[Night, Store], Sequence[StoredQuestion]]
"""Which of the recorded questions a night trains on."""


class TruthTeller(Roller):
    """Votes whose label is the right answer, whatever the samples say."""

    def __init__(self, night: Night, pacer: Pacer) -> None:
        super().__init__(night.client, night.config.vote, night.config.update, pacer, READER)
        self._truths = {
            from_prompt(problem.prompt).hash: truth_of(problem)
            for problem in night.questions.stream
        }

    def vote(
        self,
        question: StoredQuestion,
        drawn: SampleSet,
        voters: SampleSet | None = None,
        views: Sequence[SampleSet] = (),
    ) -> Vote:
        vote = super().vote(question, drawn, voters, views)
        truth = self._truths[question.question.hash]
        return replace(vote, outcome=VoteOutcome.LABEL, label=truth)


class FirstSeen(Roller):
    """Votes that always have a label: among the most common answers, the one that came first."""

    def vote(
        self,
        question: StoredQuestion,
        drawn: SampleSet,
        voters: SampleSet | None = None,
        views: Sequence[SampleSet] = (),
    ) -> Vote:
        vote = super().vote(question, drawn, voters, views)
        seen = Counter(answer for answer in vote.answers if answer is not None).most_common(1)
        if not seen:
            return vote
        return replace(vote, outcome=VoteOutcome.LABEL, label=seen[0][0])


class Published:
    """Plain TTRL: every question in its turn, whatever its vote; nobody watches."""

    def __init__(
        self, config: Config, roller: Roller, rounds: Rounds, candidate: Candidate
    ) -> None:
        self._update = config.update
        self._roller = roller
        self._rounds = rounds
        self._candidate = candidate
        self.save: Callable[[Path], None]

    def next_batch(self, step: int, _numbers: Mapping[str, float]) -> Sequence[Row]:
        """As `ttrl.training` asks for it."""
        if step:
            self._candidate.deploy(self.save, step)
        asked = self._rounds.take(self._update.questions_per_step)
        version = self._candidate.version
        groups = self._roller.roll(
            asked, version=version, draw=step + 1, refused=_fail, failed=_fail
        )
        usable = [group for group in groups if group.kept] * len(groups)  # not all were cut off
        used = usable[: len(groups)]
        return [row for group in used for row in training_rows(group, self._update.keep)]


def publish(night: Night, learner: Callable[..., Published] = Published) -> int:
    """TTRL's vote and selection in our trainer, with the demo's learning rate, steps and questions
    a step."""
    night = replace(night, config=override(night.config, PUBLISHED))
    rounds = Rounds(_as_stored(night.questions), seed=night.config.update.seed)
    with pacer_for(night.client, night.config.vote) as pacer, _candidate(night) as candidate:
        roller = FirstSeen(night.client, night.config.vote, night.config.update, pacer, READER)
        return _train(night, candidate, learner(night.config, roller, rounds, candidate))


def everything(night: Night, store: Store) -> Sequence[StoredQuestion]:
    return store.questions.named(hashes(night.questions))


def learn(night: Night, choose: Choose = everything) -> int:
    """Our own loop, with nobody to judge what comes of it."""
    config, read = night.config, reader_for(night.config)
    checks = verifiers.load(config.verify)
    return _our_loop(
        night,
        lambda pacer: Roller(
            night.client,
            config.vote,
            config.update,
            pacer,
            read,
            verifier=checks,
            teacher=night.served if config.vote.teacher is Teacher.LIVE else None,
            views=prompts.load(config.vote),
        ),
        choose,
    )


def tell(night: Night) -> int:
    """Our own loop, but that rewards come from the correct answers."""
    return _our_loop(night, lambda pacer: TruthTeller(night, pacer))


def _our_loop(
    night: Night, roller_for: Callable[[Pacer], Roller], choose: Choose = everything
) -> int:
    with (
        Store.open(night.config.state_dir) as store,
        pacer_for(night.client, night.config.vote) as pacer,
        _candidate(night) as candidate,
    ):
        record(store, night.questions, holdout=0.0)
        stored = store.runs.create(Trigger.OPERATOR, {})
        store.runs.start(stored.id, parent=night.parent.name if night.parent else None)
        run = Run(night.config, store, night.client, stored.id)
        questions = choose(night, store)
        run.prepare(questions, _steps(night.config), candidate, roller_for(pacer), pacer)
        try:
            return _train(night, candidate, run)
        finally:
            run.abandon()
            store.runs.end(stored.id, RunState.HELD, "nothing judges it")
            for question_id in run.trained_on:
                store.questions.mark(question_id, QuestionState.LEARNED_FROM)


def supervise(night: Night) -> int:
    """As many steps and sequences as ours, on answers of the base that agree with its majority."""
    from benchmarks.laboratory.tuning import tune

    config = override(night.config, {**PUBLISHED, "update.keep": night.config.update.keep})
    with pacer_for(night.client, config.vote) as pacer:
        roller = FirstSeen(night.client, config.vote, config.update, pacer, READER)
        asked = _as_stored(night.questions)
        groups = roller.roll(asked, version=night.served, draw=1, refused=_fail, failed=_fail)
    rng = random.Random(config.update.seed)
    agreeing = [rows for group in groups if (rows := _agreeing(group, config.update.keep, rng))]
    batches = [
        [row for rows in rng.sample(agreeing, config.update.questions_per_step) for row in rows]
        for _ in range(_steps(config))
    ]
    tune(config, night.parent, batches, night.out)
    return len(batches)


def record(store: Store, questions: Questions, *, holdout: float) -> None:
    """Put the stream into the store, as the gateway does: the flood comes from one key."""
    keys = [f"client-{number % CLIENTS}" for number in range(len(questions.trained))]
    keys += ["flooding"] * len(questions.flood)
    now = time.time()
    recorded = [
        Recorded(from_prompt(problem.prompt), now, key)
        for problem, key in zip(questions.stream, keys, strict=True)
    ]
    store.questions.record(recorded, holdout=holdout)


def hashes(questions: Questions) -> list[str]:
    """The names of the stream's questions."""
    return [from_prompt(problem.prompt).hash for problem in questions.stream]


def _as_stored(questions: Questions) -> list[StoredQuestion]:
    return [
        StoredQuestion(number, from_prompt(problem.prompt), 1, False, QuestionState.NEW, None)
        for number, problem in enumerate(questions.stream)
    ]


def _candidate(night: Night) -> Candidate:
    return Candidate(night.client, night.out.with_suffix(".scratch"), 0, night.served)


def _train(night: Night, candidate: Candidate, learner: Published | Run) -> int:
    from ttrl.training.grpo import Trainer

    config = night.config
    trainer = Trainer(
        config.model.name,
        night.parent,
        config.update,
        steps=_steps(config),
        temperature=config.vote.temperature,
        max_tokens=config.vote.longest,
        scratch=candidate.scratch,
    )
    learner.save = trainer.save_adapter
    with suppress(TrainingEnded):
        trainer.run(learner.next_batch)
    shutil.copytree(candidate.directory, night.out)
    return candidate.steps[-1]


def _steps(config: Config) -> int:
    assert config.update.steps is not None, "each cell of the laboratory is given its own"
    return config.update.steps


def _agreeing(group: Group, count: int, rng: random.Random) -> list[Row]:
    """So many answers that were worth something, some of them twice where there are too few."""
    positions = [position for position, worth in enumerate(group.rewards) if worth > 0]
    if not positions:
        return []
    enough = positions * -(-count // len(positions))
    return list(training_rows(replace(group, kept=tuple(rng.sample(enough, count))), count))


def _fail(_question: StoredQuestion, error: Exception) -> None:
    raise error
