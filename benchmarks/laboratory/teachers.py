"""Other ways to learn from the same questions: TTRL as published, the truth, supervised tuning."""

from __future__ import annotations

import random
import shutil
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.laboratory.bench import READER, truth_of
from benchmarks.laboratory.mixtures import Questions
from jobs.candidate import Candidate
from jobs.lesson import Lesson, drawn_rows
from jobs.reading import reader
from ttrl.config import Config
from ttrl.engine.client import EngineClient, EngineRefused
from ttrl.engine.pacer import Pacer
from ttrl.policy import Drawn, Policy
from ttrl.proof import Pin
from ttrl.questions import from_prompt
from ttrl.rollouts import Group, Roller, pacer_for
from ttrl.samples import SampleSet
from ttrl.selection import Rounds
from ttrl.settings import override
from ttrl.store import Store
from ttrl.store.questions import QuestionState, Recorded, StoredQuestion
from ttrl.store.runs import Trigger
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


class TruthTeller(Roller):
    """Votes whose label is the right answer, whatever the samples say."""

    def __init__(self, night: Night, pacer: Pacer) -> None:
        super().__init__(night.client, night.config.vote, night.config.update, pacer, READER)
        self._truths = {
            from_prompt(problem.prompt).hash: truth_of(problem)
            for problem in night.questions.stream
        }

    def vote(self, question: StoredQuestion, drawn: SampleSet) -> Vote:
        truth = self._truths[question.question.hash]
        return replace(super().vote(question, drawn), outcome=VoteOutcome.LABEL, label=truth)


class FirstSeen(Roller):
    """Votes that always have a label: among the most common answers, the one that came first."""

    def vote(self, question: StoredQuestion, drawn: SampleSet) -> Vote:
        vote = super().vote(question, drawn)
        seen = Counter(answer for answer in vote.answers if answer is not None).most_common(1)
        if not seen:
            return vote
        return replace(vote, outcome=VoteOutcome.LABEL, label=seen[0][0])


class Published:
    """Plain TTRL as a policy (see ttrl.policy.Policy): every question in its turn, whatever its
    vote; nobody watches."""

    def __init__(
        self, config: Config, roller: Roller, rounds: Rounds, candidate: Candidate
    ) -> None:
        self._update = config.update
        self._roller = roller
        self._rounds = rounds
        self._candidate = candidate
        self._draws = 0

    def deploy(self, save: Callable[[Path], None], step: int) -> None:
        self._candidate.deploy(save, step)

    def draw(self) -> Sequence[Drawn]:
        self._draws += 1
        asked = self._rounds.take(self._update.questions_per_step)
        version = self._candidate.version
        groups = self._roller.roll(asked, version=version, draw=self._draws, refused=_fail)
        return [row for group in groups for row in drawn_rows(group, self._update.keep)]

    def stepped(self, step: int, numbers: Mapping[str, float]) -> str:
        return ""

    def settle(self) -> Path:
        return self._candidate.directory

    def pins(self) -> Sequence[Pin]:
        return ()


def publish(night: Night, policy: type[Published] = Published) -> int:
    """TTRL as published, with the demo's learning rate, steps and questions a step."""
    night = replace(night, config=override(night.config, PUBLISHED))
    rounds = Rounds(_as_stored(night.questions), seed=night.config.update.seed)
    with pacer_for(night.client, night.config.vote) as pacer:
        roller = FirstSeen(night.client, night.config.vote, night.config.update, pacer, READER)
        return _update(night, lambda candidate: policy(night.config, roller, rounds, candidate))


def learn(night: Night) -> int:
    """Our own loop, with nobody to judge what comes of it."""
    vote, update, read = night.config.vote, night.config.update, reader(night.config)
    return _lesson(night, lambda pacer: Roller(night.client, vote, update, pacer, read))


def tell(night: Night) -> int:
    """Our own loop, but that rewards come from the right answers."""
    return _lesson(night, lambda pacer: TruthTeller(night, pacer))


def _lesson(night: Night, roller_for: Callable[[Pacer], Roller]) -> int:
    with (
        Store.open(night.config.state_dir) as store,
        pacer_for(night.client, night.config.vote) as pacer,
    ):
        record(store, night.questions, holdout=0.0)
        questions = store.questions.named(hashes(night.questions))
        run = store.runs.create(Trigger.OPERATOR, {})
        store.runs.start(run.id, parent=None)
        roller = roller_for(pacer)
        return _update(
            night,
            lambda candidate: Lesson(
                night.config, store, roller, run.id, questions, candidate, pacer, _last
            ),
        )


def supervise(night: Night) -> int:
    """As many steps and sequences as ours, on answers of the base that agree with its majority."""
    from benchmarks.laboratory.tuning import tune

    config = override(night.config, {**PUBLISHED, "update.keep": night.config.update.keep})
    with pacer_for(night.client, config.vote) as pacer:
        roller = FirstSeen(night.client, config.vote, config.update, pacer, READER)
        asked = _as_stored(night.questions)
        groups = roller.roll(asked, version=night.served, draw=1, refused=_fail)
    rng = random.Random(config.update.seed)
    agreeing = [rows for group in groups if (rows := _agreeing(group, config.update.keep, rng))]
    batches = [
        [row for rows in rng.sample(agreeing, config.update.questions_per_step) for row in rows]
        for _ in range(config.update.steps)
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


def _update(night: Night, policy_of: Callable[[Candidate], Policy]) -> int:
    from ttrl import grpo

    config, scratch = night.config, night.out.with_suffix(".scratch")
    with Candidate(night.client, scratch, 0, night.served) as candidate:
        updated = grpo.update(
            policy_of(candidate),
            base_model=config.model.name,
            parent=night.parent,
            settings=config.update,
            temperature=config.vote.temperature,
            max_tokens=config.vote.max_tokens,
            scratch=scratch,
        )
        shutil.copytree(candidate.directory, night.out)
    return updated.steps


def _last(steps: Sequence[int], _take: Callable[[int], str]) -> int:
    return steps[-1]


def _agreeing(group: Group, count: int, rng: random.Random) -> list[Drawn]:
    """So many answers that were worth something, some of them twice where there are too few."""
    positions = [position for position, worth in enumerate(group.rewards) if worth > 0]
    if not positions:
        return []
    enough = positions * -(-count // len(positions))
    return list(drawn_rows(replace(group, kept=tuple(rng.sample(enough, count))), count))


def _fail(_question: StoredQuestion, error: EngineRefused) -> None:
    raise error
