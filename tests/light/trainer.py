"""`ttrl.training.grpo` without a gradient: it brings batches, steps and saves as TRL does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from light_model import BASE, logprob, read, trained

from tests.versions import write_lora
from ttrl.config import UpdateConfig
from ttrl.engine.proof import Pin, Pinned
from ttrl.training import NextBatch

LOGGED = {
    "loss": 0.1, "grad_norm": 1.0, "entropy": 1.0, "kl_to_start": 0.1, "effective_tokens": 0.9,
    "effective_sequences": 0.9, "mismatch": 0.01,
}  # fmt: skip


class Trainer:
    def __init__(
        self,
        base_model: str,
        parent: Path | None,
        settings: UpdateConfig,
        *,
        steps: int,
        temperature: float,
        max_tokens: int,
        scratch: Path,
    ) -> None:
        self.parent, self.steps, self.salt, self.done = parent, steps, scratch.name, 0
        self.spoils = settings.learning_rate > 0.1

    def run(self, next_batch: NextBatch) -> None:
        numbers: dict[str, float] = {}
        while self.done < self.steps:
            rows = next_batch(self.done, numbers)
            reward = sum(row.reward for row in rows) / len(rows)
            self.done, numbers = self.done + 1, {**LOGGED, "reward": reward}
        next_batch(self.done, numbers)

    def free(self) -> None: ...

    def save_adapter(self, directory: Path) -> None:
        write_lora(directory, trained(f"{self.salt} {self.done}", spoilt=self.spoils))

    def logprobs(self, pins: Sequence[Pin], result: Path) -> tuple[Pinned, ...]:
        def under(pin: Pin, weights: str) -> tuple[float, ...]:
            return tuple(logprob(weights, token) for token in pin.token_ids[pin.start :])

        own = read(result)
        before = read(self.parent) if self.parent else None
        return tuple(
            Pinned(
                pin, "float32", under(pin, own), under(pin, BASE),
                None if before is None else under(pin, before),
            )
            for pin in pins
        )  # fmt: skip
