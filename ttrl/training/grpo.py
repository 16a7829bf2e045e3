"""The policy update: TRL's GRPO on a LoRA, with samples that the serving engine drew.

TRL's own vLLM modes would push merged weights into the engine, and so overwrite what users get.
Here the weights leave as a small adapter.
"""

from __future__ import annotations

import gc
import math
import os
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")

import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
from torch.nn.functional import kl_div, pad
from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback, set_seed
from trl import GRPOConfig, GRPOTrainer
from trl.trainer.utils import split_tensor_dict, use_adapter

from ttrl.config import KlTo, UpdateConfig
from ttrl.engine.memory import rows_at_once
from ttrl.engine.proof import Pin, Pinned
from ttrl.training import OUT_OF_MEMORY, NextBatch, Row, SettingRefused, UpdateDiverged, lora

REFERENCE = "ref"
"""TRL's copy of the adapter that an update starts from; without it the KL term is to the base."""
PARENT, RESULT = "parent", "result"
"""Adapters beside the one that learns: the version that an update starts from, unless that is the
base, and at the end the weights that were chosen."""
PLACES = 32
"""Tokens of an answer at which the divergence from the start is taken."""


@contextmanager
def _memory_errors() -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise MemoryError(OUT_OF_MEMORY) from error


class Weights(NamedTuple):
    """Those of the LoRA after a step."""

    step: int
    own: Mapping[str, torch.Tensor]


class Trainer(GRPOTrainer):  # type: ignore[misc]
    """Updates a LoRA from `parent` (a version's directory; None is the base model). Raises
    SettingRefused and MemoryError.

    TRL's importance-sampling correction between engine and trainer runs only with `use_vllm`, and
    then expects an object with `sync_weights()`, which is the trainer itself. Constructing with
    `use_vllm` would open TRL's own process group.
    """

    @_memory_errors()
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
        set_seed(settings.seed)
        self._lora = lora_model(base_model, parent, settings)
        try:
            super().__init__(
                model=self._lora,
                args=_arguments(settings, steps, temperature, max_tokens, scratch),
                reward_funcs=[_reward],
                rollout_func=self._rollout,
                train_dataset=Dataset.from_dict({"prompt": [""] * settings.questions_per_step}),
                processing_class=AutoTokenizer.from_pretrained(base_model),
            )
        except (TypeError, ValueError, NotImplementedError) as error:
            raise SettingRefused(f"update.grpo: trl says: {error}") from error
        self.remove_callback(PrinterCallback)
        if settings.kl_to is KlTo.BASE and REFERENCE in self._lora.peft_config:
            self._lora.delete_adapter(REFERENCE)
        self.use_vllm = True
        self.vllm_generation = self
        self._last_loaded_step = -1
        self._least_entropy = torch.zeros(())
        self._buffered_inputs: list[dict[str, Any]] | None = None
        # Of this step and the one before, from which the samples of a step may come.
        self._weights: deque[Weights] = deque(maxlen=2)
        self._rows: Sequence[Row] = ()

    @_memory_errors()
    def run(self, next_batch: NextBatch) -> None:
        """Do all steps. Raises UpdateDiverged, MemoryError, and what `next_batch` raises."""
        self._next_batch = next_batch
        self.train()
        next_batch(self.state.global_step, self._logged())

    def sync_weights(self) -> None:
        """Do nothing before a rollout: the weights leave in `next_batch`."""

    def save_adapter(self, directory: Path) -> None:
        self._lora.save_pretrained(
            str(directory),
            selected_adapters=["default"],  # with a KL term there is a copy named `ref` as well
            save_embedding_layers=False,  # else PEFT may ask a hub about the vocabulary
        )
        (directory / "README.md").unlink(missing_ok=True)

    @_memory_errors()
    def logprobs(self, pins: Sequence[Pin], result: Path) -> tuple[Pinned, ...]:
        """Return the log-probabilities of the pins under the result, the base and the parent.
        Raises UpdateDiverged if the result's are not finite, and MemoryError."""
        self._lora.eval()
        self._lora.load_adapter(result, RESULT)
        own, base = self._under(RESULT, pins), self._under(None, pins)
        has_parent = PARENT in self._lora.peft_config
        before = self._under(PARENT, pins) if has_parent else [None] * len(pins)
        if not all(math.isfinite(value) for each in own for value in each):
            raise UpdateDiverged("the trained version has log-probabilities that are not finite")
        dtype = str(self._lora.dtype).removeprefix("torch.")
        return tuple(
            Pinned(pin, dtype, *under)
            for pin, under in zip(pins, zip(own, base, before, strict=True), strict=True)
        )

    def _under(self, adapter: str | None, pins: Sequence[Pin]) -> list[tuple[float, ...]]:
        with use_adapter(self._lora, adapter), self.accelerator.autocast():
            return lora.logprobs(self._lora, pins)

    def _rollout(self, prompts: Sequence[object], _trainer: GRPOTrainer) -> dict[str, list[Any]]:
        step = self.state.global_step
        named = self._lora.named_parameters()  # a copy, where it takes nothing of a GPU's memory
        own = {name: p.detach().to("cpu", copy=True) for name, p in named if p.requires_grad}
        self._weights.append(Weights(step, own))
        rows = self._rows = self._next_batch(step, self._logged() if step else {})
        assert len(rows) == len(prompts)
        return {
            "prompt_ids": [list(row.prompt_ids) for row in rows],
            "completion_ids": [list(row.completion_ids) for row in rows],
            "logprobs": [list(row.logprobs) for row in rows],
            "worth": [row.reward for row in rows],
        }

    def _logged(self) -> dict[str, float]:
        logs = next(logs for logs in reversed(self.state.log_history) if "grad_norm" in logs)
        numbers = {key: value for key, value in logs.items() if isinstance(value, int | float)}
        if not math.isfinite(numbers["grad_norm"] + numbers["loss"]):
            raise UpdateDiverged(f"loss or gradient is not finite at step {self.state.global_step}")
        return {key: value for key, value in numbers.items() if math.isfinite(value)}

    def free(self) -> None:
        """Free the last step's memory; call it when no exception holds its frames any more."""
        self._buffered_inputs = None
        self._lora.zero_grad(set_to_none=True)
        gc.collect()
        torch.cuda.empty_cache()

    def _prepare_inputs(self, generation_batch: Any) -> dict[str, Any]:
        """Return the next micro-batch. TRL shuffles a step's rows before it splits them, so that
        nearly all micro-batches are padded to a long one; here they are sorted by length. The
        gradient, summed up before the optimizer's step, is the same, but for an entropy bonus,
        which TRL averages over each micro-batch by itself."""
        position = self._step % self.args.steps_per_generation
        if position == 0 or self._buffered_inputs is None:
            batch = self._generate_and_score_completions(generation_batch)
            order = batch["completion_mask"].sum(1).argsort(stable=True)
            rows = {key: value[order] if value.ndim else value for key, value in batch.items()}
            self._buffered_inputs = split_tensor_dict(rows, self.args.steps_per_generation)
        part: dict[str, Any] = self._buffered_inputs[position]
        return part

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        **asked: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        """Return what TRL's own does, (B, logits_to_keep) each, but send rows through the model
        with others of about their length, and without needless padding."""
        columns = attention_mask * torch.arange(1, attention_mask.size(1) + 1, device=model.device)
        ends = columns.amax(1)
        order = ends.argsort(stable=True)
        logps, entropies = [], []
        for rows in torch.split(order, batch_size or len(order)):
            start = int(attention_mask[rows].argmax(1).min())
            end = max(int(ends[rows].max()), attention_mask.size(1) - logits_to_keep + 1)
            missing = attention_mask.size(1) - end
            found, uncertain, auxiliary = super()._get_per_token_logps_and_entropies(
                model,
                input_ids[rows, start:end],
                attention_mask[rows, start:end],
                logits_to_keep - missing,
                **asked,
            )
            logps.append(pad(found, (0, missing)))
            if uncertain is not None:
                entropies.append(pad(uncertain, (0, missing)))
        back = order.argsort()
        return (
            torch.cat(logps)[back],
            torch.cat(entropies)[back] if entropies else None,
            auxiliary,
        )

    def _generate_and_score_completions(self, inputs: Any) -> dict[str, Any]:
        """Return a step's batch, a question's rows together, and log what the run monitor asks."""
        batch: dict[str, Any] = super()._generate_and_score_completions(inputs)
        scale, penalty = (
            batch["advantages"].new_tensor([getattr(row, name) for row in self._rows])
            for name in ("scale", "penalty")
        )
        batch["advantages"] = batch["advantages"] * scale - penalty
        metrics = self._metrics["train"]
        if "importance_sampling_ratio" in batch:  # else the correction was switched off
            tokens, sequences = effective(
                batch["importance_sampling_ratio"], batch["completion_mask"]
            )
            metrics["effective_tokens"].append(tokens)
            metrics["effective_sequences"].append(sequences)
            metrics["mismatch"].append(self._mismatch(batch))
        metrics["kl_to_start"].append(self._kl_to_start(batch))
        if self.top_entropy_quantile < 1.0:
            self._least_entropy = self._entropy_threshold(batch)
        return batch

    @torch.no_grad()
    def _mismatch(self, batch: Mapping[str, Any]) -> float:
        """Return the mean difference of the engine's and the trainer's log-probabilities under the
        same weights, in nats a token. If the last step's weights drew the samples, it is of one
        answer to each question, for which they are put back."""
        engine, mask = batch["sampling_per_token_logps"], batch["completion_mask"]
        last, now = self._weights[0], self._weights[-1]
        firsts = range(0, len(self._rows), self.num_generations)
        rows = [row for row in firsts if self._rows[row].drawn_after == last.step < now.step]
        if rows:
            batch = {key: value[rows] for key, value in batch.items() if value.ndim}
            engine, mask = engine[rows], mask[rows]
            self._set_weights(last)
            trainer, _ = self._forward(batch)
            self._set_weights(now)
        else:
            trainer = batch["old_per_token_logps"]
        return float((trainer - engine)[mask.bool()].abs().nanmean())

    @torch.no_grad()
    def _set_weights(self, weights: Weights) -> None:
        for name, parameter in self._lora.named_parameters():
            if name in weights.own:
                parameter.copy_(weights.own[name])

    def get_high_entropy_mask(
        self, entropies: torch.Tensor, mask: torch.Tensor, threshold: float
    ) -> torch.Tensor:
        """Return the tokens to train on, by a threshold of the whole step; TRL's is of a
        micro-batch."""
        return (entropies >= self._least_entropy) & mask.bool()

    @torch.no_grad()
    def _entropy_threshold(self, batch: Mapping[str, Any]) -> torch.Tensor:
        """Return the entropy, in nats, that `top_entropy` of the step's tokens reach."""
        _, entropies = self._forward(batch, compute_entropy=True)
        assert entropies is not None
        every = entropies[batch["completion_mask"].bool()].float()
        # torch.quantile takes no more than 2^24 values
        return every.kthvalue(1 + int((1 - self.top_entropy_quantile) * (len(every) - 1))).values

    def _forward(
        self, batch: Mapping[str, Any], **asked: Any
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        ids, masks = (
            [batch[f"{part}_{what}"] for part in ("prompt", "completion")]
            for what in ("ids", "mask")
        )
        found = self._get_per_token_logps_and_entropies(
            self.model,
            torch.cat(ids, dim=1),
            torch.cat(masks, dim=1),
            masks[1].size(1),
            batch_size=self.args.per_device_train_batch_size,
            **asked,
        )
        return found[:2]

    @torch.no_grad()
    def _kl_to_start(self, batch: Mapping[str, Any]) -> float:
        """Return the mean KL divergence of the next token's distribution from the run's start, in
        nats, at up to `PLACES` tokens of one answer of each question. Over the whole vocabulary
        (Amini et al., arXiv 2504.10637), since the trained answers, chosen for their rewards,
        overstate rare tokens."""
        model, asked = self._lora, []
        for row in range(0, len(batch["completion_ids"]), self.num_generations):
            prompt, answer = (
                batch[f"{part}_ids"][row][batch[f"{part}_mask"][row].bool()]
                for part in ("prompt", "completion")
            )
            places = torch.linspace(0, max(0, len(answer) - 1), min(len(answer), PLACES))
            asked.append(
                {
                    "input_ids": torch.cat([prompt, answer])[None],
                    "logits_to_keep": places.round().long().to(prompt.device) + len(prompt) - 1,
                    "use_cache": False,
                }
            )
        found = []
        with self.accelerator.autocast():
            now = [model(**each).logits[0].cpu() for each in asked]  # a GPU may have no room
            # Once for all: PEFT looks through the whole model before it changes adapters.
            with use_adapter(model, PARENT if PARENT in model.peft_config else None):
                for each, logits in zip(asked, now, strict=True):
                    before = model(**each).logits[0]
                    pair = (before, logits.to(before.device))
                    start, end = (one.float().log_softmax(-1) for one in pair)
                    found.append(kl_div(start, end, log_target=True, reduction="none").sum(-1))
        return float(torch.cat(found).mean())


def effective(weights: torch.Tensor, mask: torch.Tensor) -> tuple[float, float]:
    """Return the effective sample size of importance weights as a share of their number, over
    tokens and over sequences: (sum w)^2 / (n sum w^2) (Kish, "Survey Sampling", 1965), 0 where all
    are 0. Weights are (B, T) or (B, 1), the mask (B, T); a sequence weighs what its tokens do on
    average."""

    def share(of: torch.Tensor) -> float:
        squares = float(of.double().square().sum())
        return float(of.double().sum()) ** 2 / (len(of) * squares) if squares else 0.0

    each, lengths = weights * mask, mask.sum(1)
    return share(each[mask.bool()]), share((each.sum(1) / lengths)[lengths > 0])


def _reward(worth: list[float], **_: Any) -> list[float]:
    """Return the rewards of the rollout: the vote needs all samples, of which TRL shows a slice."""
    return worth


def _arguments(
    settings: UpdateConfig, steps: int, temperature: float, max_tokens: int, scratch: Path
) -> GRPOConfig:
    rows = settings.questions_per_step * settings.keep
    micro = rows_at_once(settings)
    on_gpu = torch.cuda.is_available()
    ours: dict[str, Any] = {
        "output_dir": str(scratch / "trainer"),
        "max_steps": steps,
        "per_device_train_batch_size": micro,
        "gradient_accumulation_steps": rows // micro,
        "num_generations": settings.keep,
        "temperature": temperature,
        "max_completion_length": max_tokens,
        "learning_rate": settings.learning_rate,
        "loss_type": settings.loss.value,
        "scale_rewards": settings.scale.value,
        "beta": settings.kl,
        "top_entropy_quantile": settings.top_entropy,
        "use_adaptive_entropy": settings.entropy_target is not None,
        "entropy_target": settings.entropy_target or 0.0,
        "seed": settings.seed,
        "save_strategy": "no",
        "logging_strategy": "steps",
        "logging_steps": 1,
        "report_to": "none",
    }
    defaults: dict[str, Any] = {
        "lr_scheduler_type": "constant",
        "bf16": on_gpu and settings.dtype != "float32",
        "gradient_checkpointing": on_gpu,
        "use_cpu": not on_gpu,
        "dataloader_pin_memory": on_gpu,
        "disable_tqdm": True,
        "shuffle_dataset": False,
        # TRL's `sequence_mask` leaves long answers hardly any weight: the ratio of their
        # probabilities strays far from 1. Token by token, cut at 2 (Yao et al., "Your efficient RL
        # framework secretly brings you off-policy RL training", 2025).
        "vllm_importance_sampling_mode": "token_truncate",
        "vllm_importance_sampling_clip_max": 2.0,
    }
    return GRPOConfig(**(defaults | settings.grpo | ours))


def lora_model(base_model: str, parent: Path | None, settings: UpdateConfig) -> PeftModel:
    dtype = lora.dtype_of(settings.dtype)
    model = AutoModelForCausalLM.from_pretrained(base_model, dtype=dtype)
    if parent is not None:
        lora_model = PeftModel.from_pretrained(model, parent, is_trainable=True)
        lora_model.load_adapter(parent, PARENT)  # stays as it is, to compare with
        return lora_model
    targets = settings.target_modules
    config = LoraConfig(
        r=settings.lora_rank,
        lora_alpha=settings.lora_alpha,
        target_modules=targets if isinstance(targets, str) else list(targets),
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, config)
