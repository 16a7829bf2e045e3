"""What is done with a stream: each arm is handed the questions and says what serves in the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from benchmarks.laboratory import teachers
from benchmarks.laboratory.bench import BASE, Bench
from benchmarks.laboratory.mixtures import Kind, Mixture, Questions, Size
from jobs.run import execute
from serve.cli.demo import SETTINGS
from ttrl.config import Config
from ttrl.config.loading import load
from ttrl.demo import Problem, model_dir
from ttrl.evaluation.probes import Label
from ttrl.questions.question import from_prompt
from ttrl.store import Store
from ttrl.store.runs import RunState, Trigger

TEMPERATURES = (0.3, 0.6, 0.8, 1.0, 1.2)


@dataclass(frozen=True)
class Scene:
    """One cell of the table: what is learned from, how, and where."""

    bench: Bench
    mixture: Mixture
    questions: Questions
    size: Size
    seed: int
    directory: Path

    def config(self, night: int = 0) -> Config:
        """The demo's settings, but with labelled probes and the default policy."""
        overrides = {
            "state_dir": self.directory,
            "model.name": str(model_dir()),
            "update.steps": self.size.steps // self.mixture.nights,
            "update.seed": 100 * self.seed + night,
            "gate.ship": "better",
            **self.mixture.changes,
        }
        return load(SETTINGS, environ={}, overrides=overrides).config


@dataclass(frozen=True)
class Outcome:
    """What serves in the end (`adapter` None: the base), at which temperature, why, and after how
    many optimizer steps."""

    adapter: Path | None
    why: str
    steps: int = 0
    temperature: float = 1.0
    draws: int = 1
    """How often to ask it afterwards: of the base on its own, all is known."""

    @property
    def shipped(self) -> bool:
        """Whether anything but the base serves."""
        return self.adapter is not None


Arm = Callable[[Scene], Outcome]


def none(_scene: Scene) -> Outcome:
    """The base as it is, measured twice."""
    return Outcome(None, "no update", draws=2)


def prompting(scene: Scene) -> Outcome:
    """The base at the temperature that suits the held-out questions best: no deployment could
    choose it so well."""

    def share(heat: float) -> float:
        asked = scene.bench.ask(BASE, scene.questions.held_out, 8, heat)
        return fmean(asked.right)

    best = max(TEMPERATURES, key=share)
    return Outcome(None, f"temperature {best}", temperature=best)


def supervised(scene: Scene) -> Outcome:
    """The same LoRA, taught the base's answers that agree with their majority."""
    return _taught(scene, teachers.supervise)


def plain(scene: Scene) -> Outcome:
    """TTRL as published; what comes out serves, whatever it is."""
    return _taught(scene, teachers.publish)


def unjudged(scene: Scene) -> Outcome:
    """Our loop, night after night, without a gate."""
    return _taught(scene, teachers.learn)


def truth(scene: Scene) -> Outcome:
    """The ceiling: our loop, with rewards from the right answers."""
    return _taught(scene, teachers.tell)


def ours(scene: Scene) -> Outcome:
    """The real run, night after night; what the gate lets through serves."""
    served, said, steps = None, [], 0
    with Store.open(scene.directory) as store, ExitStack() as ending:
        teachers.record(store, scene.questions, holdout=scene.config().gate.holdout)
        store.probes.add([_label(problem) for problem in scene.questions.probes])
        for night in range(scene.mixture.nights):
            run = store.runs.create(Trigger.OPERATOR, {"hashes": teachers.hashes(scene.questions)})
            execute(scene.config(night), store, scene.bench.client, run.id)
            ended = store.runs.get(run.id)
            said.append(f"{ended.state}: {ended.reason}")
            steps += ended.steps
            if ended.state is RunState.PUBLISHED and ended.adapter:
                served = scene.directory / "adapters" / ended.adapter
                ending.enter_context(scene.bench.serving(served, ended.adapter))
                store.adapters.served(ended.adapter, "the laboratory loaded it")
    return Outcome(served, "; ".join(said), steps, draws=1 if served else 0)


ARMS: Mapping[str, Arm] = {
    "none": none,
    "prompting": prompting,
    "supervised": supervised,
    "plain": plain,
    "ours": ours,
    "truth": truth,
}
EVERYWHERE = ("none", "plain", "ours")
"""The others say nothing where the stream or the settings are spoilt."""


def arms_of(mixture: Mixture) -> tuple[str, ...]:
    """The arms that a mixture is for."""
    return tuple(ARMS) if mixture.kind is Kind.CURVE else EVERYWHERE


def _taught(scene: Scene, teach: teachers.Teach) -> Outcome:
    """Night after night from what came out of the last."""
    parent, steps = None, 0
    for night in range(scene.mixture.nights):
        config = scene.config(night)
        out = scene.directory / f"night-{night}"
        with scene.bench.serving(parent) as served:
            steps += teach(
                teachers.Night(scene.bench.client, config, scene.questions, served, parent, out)
            )
        parent = out
    return Outcome(parent, "nothing judges it", steps)


def _label(problem: Problem) -> Label:
    return Label(from_prompt(problem.prompt), (problem.answer,), refuse=None, tags=())
