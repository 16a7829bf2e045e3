"""What the update needs from outside: a policy that is deployed, drawn from and watched."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ttrl.proof import Pin, Pinned


@dataclass(frozen=True)
class Drawn:
    """One sampled answer of an update: token ids, the engine's log-probability of each completion
    token, and what the answer is worth."""

    prompt_ids: Sequence[int]
    completion_ids: Sequence[int]
    logprobs: Sequence[float]
    reward: float


@dataclass(frozen=True)
class Updated:
    """What an update did: its optimizer steps, the log-probabilities by which its result can be
    told from other weights, and why it `ended` before all its steps were done, if it did."""

    steps: int
    pinned: tuple[Pinned, ...]
    ended: str = ""


class Policy(Protocol):
    """What an update needs from outside."""

    def deploy(self, save: Callable[[Path], None], step: int) -> None:
        """Make the weights after `step` optimizer steps the ones that are sampled from."""

    def draw(self) -> Sequence[Drawn]:
        """The next `questions_per_step * keep` sequences, a question's together. Raises
        NothingLeft."""

    def stepped(self, step: int, numbers: Mapping[str, float]) -> str:
        """A step is done; a reason stops the update, no words let it go on."""

    def settle(self) -> Path:
        """All steps are done: choose the result among the weights that were deployed, and say where
        it is."""

    def pins(self) -> Sequence[Pin]:
        """Sequences by which the result is to be told from other weights."""


class NothingLeft(Exception):
    """No question is left that could teach anything."""


class UpdateDiverged(Exception):
    """The loss or the gradient is no longer a number; the update was stopped. A lower
    `update.learning_rate` helps."""


class SettingRefused(ValueError):
    """The trainer does not take a setting that was passed through in `update.grpo`."""
