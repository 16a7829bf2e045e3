"""Evaluation: several versions answer the same probes, asked as users ask."""

from __future__ import annotations

import hashlib
import logging
import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from operator import attrgetter
from statistics import fmean

from jobs.candidate import Candidate
from jobs.probes import (
    WEEK_SECONDS,
    Compared,
    Item,
    regime_of,
    to_ask,
    to_choose,
)
from ttrl import events
from ttrl.answers import Reader
from ttrl.answers.thoughts import Stance, stance
from ttrl.config import Config, GateConfig
from ttrl.engine import threads
from ttrl.engine.client import EngineClient, EngineError, EngineRefused
from ttrl.engine.pacing import Pacer
from ttrl.engine.proof import Pinned
from ttrl.engine.samples import Sample
from ttrl.evaluation import drift, estimates
from ttrl.evaluation.drift import Drift, Staleness
from ttrl.evaluation.estimates import Quality
from ttrl.evaluation.evidence import Answered, Probe
from ttrl.evaluation.probes import LabelledProbe, ProbeOrigin
from ttrl.events import Probed
from ttrl.questions.question import Question
from ttrl.questions.regime import Regime, Usage
from ttrl.sampling.groups import PRIORITY
from ttrl.store import Store
from ttrl.versions import AdapterDamaged, place

log = logging.getLogger(__name__)

BAD_REQUEST, NOT_FOUND = 400, 404
RECENT = 500
"""Questions of the traffic that labelled probes are held against, at least."""


@dataclass(frozen=True)
class Answers:
    """A version's answers to a question, the seconds that they took together, and its answer at
    temperature 0 if that was asked for. `users_length` as in Regime."""

    samples: Sequence[Sample]
    seconds: float
    greedy: Sample | None = None
    users_length: bool = False

    @property
    def texts(self) -> list[str]:
        """One that was cut off says nothing."""
        return ["" if self.cut(sample) else sample.text for sample in self.samples]

    def cut(self, sample: Sample) -> bool:
        """Whether a user would have got more of it."""
        return sample.cut and not self.users_length


@dataclass(eq=False)
class Asker:
    """Asks for `gate.samples` answers to each question, drawn as users draw theirs (`usage`, where
    nobody asked it). At temperature 0 one is drawn and stands for all.

    All versions are asked a question in the same way, which is a plainer one where the engine
    refuses the user's, or refuses several answers because its own default is temperature 0.
    """

    client: EngineClient
    config: Config
    pacer: Pacer
    reader: Reader
    usage: Usage
    restore: Callable[[str], None] = lambda _: None
    """Has a version in the engine again, which was started anew. Raises EngineError."""
    _restoring: threading.Lock = field(default_factory=threading.Lock)
    _settled: dict[str, Regime] = field(default_factory=dict)
    _left_out: list[Exception] = field(default_factory=list)

    def ask(
        self,
        versions: Iterable[str],
        asked: Sequence[Item],
        done: Callable[[int], None] = lambda _: None,
        *,
        greedy: bool = False,
    ) -> list[tuple[Item, list[Answers]]]:
        """Return the questions in order, each with its answers by one version after the other;
        `done` hears how many there are. With `greedy`, questions whose label decides are asked at
        temperature 0 as well.

        A question that fails for one version is left out for all, so that they are compared on the
        same ones. Raises the engine's error when most fail, or when it does not have a version;
        PacerClosed.
        """
        found: list[tuple[Item, list[Answers]]] = [(one, []) for one in asked]
        failed = 0
        for number, version in enumerate(versions):
            before = number * len(asked) + failed
            answered = []
            draw = partial(self._try, version, greedy)
            left = [one for one, _ in found]
            with closing(threads.map_in_order(draw, left, width=self.pacer.width)) as outcomes:
                for place, (outcome, (one, drawn)) in enumerate(zip(outcomes, found, strict=True)):
                    if isinstance(outcome, EngineError):
                        failed += 1
                        self._left_out.append(outcome)
                        log.warning("left out a probe: %s", outcome)
                        if 2 * failed > len(asked):
                            raise outcome
                    else:
                        answered.append((one, [*drawn, outcome]))
                    done(before + place + 1)
            found = answered
        return found

    def _try(self, version: str, greedy: bool, item: Item) -> Answers | EngineError:
        draw = partial(self._draw, version, item.question, greedy and item.decided is not None)
        try:
            with self.pacer.slot():
                try:
                    return draw()
                except EngineRefused as error:
                    if error.status != NOT_FOUND:
                        raise
                with self._restoring:
                    self.restore(version)
                return draw()
        except EngineRefused as error:
            if not error.final and not error.transient:  # no other question would be answered
                raise
            return error
        except EngineError as error:
            return error

    def _draw(self, version: str, question: Question, greedy: bool) -> Answers:
        def sample(regime: Regime, n: int) -> tuple[Sample, ...]:
            drawn = self.client.sample(
                question, model=version, n=n, sampling=regime, priority=PRIORITY
            )
            return drawn.samples

        began, n = time.monotonic(), self.config.gate.samples
        ways = self._ways(question)
        for regime in ways:
            try:
                samples = sample(regime, 1 if regime.greedy else n)
                break
            except EngineRefused as refused:
                if refused.status != BAD_REQUEST or regime is ways[-1]:
                    raise
        self._settled[question.hash] = regime
        seconds, users_length = time.monotonic() - began, regime.users_length
        if regime.greedy:
            return Answers(samples * n, seconds, samples[0], users_length)
        at_zero = None
        if greedy:
            (at_zero,) = sample(regime.at_zero(), 1)
        return Answers(samples, seconds, at_zero, users_length)

    def _ways(self, question: Question) -> list[Regime]:
        """Return the ways to try, the users' own first; once one was answered, that one."""
        if (known := self._settled.get(question.hash)) is not None:
            return [known]
        ways = []
        plain = Regime({"max_tokens": self.config.vote.longest})
        for regime in (regime_of(question, self.usage, self.config), plain):
            ways.append(regime)
            if regime.open:  # a default of 0 gives one answer at a time
                ways.append(regime.at_zero())
        return ways

    def remarks(self) -> str:
        refused = sum(isinstance(each, EngineRefused) and each.final for each in self._left_out)
        lost = sum(isinstance(each, EngineError) for each in self._left_out) - refused
        counts = {
            "the engine refused": refused,
            "the engine did not answer": lost,
            "could not be read": len(self._left_out) - refused - lost,
        }
        reasons = (f"{count} that {why}" for why, count in counts.items() if count)
        return f"probes left out: {', '.join(reasons)}" if self._left_out else ""

    def read(
        self, found: Iterable[tuple[Item, Sequence[Answers]]]
    ) -> Iterator[tuple[Item, list[Answered]]]:
        """Yield each question with what the versions' answers say, all read as the same kind. One
        whose answers cannot be read is left out for all versions."""
        for item, drawn in found:
            try:
                answered = self._read(item, drawn)
            except Exception as error:  # noqa: BLE001 - one probe never ends an evaluation
                self._left_out.append(error)
                log.warning("left out a probe: reading its answers raised %s", type(error).__name__)
            else:
                yield item, answered

    def _read(self, asked: Item, drawn: Sequence[Answers]) -> list[Answered]:
        texts = [each.texts for each in drawn]
        every = [text for each in texts for text in each]
        reading = self.reader.read(asked.question.text, every)
        canonical = iter(reading.answers)

        def correct(label: LabelledProbe, each: Answers, sample: Sample) -> bool:
            # Cutting an answer off loses its end, where a short answer is, not where a refusal is.
            lost = each.cut(sample) and label.accepted
            return not lost and label.right(sample.text, self.reader, reading.kind)

        found = []
        for each, said in zip(drawn, texts, strict=True):
            answers = tuple(next(canonical) for _ in said)
            right = rejected = at_zero = None
            if (label := asked.decided) is not None:
                right = tuple(correct(label, each, one) for one in each.samples)
                if each.greedy is not None:
                    at_zero = correct(label, each, each.greedy)
            elif (label := asked.label) is not None:
                rejected = tuple(
                    answer is None or label.rejects(text, self.reader, reading.kind)
                    for answer, text in zip(answers, said, strict=True)
                )
            found.append(
                Answered(
                    answers,
                    right,
                    fmean(len(sample.token_ids) for sample in each.samples),
                    each.seconds,
                    fmean(stance(text) is Stance.DECLINES for text in said),
                    at_zero,
                    rejected,
                    tuple(said),
                    reading.kind,
                )
            )
        return found


@dataclass(eq=False)
class Evaluation:
    """The probes of one run: labelled ones by which its best step is chosen, drawn anew for each
    run, and the others, which judge that step. `live` is what served when the run began.

    Versions are asked one after the other: vLLM's CPU build (0.32) answers the base model with an
    adapter that shares its batch (vLLM pull request 48421).
    """

    client: EngineClient
    store: Store
    config: Config
    run_id: int
    pacer: Pacer
    reader: Reader
    restore: Callable[[str], None]

    def __post_init__(self) -> None:
        config, store = self.config, self.store
        usage = store.questions.usage(config.gate.min_probes)
        self._asker = Asker(self.client, config, self.pacer, self.reader, usage, self.restore)
        self._base = self.client.base_model().name
        self.parent = store.adapters.serving().adapter
        self.live = self.parent or self._base
        self.remarks = self._asker.remarks

        def place(probe: Item) -> tuple[bytes, str]:
            """In this run's random order, near-duplicates side by side."""
            seeded = f"{self.run_id} {probe.question.cluster}".encode()
            return hashlib.sha256(seeded).digest(), probe.question.hash

        every = to_ask(store, config.gate)
        decided = sorted((probe for probe in every if probe.decided), key=place)
        cut = to_choose(len(decided), config.gate)
        while 0 < cut < len(decided) and (
            decided[cut - 1].question.cluster == decided[cut].question.cluster
        ):
            cut += 1  # near-duplicates stay on one side
        self._choosing = decided[:cut]
        self._judging = decided[cut:] + [probe for probe in every if not probe.decided]

    @property
    def current(self) -> bool:
        """Whether what the candidate is compared with still serves."""
        return (self.store.adapters.serving().adapter or self._base) == self.live

    def best_step(self, steps: Sequence[int], load: Callable[[int], str]) -> int:
        """Return the step whose version answers most of the choosing labels correctly, the later of
        equal ones; without labels to spare, the last: consensus would choose the narrowest. `load`
        makes a step's version the one to ask, and names it. Raises EngineError, PacerClosed."""
        if len(steps) == 1 or not self._choosing:
            return steps[-1]
        done = partial(self._progress, len(steps) * len(self._choosing))
        found = self._asker.ask(map(load, steps), self._choosing, done)
        scores = {}
        for number, step in enumerate(steps):
            of_step = ((asked, [drawn[number]]) for asked, drawn in found)
            right = [answered.accuracy for _, (answered,) in self._asker.read(of_step)]
            scores[step] = fmean(right) if right else 0.0
        self._expose([asked for asked, _ in found])
        return max(steps, key=lambda step: (scores[step], step))

    def evaluate(self, candidate: str) -> list[Compared]:
        """Return the answers of base, live version and candidate; a base that serves is asked
        once. Raises EngineError, PacerClosed."""
        others = [] if self.live == self._base else [self._base]
        versions = [*others, self.live, candidate]
        done = partial(self._progress, len(versions) * len(self._judging))
        found = self._asker.ask(versions, self._judging, done, greedy=True)
        self._expose([item for item, _ in found])
        compared = []
        for item, answered in self._asker.read(found):
            *bases, live, last = answered
            base, tags = bases[0] if bases else live, item.label.tags if item.label else ()
            probe = Probe(item.question.hash, item.question.cluster, base, live, last, tags)
            compared.append(Compared(item, probe))
        return compared

    def drift(self, pinned: Sequence[Pinned], candidate: Candidate) -> Drift:
        """Return how far the candidate is from base, live version and what was live a week ago, on
        its own pinned answers; what the trainer did not compute is read back from the engine."""

        def from_served(model: str) -> float | None:
            return drift.divergence(
                (each.own, self.client.read_back(each.pin, model=model)) for each in pinned
            )

        found = drift.divergences(pinned)
        if self.live != self._base and not any(each.parent for each in pinned):
            try:
                found = replace(found, from_live=from_served(self.live))
            except EngineError as error:
                log.warning(
                    "cannot measure the KL divergence from the live version %s, so the candidate "
                    "will be held: %s",
                    self.live,
                    error,
                )
                # Within no limit: the gate holds what may be far.
                found = replace(found, from_live=math.nan)
        week = self.store.adapters.wanted_at(time.time() - WEEK_SECONDS)
        if week in (None, self.parent):
            return replace(found, from_week=found.from_base if week is None else found.from_live)
        try:
            directory = place(self.config.state_dir / "adapters", week)
            with candidate.loaded_beside(directory) as name:
                return replace(found, from_week=from_served(name))
        except (AdapterDamaged, EngineError) as error:
            log.warning("cannot compare with %s, which was live a week ago: %s", week, error)
            return found

    def qualities(
        self, compared: Sequence[Compared], looked: Staleness | None
    ) -> Iterator[Quality | None]:
        for side in (attrgetter("base"), attrgetter("live"), attrgetter("candidate")):
            answered = [(each.item, side(each.probe)) for each in compared]
            yield quality_of(self.store, self.config.gate, answered, looked)

    def _expose(self, seen: Sequence[Item]) -> None:
        self.store.holdout.expose([each.id for each in seen if each.label is None])
        self.store.probes.expose([each.id for each in seen if each.label is not None])

    def _progress(self, of: int, done: int) -> None:
        events.observe(self.store, self.run_id, Probed(done, of))


def staleness_of(store: Store, asked: Iterable[Item]) -> Staleness | None:
    """Return whether the labelled ones look like the newest questions; None: too few of either."""
    known = [each.question.text for each in asked if each.decided]
    newest = store.questions.page(max(RECENT, len(known)))
    return drift.staleness_of_labels(known, [row.question.text for row in newest])


def quality_of(
    store: Store,
    settings: GateConfig,
    answered: Iterable[tuple[Item, Answered]],
    looked: Staleness | None,
) -> Quality | None:
    """Return how good the answers are; `looked` as staleness_of gives it.

    Random labels speak for the traffic, the operator's own once they are known to look like it, and
    none when it has moved away from them. Those of disagreements are the hard ones."""
    speaks: tuple[ProbeOrigin, ...] = (ProbeOrigin.RANDOM,)
    if looked is not None:
        speaks = () if looked.stale(settings) else (ProbeOrigin.RANDOM, ProbeOrigin.OPERATOR)
    return estimates.measure(
        [
            estimates.Asked(
                asked.question.cluster,
                answers,
                asked.label is None or asked.label.origin in speaks,
                asked.traffic,
                asked.label is not None and not (asked.label.decides or asked.label.rejected),
                asked.label.tags if asked.label else (),
            )
            for asked, answers in answered
        ],
        store.comparisons.undecided_right(),
    )
