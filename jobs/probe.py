"""Ask several versions the same probes."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from statistics import fmean

from jobs.asker import Asked, Asker, Drawn, known
from jobs.candidate import Candidate, snapshot_steps
from jobs.quality import look
from ttrl import drift
from ttrl.adapters import AdapterDamaged
from ttrl.answers import Reader
from ttrl.cohort import cohort
from ttrl.config import Config, GateConfig
from ttrl.drift import Drift
from ttrl.engine.client import EngineClient, EngineError
from ttrl.engine.pacer import Pacer
from ttrl.labelling import Pair, Told, to_judge
from ttrl.paired import Probe
from ttrl.probes import Apart, LabelledProbe
from ttrl.proof import Pinned
from ttrl.staleness import Staleness
from ttrl.store import Store
from ttrl.store.questions import StoredQuestion

log = logging.getLogger(__name__)

WEEK_SECONDS = 7 * 86400.0


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
        self._asker = Asker(client, config, pacer, reader)
        self._base = client.base_model().name
        self.parent = store.adapters.serving().adapter
        self.live = self.parent or self._base
        labelled = store.probes.labelled()
        every = known(labelled)
        choosing = [probe for probe in every if _drawn(run_id, probe, config.gate.choosing)]
        self._choosing = choosing if len(choosing) >= config.gate.min_probes else []
        self._judging = [probe for probe in every if probe not in self._choosing]
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
        every = len(steps) * len(self._choosing)
        scores = {}
        for number, step in enumerate(steps):
            done = partial(self._progress, every, number * len(self._choosing))
            drawn = self._asker.ask(take(step), self._choosing, done)
            asked = zip(self._choosing, drawn, strict=True)
            read = [self._asker.read(*each) for each in asked]
            scores[step] = fmean(answered.accuracy for (answered,) in read)
        self._expose(self._choosing)
        return max(steps, key=lambda step: (scores[step], step))

    def judge(self, candidate: str) -> list[Examined]:
        """The answers of base, live version, live version again and candidate. Where the base is
        what serves, its first answers are the live version's. Raises EngineError, PacerClosed."""
        others = [] if self.live == self._base else [self._base]
        versions = [*others, self.live, self.live, candidate]
        count = len(self._judging)
        arms = []
        for number, version in enumerate(versions):
            done = partial(self._progress, len(versions) * count, number * count)
            arms.append(self._asker.ask(version, self._judging, done))
        self._expose(self._judging)
        four = arms if len(arms) == 4 else [arms[0], *arms]
        return [self._examined(*each) for each in zip(self._judging, *four, strict=True)]

    def _examined(self, asked: Asked, *drawn: Drawn) -> Examined:
        base, live, again, candidate = self._asker.read(asked, *drawn)
        probe = Probe(
            key=asked.question.hash,
            cluster=asked.question.cluster,
            base=base,
            live=live,
            again=again,
            candidate=candidate,
            tags=asked.label.tags if asked.label else (),
        )
        return Examined(asked, probe, drawn[1].texts, drawn[3].texts)

    def drift(self, pinned: Sequence[Pinned], candidate: Candidate) -> Drift:
        """How far the candidate is from base, live version and what was live a week ago, on its own
        pinned answers. A run that began at the base computed nothing of the live version, whose
        part is read back through the engine. Raises EngineError."""
        if self.live != self._base and not any(each.parent for each in pinned):
            pinned = [
                replace(each, parent=self._client.read_back(each.pin, model=self.live))
                for each in pinned
            ]
        found = drift.measure(pinned)
        return replace(found, from_week=self._from_week(pinned, candidate, found))

    def _from_week(
        self, pinned: Sequence[Pinned], candidate: Candidate, found: Drift
    ) -> float | None:
        week = self._store.adapters.wanted_at(time.time() - WEEK_SECONDS)
        if week in (None, self.parent):
            return found.from_base if week is None else found.from_live
        try:
            with candidate.beside(self._config.state_dir / "adapters" / week) as name:
                return drift.divergence(
                    (each.own, self._client.read_back(each.pin, model=name)) for each in pinned
                )
        except (AdapterDamaged, EngineError) as error:
            log.warning("%s, which was live a week ago, cannot be compared with: %s", week, error)
            return None

    def staleness(self) -> Staleness | None:
        """Whether the labelled probes look like the newest questions; None: too few of either."""
        return look(self._store, self._judging)

    def _expose(self, asked: Iterable[Asked]) -> None:
        """Count that a gate has seen these."""
        held_out = [each.id for each in asked if each.label is None]
        self._store.holdout.expose(held_out)
        self._store.probes.expose([each.id for each in asked if each.label is not None])

    def _progress(self, of: int, before: int, done: int) -> None:
        self._store.runs.observe(self._run_id, "probe", {"done": before + done, "of": of})


def traffic(
    store: Store, settings: GateConfig, labelled: Sequence[LabelledProbe]
) -> list[StoredQuestion]:
    """The held-out questions that a gate asks at present; one like a labelled probe adds nothing
    to it."""
    clusters = {probe.cluster for probe in labelled}
    return cohort(
        (row for row in store.holdout.probes() if row.question.cluster not in clusters),
        settings.probes,
        period=settings.cohort.total_seconds(),
        now=time.time(),
        key=store.holdout.key(),
    )


def apart(store: Store) -> Apart:
    """What training keeps away from: every probe, labelled or held out, asked at present or not."""
    labelled = (probe.question for probe in store.probes.labelled())
    return Apart(chain(labelled, store.holdout.all()))


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
