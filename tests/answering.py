"""A stand-in for an engine that answers sums, some versions better than others."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from ttrl.engine.client import EngineError, EngineRefused, EngineUnreachable, ModelCard
from ttrl.engine.samples import Finish, Sample, SampleSet
from ttrl.evaluation.probes import Label
from ttrl.questions.question import Question, from_prompt

RIGHT = {"base": 0.2, "live": 0.5, "step-5": 0.4, "step-10": 0.9, "step-15": 0.6}
"""The share of right answers of each version."""
REFUSED, GONE = EngineRefused(400, "too long"), EngineUnreachable("no answer in time")


@dataclass
class Engine:
    """Answers sums rightly as often as the version asked does, at temperature 0 if that is more
    often than not; two tokens are an answer. `refuses` says which fields it refuses of how many
    answers at once, `fails` how it fails to answer a version's question, if it does."""

    asked: list[str] = field(default_factory=list)
    questions: dict[str, set[str]] = field(default_factory=dict)
    fields: dict[tuple[str, str], list[tuple[int, dict]]] = field(default_factory=dict)
    refuses: Callable[[dict, int], bool] = lambda fields, n: False
    fails: Callable[[str, Question], EngineError | None] = lambda model, question: None
    drawn: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def base_model(self):
        return ModelCard("base", None, None, None)

    def sample(self, question, *, model, n, sampling, priority):
        with self.lock:
            self.drawn += 1
            rng = random.Random(f"{model} {question.hash} {self.drawn}")
            if self.asked[-1:] != [model]:
                self.asked.append(model)
            self.questions.setdefault(model, set()).add(question.hash)
            self.fields.setdefault((question.hash, model), []).append((n, dict(sampling.fields)))
        if self.refuses(sampling.fields, n):
            raise EngineRefused(400, "it is refused")
        if error := self.fails(model, question):
            raise error
        a, b = (int(word.strip("?")) for word in question.text.split() if word[0].isdigit())
        greedy = sampling.fields.get("temperature") == 0
        assert n == 1 or not greedy
        chances = [float(RIGHT[model] > 0.5) if greedy else RIGHT[model]] * n
        given = [a + b if rng.random() < chance else rng.randrange(10**6) for chance in chances]
        finish = Finish.LENGTH if sampling.max_tokens < 2 else Finish.STOP
        drawn = (Sample(f"\\boxed{{{number}}}", (1, 2), (0.0, 0.0), finish) for number in given)
        return SampleSet(model, (1,), tuple(drawn))

    def load(self):
        return None


def sums(count, first=0):
    return [from_prompt(f"What is {100 + n} plus {200 + n}?") for n in range(first, first + count)]


def labels(count):
    return [Label(q, (str(300 + 2 * n),), None, ()) for n, q in enumerate(sums(count))]


def failing(error, versions, questions):
    """Fails to answer these questions of these versions."""
    hashes = {question.hash for question in questions}
    return lambda model, question: error if model in versions and question.hash in hashes else None
