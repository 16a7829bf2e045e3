"""What a run teaches: questions drawn from the engine, voted on, kept, and written down."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import cycle, islice
from pathlib import Path
from random import Random
from typing import Any

from jobs.candidate import Candidate
from ttrl import guard
from ttrl.config import Config
from ttrl.engine.client import EngineRefused
from ttrl.engine.pacer import Pacer
from ttrl.faults import Point, reached
from ttrl.guard import Action, Ruling
from ttrl.policy import Drawn, NothingLeft
from ttrl.proof import Pin
from ttrl.rollouts import Group, Roller, rows
from ttrl.selection import Rounds
from ttrl.signs import Signs, Watch
from ttrl.store import Store
from ttrl.store.questions import QuestionState, StoredQuestion

Choose = Callable[[Sequence[int], Callable[[int], str]], int]
"""Of the steps after which there are weights, the one whose weights are the result. The second
argument makes a step's version the one in the engine, and names it."""

DRAWS_PER_STEP = 4
"""Times that a step asks further questions in place of those that teach nothing."""

REPLAYED = 4
"""Steps after which samples are too old to be trained on again: the ratio of probabilities, which
corrects for their age, strays too far from 1."""

PINS, PIN_PROMPT_TOKENS, PIN_ANSWER_TOKENS = 8, 256, 256
"""Sequences kept to prove what the engine serves, and what of them at most: the end of the prompt
and the beginning of the answer."""


class Distrusted(Exception):
    """The guard stopped the run and trusts none of its weights that were kept; says why."""


class Lesson:
    """The policy that `ttrl.grpo` updates (see ttrl.policy.Policy)."""

    def __init__(
        self,
        config: Config,
        store: Store,
        roller: Roller,
        run_id: int,
        questions: Sequence[StoredQuestion],
        candidate: Candidate,
        pacer: Pacer,
        choose: Choose,
    ) -> None:
        self.learned_from: set[int] = set()
        self.ruling = Ruling(Action.GO_ON, trusted=0)
        self._config = config
        self._store = store
        self._run_id = run_id
        self._candidate = candidate
        self._rounds = Rounds(questions, seed=config.update.seed)
        self._pacer = pacer
        self._choose = choose
        self._roller = roller
        self._asked: set[int] = set()
        self._drawn: list[Group] = []
        self._earlier: deque[Group] = deque(maxlen=REPLAYED * config.update.questions_per_step)
        self._random = Random(config.update.seed)
        self._draws = self._samples = self._tokens = 0
        self._watch = Watch(roller.reader)
        self._seen: list[Signs] = []
        self._began = self._since = time.monotonic()

    def deploy(self, save: Callable[[Path], None], step: int) -> None:
        """Load the present weights into the engine."""
        self._candidate.deploy(save, step)

    def draw(self) -> Sequence[Drawn]:
        """The sequences of the next step, some of them from earlier ones. Where fewer questions
        than a step needs can teach, those that cannot fill its fixed number of rows with an
        advantage of zero; once the run has spent what it may, one that can is enough. Raises
        NothingLeft."""
        replayed = self._replayed()
        needed = self._config.update.questions_per_step - len(replayed)
        self._drawn = []
        for _ in range(DRAWS_PER_STEP):
            self._drawn += self._roll(needed - self._count_informative())
            enough = 1 if self._spent() else needed
            if self._count_informative() >= enough or not len(self._rounds):
                break
        if not self._count_informative():
            if self._drawn:  # counted as well: it says why there is nothing to learn
                self._tell("draw", len(self._seen), {})
            raise NothingLeft
        best_first = sorted(self._drawn, key=lambda group: not group.informative)
        used = [best_first[position % len(best_first)] for position in range(needed)]
        self._note_fates(used)
        self._earlier += filter(lambda group: group.informative, used)
        rows = self._config.update.keep
        return [row for group in [*used, *replayed] for row in drawn_rows(group, rows)]

    def stepped(self, step: int, numbers: Mapping[str, float]) -> str:
        """Write down what the step was like, and stop where the guard says so or all is spent."""
        self._seen.append(self._tell("step", step, numbers))
        reached(Point.STEPPED)
        return self._rule() or self._spent()

    def _tell(self, kind: str, steps: int, numbers: Mapping[str, float]) -> Signs:
        """Write down what the newest draw showed and what has been spent, after so many steps."""
        now = time.monotonic()
        signs = self._watch.read(steps, self._drawn, numbers)
        self._store.runs.count(
            self._run_id,
            steps=steps,
            questions=len(self._asked),
            samples=self._samples,
            tokens=self._tokens,
        )
        ours = {
            "steps": self._config.update.steps,
            "informative": 1 - signs.no_signal,
            "seconds": now - self._since,
            "samples": self._samples,
            "tokens": self._tokens,
            **self._drew(),
        }
        self._store.runs.observe(self._run_id, kind, {**numbers, **asdict(signs), **ours})
        self._since = now
        return signs

    def _drew(self) -> dict[str, Any]:
        """The newest draw in numbers."""
        paced = self._pacer.take()
        drawn = sum(len(group.drawn.samples) for group in self._drawn)
        return {
            "step_samples": drawn,
            "step_tokens": sum(group.tokens for group in self._drawn),
            "outcomes": Counter(group.vote.outcome for group in self._drawn),
            "shares": [round(group.vote.share, 3) for group in self._drawn],
            "step_saved": len(self._drawn) * self._config.vote.samples - drawn,
            "in_flight_limit": paced.mean_bound,
            "paused_seconds": paced.paused_seconds,
        }

    def settle(self) -> Path:
        """Have the result chosen, and make it the version in the engine. Raises Distrusted."""
        trusted = [step for step in self._candidate.steps if step <= self.ruling.trusted]
        if not trusted:
            raise Distrusted(self.ruling.words())
        self._candidate.take(self._choose(trusted, self._candidate.take))
        return self._candidate.directory

    def pins(self) -> Sequence[Pin]:
        """A sequence of each question of the last draw, where the weights must differ most."""
        return [_pin(group) for group in self._drawn[:PINS]]

    def _rule(self) -> str:
        """Why the guard stops the run, if it does."""
        self.ruling = guard.judge(self._seen, self._config.guard)
        if not self.ruling.stops:
            return ""
        self._store.runs.observe(self._run_id, "guard", asdict(self.ruling))
        return self.ruling.words()

    def _spent(self) -> str:
        """Which bound of the run is reached, if one is."""
        limits = self._config.update
        if self._tokens >= limits.max_tokens:
            return "update.max_tokens was reached"
        if time.monotonic() - self._began >= limits.time_limit.total_seconds():
            return "update.time_limit was reached"
        return ""

    def _replayed(self) -> list[Group]:
        settings = self._config.update
        count = int(settings.replay * settings.questions_per_step)
        return self._random.sample(list(self._earlier), min(count, len(self._earlier)))

    def _roll(self, count: int) -> list[Group]:
        self._draws += 1
        groups = self._roller.roll(
            self._rounds.take(count),
            version=self._candidate.version,
            draw=self._draws,
            refused=self._refuse,
        )
        reached(Point.SAMPLED)
        self._store.votes.add(
            [rows(group, run_id=self._run_id, step=self._draws) for group in groups]
        )
        reached(Point.VOTED)
        for group in groups:
            self._asked.add(group.question.id)
            self._samples += len(group.drawn.samples)
            self._tokens += group.tokens
            if group.settled:
                self._rounds.drop(group.question.id)
        return groups

    def _refuse(self, question: StoredQuestion, error: EngineRefused) -> None:
        self._rounds.drop(question.id)
        self._store.questions.mark(question.id, QuestionState.REFUSED, f"status {error.status}")

    def _note_fates(self, used: Sequence[Group]) -> None:
        """What a question taught once is not forgotten when it has nothing more to teach."""
        for group in self._drawn:
            asked = group.question
            known = asked.state is QuestionState.LEARNED_FROM or asked.id in self.learned_from
            teaches = group.informative and group in used
            if teaches:
                self.learned_from.add(asked.id)
            if not known and (teaches or not group.informative):
                self._store.questions.mark(asked.id, *group.fate)

    def _count_informative(self) -> int:
        return sum(group.informative for group in self._drawn)


def drawn_rows(group: Group, count: int) -> Iterator[Drawn]:
    """A group's kept samples as the update takes them, `count` of each question: where fewer were
    drawn they come again, which changes no advantage."""
    for position in islice(cycle(group.kept), count):
        sample = group.drawn.samples[position]
        yield Drawn(
            prompt_ids=group.drawn.prompt_ids,
            completion_ids=sample.token_ids,
            logprobs=sample.logprobs,
            reward=group.rewards[position],
        )


def _pin(group: Group) -> Pin:
    prompt = group.drawn.prompt_ids[-PIN_PROMPT_TOKENS:]
    answer = group.drawn.samples[group.kept[0]].token_ids[:PIN_ANSWER_TOKENS]
    return Pin(group.question.id, prompt + answer, len(prompt))
