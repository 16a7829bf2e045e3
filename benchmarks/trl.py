"""Against TRL by itself: `python -m benchmarks.trl [--seeds 3]`.

What somebody would write otherwise is a script: `GRPOTrainer` on the same questions with the same
LoRA, TRL's own generation, and the vote as its reward function, 16 or 32 samples a question. It
runs beside nothing; ours is a daemon, `ttrl adapt`, and what that brings to users. Both learn the
demo's questions from the demo's model, in turns, and the weights after each step are asked the same
held-out questions.

The time to an accuracy is from starting the command to the first step whose weights reach it and
stay there at the next look; for ours the daemon's start is counted before, and judging and
publishing after. Memory is the largest resident set: of the script, and of ours the daemon's, the
engine's and the run's together. TRL's learning rate is the best of `--rates` on a seed of its own.
The last line is JSON: medians over the seeds, ours over the better of TRL's two.
"""

from __future__ import annotations

import json
import multiprocessing
import resource
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import click
import psutil

from benchmarks.laboratory.bench import Bench, bench
from serve.cli.demo import SETTINGS, ask, daemon, ttrl
from serve.state import owner_of
from ttrl.answers import Reader
from ttrl.config import Config
from ttrl.config.loading import load
from ttrl.demo import Problem, make_disjoint, model_dir
from ttrl.events import Draw, Step, read
from ttrl.store import Store
from ttrl.votes import take_vote

MARKS = (0.5, 0.7, 0.85)
"""Accuracies (pass@1 at temperature 1) whose times are taken."""
ASKED, HELD_OUT, SAMPLES = 200, 100, 8
TUNED_ON = 1000
"""The seed on which TRL's learning rate is chosen."""
LOOK_SECONDS = 0.05


@dataclass
class Learned:
    """What one arm did: when the weights after each step were there, in seconds since its start,
    and what it took after the last."""

    weights: dict[int, Path] = field(default_factory=dict)
    at: dict[int, float] = field(default_factory=dict)
    after: float = 0.0
    samples: dict[int, int] = field(default_factory=dict)
    """Drawn until then."""
    memory: int = 0
    """Bytes."""

    def reached(self, accuracy: dict[int, float], mark: float) -> tuple[float, float] | None:
        """Seconds and samples to the first step that is at least as good, and is at the next look;
        None if there is none."""
        steps = sorted(accuracy)
        for step, following in zip(steps, [*steps[1:], steps[-1]], strict=True):
            if min(accuracy[step], accuracy[following]) >= mark:
                return self.at[step] + self.after, self.samples[step]
        return None


# TRL


def stock(config: Config, problems: Sequence[Problem], place: Path, how: dict[str, Any]) -> None:
    """In a process of its own: what a script with TRL does; the times are left in `place`."""
    began = how["began"]
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import PrinterCallback, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    update, samples = config.update, how["samples"]
    targets = update.target_modules
    at: dict[int, float] = {}

    def vote(prompts: list[Any], completions: list[Any], **_: Any) -> list[float]:
        rewards = []
        for first in range(0, len(prompts), samples):
            texts = [each[0]["content"] for each in completions[first : first + samples]]
            answers = Reader().read(prompts[first][0]["content"], texts).answers
            label = take_vote(answers).label
            rewards += [float(label is not None and answer == label) for answer in answers]
        return rewards

    class Saver(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **known: Any) -> None:
            known["model"].save_pretrained(str(place / str(state.global_step)))
            at[state.global_step] = time.time() - began

    rows = update.questions_per_step * samples
    trainer = GRPOTrainer(
        model=str(model_dir()),
        reward_funcs=[vote],
        args=GRPOConfig(
            output_dir=str(place / "trainer"),
            max_steps=how["steps"],
            per_device_train_batch_size=update.micro_batch,
            gradient_accumulation_steps=rows // update.micro_batch,
            num_generations=samples,
            max_completion_length=config.vote.longest,
            temperature=config.vote.temperature,
            learning_rate=how["rate"],
            lr_scheduler_type="linear",
            seed=how["seed"],
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            dataloader_pin_memory=False,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            logging_steps=how["steps"],
        ),
        train_dataset=Dataset.from_list(
            [{"prompt": [{"role": "user", "content": each.prompt}]} for each in problems]
        ),
        peft_config=LoraConfig(
            r=update.lora_rank,
            lora_alpha=update.lora_alpha,
            target_modules=targets if isinstance(targets, str) else list(targets),
            task_type="CAUSAL_LM",
        ),
        callbacks=[Saver()],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    (place / "told.json").write_text(json.dumps({"at": at, "memory": memory}))


def with_trl(
    config: Config, problems: Sequence[Problem], place: Path, *, samples: int, **how: float
) -> Learned:
    place.mkdir()
    how.update(samples=samples, began=time.time())
    child = multiprocessing.get_context("spawn").Process(
        target=stock, args=(config, problems, place, how)
    )
    child.start()
    child.join()
    told = json.loads((place / "told.json").read_text())
    at = {int(step): seconds for step, seconds in told["at"].items()}
    return Learned(
        {step: place / str(step) for step in at},
        at,
        samples={step: step * config.update.questions_per_step * samples for step in at},
        memory=told["memory"],
    )


# Ours


def with_ttrl(problems: Sequence[Problem], place: Path, steps: int, seed: int) -> Learned:
    """A daemon that was asked the questions, and `ttrl adapt`."""
    state = place / "state"
    state.mkdir(parents=True)
    settings = [f"update.steps={steps}", f"update.snapshots={steps}", f"update.seed={seed}"]
    learned, began = Learned(), time.monotonic()
    with daemon(state, settings) as served:
        start = time.monotonic() - began
        ask(served, problems, learn=True)
        command = [*ttrl(), "adapt", *served.options, "--json"]
        with _watching(state / "runs", learned), _weighing(state, learned):
            began = time.monotonic()
            child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
            child.wait()
            seconds = time.monotonic() - began
    with Store.open(state) as store:
        (run, *_) = store.runs.newest()
        drawn = 0
        for event in map(read, store.runs.observed(run_id=run.id)):
            drawn += sum(event.layers.values()) if isinstance(event, Draw) else 0
            if isinstance(event, Step):
                learned.samples[len(learned.samples) + 1] = drawn
    learned.at = {step: start + at - began for step, at in learned.at.items()}
    learned.after = start + seconds - learned.at[max(learned.at)]
    return learned


@contextmanager
def _watching(runs: Path, learned: Learned) -> Iterator[None]:
    """Take a copy of the weights after each step, and the time, as the run writes them."""
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(LOOK_SECONDS):
            for config in runs.glob("*/ttrl-cand-*/adapter_config.json"):
                step = int(config.parent.name.rpartition("-")[2])
                if step in learned.at:
                    continue
                at, copy = time.monotonic(), runs.parent.parent / str(step)
                # PEFT writes this file last. A run that is faster may have deleted the step.
                with suppress(FileNotFoundError, shutil.Error):
                    learned.weights[step] = shutil.copytree(config.parent, copy, dirs_exist_ok=True)
                    learned.at[step] = at

    watcher = threading.Thread(target=look)
    watcher.start()
    yield
    ended.set()
    watcher.join()


@contextmanager
def _weighing(state: Path, learned: Learned) -> Iterator[None]:
    """The largest sum of the resident sets of the daemon and all that descends from it."""
    owner = owner_of(state)
    assert owner is not None
    served = psutil.Process(owner.pid)
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(10 * LOOK_SECONDS):
            total = 0
            for child in (served, *served.children(recursive=True)):
                try:
                    total += child.memory_info().rss
                except psutil.NoSuchProcess:
                    continue
            learned.memory = max(learned.memory, total)

    watcher = threading.Thread(target=look)
    watcher.start()
    yield
    ended.set()
    watcher.join()


# Both


def accuracies(
    judging: Bench, learned: Learned, held_out: Sequence[Problem], every: int
) -> dict[int, float]:
    """pass@1 after each step that is looked at, until the last mark was reached twice."""
    found: dict[int, float] = {}
    for step in sorted(learned.weights):
        if step % every:
            continue
        with judging.serving(learned.weights[step]) as version:
            answered = judging.ask(version, held_out, SAMPLES)
        found[step] = sum(answered.right) / (SAMPLES * len(held_out))
        if sum(value >= MARKS[-1] for value in found.values()) == 2:
            break
    return found


@click.command()
@click.option("--seeds", default=3, show_default=True)
@click.option("--steps", default=50, show_default=True)
@click.option("--every", default=2, show_default=True, help="Steps between two looks.")
@click.option("--rates", default="0.001,0.002", show_default=True, help="TRL's learning rates.")
def main(seeds: int, steps: int, every: int, rates: str) -> None:
    """Compare the time, the samples and the memory to learn the demo's questions."""
    config = load(SETTINGS, environ={}).config
    results: dict[str, list[tuple[Learned, dict[int, float]]]] = {}
    best: dict[int, float] = {}
    with tempfile.TemporaryDirectory() as directory, bench(Path(directory)) as judging:
        place = Path(directory)

        def arm(name: str, seed: int, samples: int = 0, rate: float = 0.0) -> float:
            """Let it learn, measure, and say how long it took to the middle mark."""
            asked, held_out = make_disjoint(ASKED, HELD_OUT, seed=seed)
            here = place / f"{name}-{seed}-{rate}"
            if samples:
                learned = with_trl(
                    config, asked, here, samples=samples, rate=rate, steps=steps, seed=seed
                )
            else:
                learned = with_ttrl(asked, here, steps, seed)
            found = accuracies(judging, learned, held_out, every)
            shutil.rmtree(here, ignore_errors=True)
            told = {mark: learned.reached(found, mark) for mark in MARKS}
            line = {mark: at and f"{at[0]:.0f} s, {at[1]:.0f} samples" for mark, at in told.items()}
            click.echo(f"seed {seed}, {name} {rate or ''}: {line}", err=True)
            if seed != TUNED_ON:
                results.setdefault(name, []).append((learned, found))
            reached = told[MARKS[1]]
            return reached[0] if reached else float("inf")

        tried = [float(rate) for rate in rates.split(",")]
        for samples in (16, 32):
            best[samples] = tried[0]
            if len(tried) > 1:
                took = {rate: arm(f"trl-{samples}", TUNED_ON, samples, rate) for rate in tried}
                best[samples] = min(took, key=took.__getitem__)
        for seed in range(seeds):
            arm("ttrl", seed)
            for samples in (16, 32):
                arm(f"trl-{samples}", seed, samples, best[samples])

    def middle(name: str, mark: float, part: int) -> float:
        every_seed = [learned.reached(found, mark) for learned, found in results[name]]
        return median(each[part] if each else float("inf") for each in every_seed)

    better = min(("trl-16", "trl-32"), key=lambda name: middle(name, MARKS[1], 0))
    line: dict[str, Any] = {"seeds": seeds, "better": better, "rate": best[int(better[-2:])]}
    for mark in MARKS:
        key = str(mark).replace(".", "_")
        line[f"seconds_to_{key}"] = round(middle("ttrl", mark, 0), 1)
        line[f"time_ratio_to_{key}"] = round(middle("ttrl", mark, 0) / middle(better, mark, 0), 3)
    line["samples_ratio"] = round(middle("ttrl", MARKS[1], 1) / middle(better, MARKS[1], 1), 3)
    memory = {name: median(learned.memory for learned, _ in results[name]) for name in results}
    line["memory_ratio"] = round(memory["ttrl"] / memory[better], 3)
    click.echo(json.dumps(line))


if __name__ == "__main__":
    main()
