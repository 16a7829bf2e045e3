"""Ask several versions the same probes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean

from ttrl import answers, staleness
from ttrl.config import Config
from ttrl.engine import crew
from ttrl.engine.client import EngineClient
from ttrl.engine.pacer import Pacer
from ttrl.paired import Answered, Probe
from ttrl.questions import Question, from_prompt
from ttrl.rollouts import PRIORITY
from ttrl.samples import Finish, Sample, Sampling
from ttrl.staleness import Staleness
from ttrl.store import Store

RECENT = 500
"""Questions of the traffic that labelled probes are held against, at least."""


class ProbesUnreadable(ValueError):
    """The file of labelled probes is not JSONL of `prompt` and `answers`."""


@dataclass(frozen=True)
class Asked:
    """A question for all versions; with `accepted` answers when it is labelled."""

    question: Question
    accepted: tuple[str, ...] | None = None
    tags: tuple[str, ...] = ()


class Examination:
    """The probes of one run: labelled ones by which its best step is chosen, and the others, which
    judge that step. Which is which is drawn anew for each run.

    Versions are asked one after the other, as fast as `pacer` lets them: vLLM's CPU build (0.32)
    answers the base model with an adapter that shares its batch (vLLM pull request 48421).
    """

    def __init__(
        self,
        client: EngineClient,
        store: Store,
        config: Config,
        run_id: int,
        pacer: Pacer,
    ) -> None:
        """Raises ProbesUnreadable."""
        self._client = client
        self._store = store
        self._config = config
        self._run_id = run_id
        self._pacer = pacer
        known = list(labelled(config.gate.labelled))
        choosing = [probe for probe in known if _drawn(run_id, probe, config.gate.choosing)]
        self._choosing = choosing if len(choosing) >= config.gate.min_probes else []
        held_out = [Asked(row.question) for row in store.questions.probes(config.gate.probes)]
        self._judging = [probe for probe in known if probe not in self._choosing] + held_out

    def choose(self, steps: Sequence[int], take: Callable[[int], str]) -> int:
        """The step whose version answers most of the choosing labels rightly, the later of two that
        do so alike; without labels to spare, the last: consensus would choose the narrowest. `take`
        makes a step's version the one to ask and names it. Raises EngineError, PacerClosed."""
        if len(steps) == 1 or not self._choosing:
            return steps[-1]
        done = partial(self._progress, len(steps) * len(self._choosing))
        scores = {}
        for number, step in enumerate(steps):
            drawn = self._ask(take(step), self._choosing, number * len(self._choosing), done)
            read = [_read(*each) for each in zip(self._choosing, drawn, strict=True)]
            scores[step] = fmean(answered.accuracy for (answered,) in read)
        return max(steps, key=lambda step: (scores[step], step))

    def judge(self, *, live: str, candidate: str) -> list[Probe]:
        """The answers of base, live version, live version again and candidate. Where the base is
        what serves, its first answers are the live version's. Raises EngineError, PacerClosed."""
        base = self._client.base_model().name
        versions = [*([] if live == base else [base]), live, live, candidate]
        done = partial(self._progress, len(versions) * len(self._judging))
        arms = [
            self._ask(version, self._judging, number * len(self._judging), done)
            for number, version in enumerate(versions)
        ]
        every = arms if len(arms) == 4 else [arms[0], *arms]
        return [_probe(asked, drawn) for asked, *drawn in zip(self._judging, *every, strict=True)]

    def staleness(self) -> Staleness | None:
        """Whether the labelled probes look like the newest questions; None: too few of either."""
        known = [probe.question.text for probe in self._judging if probe.accepted is not None]
        newest = self._store.questions.page(max(RECENT, len(known)))
        return staleness.measure(known, [row.question.text for row in newest])

    def _progress(self, of: int, done: int) -> None:
        self._store.runs.observe(self._run_id, "probe", {"done": done, "of": of})

    def _ask(
        self, version: str, asked: Sequence[Asked], before: int, done: Callable[[int], None]
    ) -> list[Sequence[Sample]]:
        found = []
        for one in crew.each(partial(self._draw, version), asked, width=self._pacer.width):
            found.append(one)
            done(before + len(found))
        return found

    def _draw(self, version: str, asked: Asked) -> Sequence[Sample]:
        vote, n = self._config.vote, self._config.gate.samples
        sampling = Sampling(vote.temperature, vote.max_tokens)
        with self._pacer.slot():
            drawn = self._client.sample(
                asked.question, model=version, n=n, sampling=sampling, priority=PRIORITY
            )
        return drawn.samples


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


def _drawn(run_id: int, asked: Asked, share: float) -> bool:
    told = hashlib.sha256(f"{run_id} {asked.question.hash}".encode()).digest()
    return int.from_bytes(told[:8]) < share * 2**64


def _probe(asked: Asked, drawn: Sequence[Sequence[Sample]]) -> Probe:
    base, live, again, candidate = _read(asked, *drawn)
    return Probe(
        key=asked.question.hash,
        cluster=asked.question.cluster,
        base=base,
        live=live,
        again=again,
        candidate=candidate,
        tags=asked.tags,
    )


def _read(asked: Asked, *drawn: Sequence[Sample]) -> list[Answered]:
    """What each version's samples say, all read as the same kind of answer. One that was cut off
    says nothing."""
    texts = [["" if s.finish is Finish.LENGTH else s.text for s in each] for each in drawn]
    every = [text for each in texts for text in each]
    kind = answers.kind_of(asked.question.text, every)
    canonical = iter(answers.canonical(every, kind))
    found = []
    for samples, said in zip(drawn, texts, strict=True):
        right = None
        if asked.accepted is not None:
            right = tuple(answers.matches(text, asked.accepted, kind) for text in said)
        length = fmean(len(sample.token_ids) for sample in samples)
        found.append(Answered(tuple(next(canonical) for _ in said), right, length))
    return found
