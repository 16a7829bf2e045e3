"""What a run writes down as it goes on: the daemon makes metrics of it, and whoever follows the run
sees it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

from ttrl.answers.layers import Layer
from ttrl.engine.pacing import Pause, Resume
from ttrl.evaluation.gate import Judgement
from ttrl.monitoring.run import Ruling
from ttrl.monitoring.signs import Signs
from ttrl.store import Store, shapes
from ttrl.store.runs import Observation
from ttrl.votes import VoteOutcome

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Selection:
    """How many questions were chosen, how many each cap left out, and, where signals were
    estimated, by whose votes that was (`Basis`)."""

    chosen: int
    left_out: Mapping[str, int]
    grounds: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Unanswered:
    """Questions that were left out of a step because the engine did not answer them."""

    questions: int


@dataclass(frozen=True)
class Scored:
    """What the judge did since the event before: answers by what became of them (`scored`,
    `known` before, or why there is no score), and what that cost."""

    answers: Mapping[str, int]
    requests: int
    tokens_read: int
    tokens_written: int
    seconds: float
    """Of all requests, one after the other."""


@dataclass(frozen=True, kw_only=True)
class Draw(Signs):
    """The samples of a step that there was nothing to learn for, and what they cost."""

    steps: int
    """Of the whole run."""
    seconds: float
    """Since the step before."""
    layers: Mapping[Layer, int] = field(default_factory=dict)
    """Its samples, by how they were read."""
    step_saved: int
    """Samples that were not drawn because a vote was decided."""
    step_tokens: int
    outcomes: Mapping[VoteOutcome, int]
    shares: tuple[float, ...]
    """Of each vote's majority."""
    contradicted: int = 0
    """Votes whose most common answer another signal contradicts."""
    in_flight_limit: float
    """Mean limit of concurrent requests."""
    paused_seconds: float

    @property
    def informative(self) -> float:
        return 1 - self.no_signal

    @property
    def flip_rate(self) -> float | None:
        return self.flipped / self.asked_again if self.asked_again else None


@dataclass(frozen=True, kw_only=True)
class Step(Draw):
    """The same of a step that was done."""

    grad_norm: float | None = None


@dataclass(frozen=True)
class Probed:
    """How many answers to probes there are, of how many."""

    done: int
    of: int


Event = Selection | Unanswered | Scored | Draw | Pause | Resume | Probed | Ruling | Judgement
"""A Ruling stopped the run; a Judgement comes without the answers that it quotes."""
KINDS: Mapping[str, type[Event]] = {
    "selection": Selection,
    "unanswered": Unanswered,
    "scores": Scored,
    "draw": Draw,
    "step": Step,
    "pause": Pause,
    "resume": Resume,
    "probe": Probed,
    "guard": Ruling,
    "verdict": Judgement,
}


def observe(store: Store, run_id: int, event: Event) -> None:
    (kind,) = (kind for kind, shape in KINDS.items() if shape is type(event))
    store.runs.observe(run_id, kind, shapes.dump(event))


def read(row: Observation) -> Event | None:
    """None, and a line in the log, for what this release cannot read."""
    if row.kind in KINDS:
        return shapes.load(KINDS[row.kind], row.numbers)
    log.warning("skipping an event of the unknown kind %s", row.kind)
    return None


def observed(store: Store, run_id: int) -> list[Event]:
    events = map(read, store.runs.observed(run_id=run_id))
    return [event for event in events if event is not None]
