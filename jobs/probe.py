"""Ask two versions the same probes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ttrl import answers
from ttrl.config import Config
from ttrl.engine import crew
from ttrl.engine.client import EngineClient
from ttrl.engine.pacer import Pacer
from ttrl.gate import Probe
from ttrl.questions import Question, from_prompt
from ttrl.rollouts import PRIORITY
from ttrl.samples import Finish, Sampling
from ttrl.store import Store


class ProbesUnreadable(ValueError):
    """The file of labelled probes is not JSONL of `prompt` and `answers`."""


@dataclass(frozen=True)
class Asked:
    """A question for both versions; with `accepted` answers when it is labelled."""

    question: Question
    accepted: tuple[str, ...] | None = None


def run(
    client: EngineClient,
    store: Store,
    config: Config,
    *,
    live: str,
    candidate: str,
    pacer: Pacer,
    progress: Callable[[int, int], None],
) -> list[Probe]:
    """The answers of both versions to the newest held-out questions and the labelled probes, asked
    as fast as `pacer` lets them, one version after the other: vLLM's CPU build (0.32) answers the
    base model with an adapter that shares its batch (vLLM pull request 48421). `progress` gets how
    many answers are done, of how many. Raises EngineError, ProbesUnreadable, PacerClosed."""
    held_out = store.questions.probes(config.gate.probes)
    asked = [*labelled(config.gate.labelled), *(Asked(row.question) for row in held_out)]

    def texts(version: str, probe: Asked) -> Sequence[str]:
        with pacer.slot():
            return _texts(client, config, version, probe)

    done: dict[str, list[Sequence[str]]] = {live: [], candidate: []}
    for version, answered in done.items():
        for one in crew.each(partial(texts, version), asked, width=pacer.maximum):
            answered.append(one)
            progress(sum(map(len, done.values())), 2 * len(asked))
    return [_compare(*row) for row in zip(asked, done[live], done[candidate], strict=True)]


def labelled(file: Path | None) -> Iterator[Asked]:
    """The operator's labelled probes. Raises ProbesUnreadable."""
    if file is None:
        return
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise ProbesUnreadable(f"cannot read {file}: {error.strerror}") from None
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield _labelled_line(line, f"{file}:{number}")


def _labelled_line(line: str, where: str) -> Asked:
    try:
        row = json.loads(line)
        accepted = tuple(str(answer) for answer in row["answers"])
        return Asked(from_prompt(str(row["prompt"])), accepted)
    except (ValueError, TypeError, KeyError):
        raise ProbesUnreadable(
            f'{where}: each line is written like {{"prompt": "...", "answers": ["..."]}}'
        ) from None


def _compare(probe: Asked, of_live: Sequence[str], of_candidate: Sequence[str]) -> Probe:
    texts = [*of_live, *of_candidate]
    kind = answers.kind_of(probe.question.text, texts)
    canonical = answers.canonical(texts, kind)
    right: list[tuple[bool, ...] | None] = [None, None]
    if probe.accepted is not None:
        right = [
            tuple(answers.matches(text, probe.accepted, kind) for text in side)
            for side in (of_live, of_candidate)
        ]
    count = len(of_live)
    return Probe(tuple(canonical[:count]), tuple(canonical[count:]), right[0], right[1])


def _texts(client: EngineClient, config: Config, version: str, probe: Asked) -> Sequence[str]:
    sampling = Sampling(config.vote.temperature, config.vote.max_tokens)
    drawn = client.sample(
        probe.question, model=version, n=config.gate.samples, sampling=sampling, priority=PRIORITY
    )
    return ["" if s.finish is Finish.LENGTH else s.text for s in drawn.samples]
