"""Ask several versions the same probes."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import fmean

from jobs.candidate import snapshot_steps
from ttrl import drift, staleness
from ttrl.answers import AnswerKind, Reader
from ttrl.cohort import cohort
from ttrl.config import Config, GateConfig
from ttrl.drift import Drift
from ttrl.engine import crew
from ttrl.engine.client import EngineClient
from ttrl.engine.pacer import Pacer
from ttrl.labelling import Pair, Told, to_judge
from ttrl.paired import Answered, Probe
from ttrl.probes import Apart, LabelledProbe
from ttrl.proof import Pinned
from ttrl.questions import Question
from ttrl.rollouts import PRIORITY
from ttrl.samples import Finish, Sample, Sampling
from ttrl.staleness import Staleness
from ttrl.store import Store
from ttrl.store.questions import StoredQuestion

WEEK_SECONDS = 7 * 86400.0
RECENT = 500
"""Questions of the traffic that labelled probes are held against, at least."""


@dataclass(frozen=True)
class Asked:
    """A question for all versions, by the id of its row: labelled, or held out of the traffic."""

    id: int
    question: Question
    label: LabelledProbe | None = None


@dataclass(frozen=True)
class Examined:
    """A probe as the gate sees it, and the whole texts of live version and candidate."""

    asked: Asked
    probe: Probe
    live: Sequence[str]
    candidate: Sequence[str]


def cost(config: Config, labelled: int, held_out: int, *, from_base: bool) -> int:
    """About how many samples the examination of a whole run draws, of so many probes."""
    apart = round(config.gate.choosing * labelled)
    choosing = apart if apart >= config.gate.min_probes else 0
    steps = len(snapshot_steps(config.update.steps, config.update.snapshots))
    arms = 3 if from_base else 4  # live twice and candidate, and the base if it is not what serves
    asked = arms * (labelled + held_out - choosing) + steps * choosing
    return asked * config.gate.samples


class Examination:
    """The probes of one run: labelled ones by which its best step is chosen, and the others, which
    judge that step. Which is which is drawn anew for each run.

    Versions are asked one after the other, as fast as `pacer` lets them: vLLM's CPU build (0.32)
    answers the base model with an adapter that shares its batch (vLLM pull request 48421). `live`
    is what the candidate is compared with: what served when the run began.
    """

    def __init__(
        self,
        client: EngineClient,
        store: Store,
        config: Config,
        run_id: int,
        pacer: Pacer,
        reader: Reader,
    ) -> None:
        self._client = client
        self._store = store
        self._config = config
        self._run_id = run_id
        self._pacer = pacer
        self._reader = reader
        self._base = client.base_model().name
        self.live = store.adapters.serving().adapter or self._base
        labelled = store.probes.labelled()
        known = [Asked(row.id, row.question, row) for row in labelled]
        choosing = [probe for probe in known if _drawn(run_id, probe, config.gate.choosing)]
        self._choosing = choosing if len(choosing) >= config.gate.min_probes else []
        self._judging = [probe for probe in known if probe not in self._choosing]
        held_out = traffic(store, config.gate, labelled)
        self._judging += [Asked(row.id, row.question) for row in held_out]

    @property
    def current(self) -> bool:
        """Whether what the candidate is compared with still serves."""
        return (self._store.adapters.serving().adapter or self._base) == self.live

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
            asked = zip(self._choosing, drawn, strict=True)
            read = [_read(self._reader, *each) for each in asked]
            scores[step] = fmean(answered.accuracy for (answered,) in read)
        self._expose(self._choosing)
        return max(steps, key=lambda step: (scores[step], step))

    def judge(self, candidate: str) -> list[Examined]:
        """The answers of base, live version, live version again and candidate. Where the base is
        what serves, its first answers are the live version's. Raises EngineError, PacerClosed."""
        others = [] if self.live == self._base else [self._base]
        versions = [*others, self.live, self.live, candidate]
        done = partial(self._progress, len(versions) * len(self._judging))
        arms = [
            self._ask(version, self._judging, number * len(self._judging), done)
            for number, version in enumerate(versions)
        ]
        self._expose(self._judging)
        every = arms if len(arms) == 4 else [arms[0], *arms]
        return [_examined(self._reader, *each) for each in zip(self._judging, *every, strict=True)]

    def drift(self, pinned: Sequence[Pinned]) -> Drift:
        """How far the candidate is from base and live version, on its own pinned answers. A run
        that began at the base computed nothing of the live version, whose part is read back through
        the engine. Raises EngineError."""
        if self.live != self._base and not any(each.parent for each in pinned):
            pinned = [
                replace(each, parent=self._client.read_back(each.pin, model=self.live))
                for each in pinned
            ]
        return drift.measure(pinned)

    def staleness(self) -> Staleness | None:
        """Whether the labelled probes look like the newest questions; None: too few of either."""
        known = [probe.question.text for probe in self._judging if probe.label is not None]
        newest = self._store.questions.page(max(RECENT, len(known)))
        return staleness.measure(known, [row.question.text for row in newest])

    def _expose(self, asked: Iterable[Asked]) -> None:
        """Count that a gate has seen these."""
        held_out = [each.id for each in asked if each.label is None]
        self._store.questions.expose(held_out)
        self._store.probes.expose([each.id for each in asked if each.label is not None])

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


def traffic(
    store: Store, settings: GateConfig, labelled: Sequence[LabelledProbe]
) -> list[StoredQuestion]:
    """The held-out questions that a gate asks at present; one like a labelled probe adds nothing
    to it."""
    clusters = {probe.cluster for probe in labelled}
    return cohort(
        (row for row in store.questions.probes() if row.question.cluster not in clusters),
        settings.probes,
        period=settings.cohort.total_seconds(),
        now=time.time(),
        key=store.questions.holdout_key(),
    )


def apart(store: Store) -> Apart:
    """What training keeps away from: every probe, labelled or held out, asked at present or not."""
    labelled = (probe.question for probe in store.probes.labelled())
    return Apart([*labelled, *(row.question for row in store.questions.probes())])


def to_label(
    store: Store, settings: GateConfig, run_id: int, examined: Sequence[Examined]
) -> list[Pair]:
    """What to ask the operator about: this week's random questions as far as they are missing, and
    where the versions disagree."""
    compared = store.comparisons.compared()
    told = [
        Told(
            each.asked.id,
            each.live,
            each.probe.live.answers,
            each.candidate,
            each.probe.candidate.answers,
        )
        for each in examined
        if each.asked.label is None and each.asked.id not in compared
    ]
    drawn = store.comparisons.drawn_since(time.time() - WEEK_SECONDS)
    return to_judge(told, drawn=max(0, settings.random_labels - drawn), seed=run_id)


def _drawn(run_id: int, asked: Asked, share: float) -> bool:
    told = hashlib.sha256(f"{run_id} {asked.question.cluster}".encode()).digest()
    return int.from_bytes(told[:8]) < share * 2**64


def _examined(reader: Reader, asked: Asked, *drawn: Sequence[Sample]) -> Examined:
    base, live, again, candidate = _read(reader, asked, *drawn)
    probe = Probe(
        key=asked.question.hash,
        cluster=asked.question.cluster,
        base=base,
        live=live,
        again=again,
        candidate=candidate,
        tags=asked.label.tags if asked.label else (),
    )
    return Examined(asked, probe, _texts(drawn[1]), _texts(drawn[3]))


def _read(reader: Reader, asked: Asked, *drawn: Sequence[Sample]) -> list[Answered]:
    """What each version's samples say, all read as the same kind of answer. One that was cut off
    says nothing."""
    texts = list(map(_texts, drawn))
    every = [text for each in texts for text in each]
    reading = reader.read(asked.question.text, every)
    canonical = iter(reading.answers)
    found = []
    for samples, said in zip(drawn, texts, strict=True):
        right = None
        if asked.label is not None:
            right = tuple(_right(asked.label, each, reader, reading.kind) for each in samples)
        length = fmean(len(sample.token_ids) for sample in samples)
        found.append(Answered(tuple(next(canonical) for _ in said), right, length))
    return found


def _right(label: LabelledProbe, sample: Sample, reader: Reader, kind: AnswerKind) -> bool:
    """Whether an answer is. Of a short answer the end is read, of a refusal the beginning: only the
    first is lost when an answer was cut off."""
    cut = sample.finish is Finish.LENGTH and label.accepted
    return not cut and label.right(sample.text, reader, kind)


def _texts(samples: Iterable[Sample]) -> list[str]:
    return ["" if s.finish is Finish.LENGTH else s.text for s in samples]
