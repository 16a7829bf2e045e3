"""The policy update: TRL's GRPO on a LoRA, with samples that the serving engine drew.

TRL's own vLLM modes merge the LoRA and push whole weights into the engine; pointed at the engine
that serves, that would overwrite what users get. Here the weights leave as a small adapter instead,
saved and deployed under a new name before each draw.
"""

from __future__ import annotations

import difflib
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")

import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PrinterCallback,
    TrainerCallback,
    set_seed,
)
from trl import GRPOConfig, GRPOTrainer
from trl.trainer.utils import use_adapter

from ttrl.config import KlTo, UpdateConfig
from ttrl.drift import MOST_LOG_RATIO
from ttrl.memory.asked import rows_at_once
from ttrl.policy import NothingLeft, Policy, SettingRefused, Updated, UpdateDiverged
from ttrl.proof import Pin, Pinned

REFERENCE = "ref"
"""TRL's copy of the adapter that an update starts from; without one the KL term is towards the
model with its adapters switched off."""
PARENT, RESULT = "parent", "result"
"""Adapters beside the one that learns: the version that an update starts from (there is none of the
base), and at the end the weights that were chosen."""


def update(
    policy: Policy,
    *,
    base_model: str,
    parent: Path | None,
    settings: UpdateConfig,
    temperature: float,
    max_tokens: int,
    scratch: Path,
) -> Updated:
    """Run the whole update from `parent` (a version's directory; None is the base model) and
    deploy the result.

    Raises SettingRefused, UpdateDiverged, and whatever the policy raises; after the first step,
    NothingLeft only ends the update.
    """
    set_seed(settings.seed)
    model = lora_model(base_model, parent, settings)
    watch = _Watch(policy)
    try:
        trainer = _EngineTrainer(
            policy,
            model=model,
            args=_arguments(settings, temperature, max_tokens, scratch),
            train_dataset=Dataset.from_dict({"prompt": [""] * settings.questions_per_step}),
            processing_class=AutoTokenizer.from_pretrained(base_model),
            callbacks=[watch],
        )
    except SettingRefused:
        raise
    except (TypeError, ValueError, NotImplementedError) as error:
        raise SettingRefused(f"update.grpo: trl says: {error}") from error
    if settings.kl_to is KlTo.BASE and REFERENCE in model.peft_config:
        model.delete_adapter(REFERENCE)
    trainer.remove_callback(PrinterCallback)  # steps are reported by the policy
    try:
        trainer.train()
    except NothingLeft:
        if not trainer.state.global_step:
            raise
        watch.ended = "no further question could teach anything"
    trainer.sync_weights()
    steps = int(trainer.state.global_step)
    ended = watch.ended if steps < settings.steps else ""
    return Updated(steps, trainer.measure(policy.pins(), policy.settle()), ended)


class _EngineTrainer(GRPOTrainer):  # type: ignore[misc]
    """GRPOTrainer that believes it uses vLLM.

    The importance-sampling correction between engine and trainer runs only with `use_vllm`, and
    then expects an object with `sync_weights()`; that object is the trainer itself. Constructing
    with `use_vllm` would open TRL's own process group.
    """

    def __init__(self, policy: Policy, **arguments: Any) -> None:
        self._policy = policy
        super().__init__(reward_funcs=[_reward], rollout_func=self._rollout, **arguments)
        self.use_vllm = True
        self.vllm_generation = self
        self._last_loaded_step = -1

    def sync_weights(self) -> None:
        """Deploy the present weights; TRL calls it before each draw."""
        if not self.state.global_step:
            return  # a fresh LoRA is its parent, which is already served
        self._policy.deploy(self._save_adapter, self.state.global_step)

    def _save_adapter(self, directory: Path) -> None:
        model = self.accelerator.unwrap_model(self.model)
        model.save_pretrained(
            directory,
            selected_adapters=["default"],  # with a KL term there is a copy named `ref` as well
            save_embedding_layers=False,  # else PEFT may ask a hub about the vocabulary
        )
        (directory / "README.md").unlink(missing_ok=True)

    def measure(self, pins: Sequence[Pin], result: Path) -> tuple[Pinned, ...]:
        """The log-probabilities of the pins under the result, the base and the parent."""
        model = self.accelerator.unwrap_model(self.model)
        model.eval()
        model.load_adapter(result, RESULT)
        own, base = self._under(RESULT, pins), self._under(None, pins)
        before: Sequence[tuple[float, ...] | None] = [None] * len(pins)
        if PARENT in model.peft_config:
            before = self._under(PARENT, pins)
        dtype = str(model.dtype).removeprefix("torch.")
        return tuple(
            Pinned(pin, dtype, *under)
            for pin, under in zip(pins, zip(own, base, before, strict=True), strict=True)
        )

    def _under(self, adapter: str | None, pins: Sequence[Pin]) -> list[tuple[float, ...]]:
        model = self.accelerator.unwrap_model(self.model)
        with use_adapter(model, adapter):
            return [self._logprobs(model, pin) for pin in pins]

    @torch.no_grad()
    def _logprobs(self, model: PeftModel, pin: Pin) -> tuple[float, ...]:
        ids = torch.tensor([pin.token_ids], device=model.device)
        with self.accelerator.autocast():
            logits = model(ids, logits_to_keep=ids.shape[1] - pin.start + 1).logits[0, :-1]
        every = logits.float().log_softmax(-1)
        return tuple(every.gather(1, ids[0, pin.start :, None])[:, 0].tolist())

    def _rollout(self, prompts: Sequence[object], _trainer: GRPOTrainer) -> dict[str, list[Any]]:
        """The drawn sequences in place of the placeholder prompts."""
        rows = self._policy.draw()
        assert len(rows) == len(prompts)
        return {
            "prompt_ids": [list(row.prompt_ids) for row in rows],
            "completion_ids": [list(row.completion_ids) for row in rows],
            "logprobs": [list(row.logprobs) for row in rows],
            "worth": [row.reward for row in rows],
        }

    def _generate_and_score_completions(self, inputs: Any) -> dict[str, Any]:
        """A step's batch, a question's rows together; what the guard asks about it is logged."""
        batch: dict[str, Any] = super()._generate_and_score_completions(inputs)
        if "importance_sampling_ratio" in batch:  # else the correction was switched off
            mask = batch["completion_mask"]
            masked = ((batch["importance_sampling_ratio"] == 0) * mask).sum() / mask.sum()
            self._metrics["train"]["masked"].append(masked.item())
            self._metrics["train"]["kl_to_start"].append(self._kl_to_start(batch))
        return batch

    @torch.no_grad()
    def _kl_to_start(self, batch: Mapping[str, Any]) -> float:
        """Mean of r - 1 - log r with r = p_start / p_now of each token: the k3 estimator
        (Schulman, "Approximating KL divergence", 2020). One trained sequence of each question has
        to do, so that it costs a small part of a forward pass."""
        one_each = slice(None, None, self.num_generations)
        prompts, answers, asked, mask, now = (
            batch[name][one_each]
            for name in (
                "prompt_ids", "completion_ids", "prompt_mask", "completion_mask",
                "old_per_token_logps",
            )
        )  # fmt: skip
        model = self.accelerator.unwrap_model(self.model)
        with use_adapter(model, PARENT if PARENT in model.peft_config else None):
            start, _, _ = self._get_per_token_logps_and_entropies(
                self.model,
                torch.cat([prompts, answers], dim=1),
                torch.cat([asked, mask], dim=1),
                answers.size(1),
                batch_size=self.args.per_device_train_batch_size,
            )
        log_ratio = (start - now).clamp(max=MOST_LOG_RATIO)
        return float(((log_ratio.exp() - 1 - log_ratio) * mask).sum() / mask.sum())


def _reward(worth: list[float], **_: Any) -> list[float]:
    """TRL shows reward functions only their own process's slice, so the vote is taken before."""
    return worth


class _Watch(TrainerCallback):
    """Reports each step; `ended` is why the policy wanted no more of them."""

    def __init__(self, policy: Policy) -> None:
        self.ended = ""
        self._policy = policy

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        logs = kwargs["logs"]
        if "grad_norm" not in logs:  # the summary at the end
            return
        numbers = {key: float(value) for key, value in logs.items() if _is_number(value)}
        if not math.isfinite(numbers["grad_norm"] + numbers["loss"]):
            raise UpdateDiverged(f"loss or gradient is not finite at step {state.global_step}")
        known = {key: value for key, value in numbers.items() if math.isfinite(value)}
        self.ended = self._policy.stepped(state.global_step, known)
        control.should_training_stop |= bool(self.ended)


def _is_number(value: object) -> bool:
    try:
        float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False
    return True


def _arguments(
    settings: UpdateConfig, temperature: float, max_tokens: int, scratch: Path
) -> GRPOConfig:
    known = [field.name for field in fields(GRPOConfig)]
    for name in settings.grpo.keys() - set(known):
        near = difflib.get_close_matches(name, known, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise SettingRefused(f"update.grpo.{name}: trl.GRPOConfig has no such field{hint}")
    rows = settings.questions_per_step * settings.keep
    micro = rows_at_once(settings)
    on_gpu = torch.cuda.is_available()
    ours: dict[str, Any] = {
        "output_dir": str(scratch / "trainer"),
        "max_steps": settings.steps,
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
        "report_to": "none",
    }
    defaults: dict[str, Any] = {
        "lr_scheduler_type": "constant",
        "bf16": on_gpu and settings.dtype != "float32",
        "gradient_checkpointing": on_gpu,
        "use_cpu": not on_gpu,
        "dataloader_pin_memory": on_gpu,
        "logging_steps": 1,
        "disable_tqdm": True,
        "shuffle_dataset": False,
    }
    return GRPOConfig(**(defaults | settings.grpo | ours))


def lora_model(base_model: str, parent: Path | None, settings: UpdateConfig) -> PeftModel:
    """The base model with the LoRA that is trained: the parent's, or a fresh one."""
    model = AutoModelForCausalLM.from_pretrained(base_model, dtype=_dtype(settings))
    if parent is not None:
        lora_model = PeftModel.from_pretrained(model, parent, is_trainable=True)
        lora_model.load_adapter(parent, PARENT)  # stays as it is, to compare with
        return lora_model
    targets = settings.target_modules
    lora = LoraConfig(
        r=settings.lora_rank,
        lora_alpha=settings.lora_alpha,
        target_modules=targets if isinstance(targets, str) else list(targets),
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, lora)


def _dtype(settings: UpdateConfig) -> torch.dtype:
    if settings.dtype == "auto":
        return torch.bfloat16 if torch.cuda.is_available() else torch.float32
    return torch.bfloat16 if settings.dtype == "bfloat16" else torch.float32
