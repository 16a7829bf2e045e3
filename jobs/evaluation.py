"""Evaluation: several versions answer the same probes as users ask them, and what they answer is
read."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from statistics import fmean

from jobs.candidate import Candidate
from jobs.probes import (
    WEEK_SECONDS,
    Compared,
    Item,
    random_place,
    regime_of,
    to_ask,
    to_choose,
)
from ttrl.adapters.versions import AdapterDamaged
from ttrl.answers import AnswerKind, Reader
from ttrl.answers.refusal import Stance, stance
from ttrl.config import Config, GateConfig
from ttrl.engine import threads
from ttrl.engine.client import EngineClient, EngineError, EngineRefused
from ttrl.engine.pacing import Pacer
from ttrl.engine.proof import Pinned
from ttrl.engine.samples import Sample
from ttrl.evaluation import drift, estimates
from ttrl.evaluation import drift as staleness
from ttrl.evaluation.drift import Drift, Staleness
from ttrl.evaluation.estimates import Quality
from ttrl.evaluation.evidence import Answered, Probe
from ttrl.evaluation.probes import LabelledProbe, ProbeOrigin
from ttrl.questions.question import Question
from ttrl.questions.regime import Regime, Usage
from ttrl.sampling.groups import PRIORITY
from ttrl.store import Store

log = logging.getLogger(__name__)

BAD_REQUEST = 400
RECENT = 500
"""Questions of the traffic that labelled probes are held against, at least."""


@dataclass(frozen=True)
class Answers:
    """A version's answers to a question, the seconds from asking to having them all, and its answer
    at temperature 0 where that was asked for. `users_length` as in Regime."""

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


class Asker:
    """Asks as fast as `pacer` lets it, `gate.samples` answers to each question, drawn as users draw
    theirs: `usage` says how those do that asked something else. At temperature 0 all answers are
    the same: one is drawn and stands for all, so that a share of right answers is 0 or 1.

    All versions are asked a question in the same way. What the engine refuses, because it is not
    the one that the user asked or its own default is temperature 0, is asked in a plainer way.
    """

    def __init__(
        self, client: EngineClient, config: Config, pacer: Pacer, reader: Reader, usage: Usage
    ) -> None:
        self._client = client
        self._config = config
        self._pacer = pacer
        self._reader = reader
        self._usage = usage
        self._settled: dict[str, Regime] = {}
        self._left_out: list[EngineError] = []

    def ask(
        self,
        versions: Iterable[str],
        asked: Sequence[Item],
        done: Callable[[int], None] = lambda _: None,
        *,
        greedy: bool = False,
    ) -> list[tuple[Item, list[Answers]]]:
        """The questions in order, each with its answers by one version after the other; `done`
        hears how many there are. With `greedy`, questions with a label that decides are asked at
        temperature 0 as well.

        A question that the engine refuses of one version, or that cannot be had though it was tried
        again, is left out for all of them, so that they are compared on the same ones. Raises the
        engine's error when most cannot be had, or when it does not have a version; PacerClosed.
        """
        found: list[tuple[Item, list[Answers]]] = [(one, []) for one in asked]
        failed = 0
        for number, version in enumerate(versions):
            before = number * len(asked) + failed
            answered = []
            draw = partial(self._try, version, greedy)
            left = [one for one, _ in found]
            with closing(threads.map_in_order(draw, left, width=self._pacer.width)) as outcomes:
                for place, (outcome, (one, drawn)) in enumerate(zip(outcomes, found, strict=True)):
                    if isinstance(outcome, EngineError):
                        failed += 1
                        self._left_out.append(outcome)
                        log.warning("leaving out a probe: %s", outcome)
                        if 2 * failed > len(asked):
                            raise outcome
                    else:
                        answered.append((one, [*drawn, outcome]))
                    done(before + place + 1)
            found = answered
        return found

    def remarks(self) -> str:
        """Say how many probes were left out, and why; nothing where none was."""
        final = [isinstance(each, EngineRefused) and each.final for each in self._left_out]
        counts = ((final.count(True), "refused"), (final.count(False), "did not answer"))
        return "; ".join(
            f"{count} probes were left out: the engine {did} them"
            if count > 1
            else f"1 probe was left out: the engine {did} it"
            for count, did in counts
            if count
        )

    def read(self, asked: Item, *drawn: Answers) -> list[Answered]:
        """What each version's answers to one question say, all read as the same kind."""
        texts = [each.texts for each in drawn]
        every = [text for each in texts for text in each]
        reading = self._reader.read(asked.question.text, every)
        canonical = iter(reading.answers)
        found = []
        for each, said in zip(drawn, texts, strict=True):
            answers = tuple(next(canonical) for _ in said)
            right = rejected = at_zero = None
            if (label := asked.decided) is not None:
                right = tuple(self._right(label, each, one, reading.kind) for one in each.samples)
                if each.greedy is not None:
                    at_zero = self._right(label, each, each.greedy, reading.kind)
            elif (label := asked.label) is not None:
                rejected = tuple(
                    answer is None or label.rejects(text, self._reader, reading.kind)
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
                )
            )
        return found

    def _try(self, version: str, greedy: bool, asked: Item) -> Answers | EngineError:
        try:
            return self._draw(version, greedy, asked)
        except EngineRefused as error:
            if not error.final and not error.transient:  # no other question would be answered
                raise
            return error
        except EngineError as error:
            return error

    def _draw(self, version: str, greedy: bool, asked: Item) -> Answers:
        question, n = asked.question, self._config.gate.samples
        with self._pacer.slot():
            began = time.monotonic()
            regime, samples = self._sample(version, question, n)
            seconds = time.monotonic() - began
            if regime.greedy:
                return Answers(samples * n, seconds, samples[0], regime.users_length)
            at_zero = None
            if greedy and asked.decided is not None:
                (at_zero,) = self._once(version, question, regime.at_zero(), 1)
        return Answers(samples, seconds, at_zero, regime.users_length)

    def _sample(
        self, version: str, question: Question, n: int
    ) -> tuple[Regime, tuple[Sample, ...]]:
        """The answers and how they were drawn: one alone if that was greedily."""
        ways = list(self._ways(question))
        for number, regime in enumerate(ways, 1):
            try:
                samples = self._once(version, question, regime, 1 if regime.greedy else n)
            except EngineRefused as refused:
                if refused.status != BAD_REQUEST or number == len(ways):
                    raise
            else:
                self._settled[question.hash] = regime
                return regime, samples
        raise AssertionError("unreachable")

    def _ways(self, question: Question) -> Iterator[Regime]:
        """In which to try, the users' own first; the one that was answered alone once it is
        known."""
        known = self._settled.get(question.hash)
        if known is not None:
            yield known
            return
        asked = regime_of(question, self._usage, self._config)
        plain = Regime({"max_tokens": self._config.vote.longest})
        for regime in (asked, plain):
            yield regime
            if regime.open:  # a default of 0 gives one answer at a time
                yield regime.at_zero()

    def _once(self, version: str, question: Question, regime: Regime, n: int) -> tuple[Sample, ...]:
        drawn = self._client.sample(
            question, model=version, n=n, sampling=regime, priority=PRIORITY
        )
        return drawn.samples

    def _right(
        self, label: LabelledProbe, drawn: Answers, sample: Sample, kind: AnswerKind
    ) -> bool:
        """Whether an answer is. Of a short answer the end is read, of a refusal the beginning: only
        the first is lost when an answer was cut off."""
        lost = drawn.cut(sample) and label.accepted
        return not lost and label.right(sample.text, self._reader, kind)


class Evaluation:
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
        usage = store.questions.usage(config.gate.min_probes)
        self._asker = Asker(client, config, pacer, reader, usage)
        self._base = client.base_model().name
        self.parent = store.adapters.serving().adapter
        self.live = self.parent or self._base
        every = to_ask(store, config.gate)
        labelled = (probe for probe in every if probe.decided)
        decided = sorted(labelled, key=lambda probe: random_place(run_id, probe))
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
        return (self._store.adapters.serving().adapter or self._base) == self.live

    def best_step(self, steps: Sequence[int], load: Callable[[int], str]) -> int:
        """Return the step whose version answers most of the choosing labels correctly, the later of
        two that do so alike; without labels to spare, the last: consensus would choose the
        narrowest. `load` makes a step's version the one to ask and names it. Raises EngineError,
        PacerClosed."""
        if len(steps) == 1 or not self._choosing:
            return steps[-1]
        done = partial(self._progress, len(steps) * len(self._choosing))
        found = self._asker.ask(map(load, steps), self._choosing, done)
        scores = {}
        for place, step in enumerate(steps):
            read = (self._asker.read(asked, drawn[place]) for asked, drawn in found)
            scores[step] = fmean(answered.accuracy for (answered,) in read)
        self._expose(asked for asked, _ in found)
        return max(steps, key=lambda step: (scores[step], step))

    def evaluate(self, candidate: str) -> list[Compared]:
        """Return the answers of base, live version and candidate. Where the base is what serves,
        its answers are the live version's. Raises EngineError, PacerClosed."""
        others = [] if self.live == self._base else [self._base]
        versions = [*others, self.live, candidate]
        done = partial(self._progress, len(versions) * len(self._judging))
        found = self._asker.ask(versions, self._judging, done, greedy=True)
        self._judging = [asked for asked, _ in found]
        self._expose(self._judging)
        return [self._compared(item, *answers) for item, answers in found]

    def remarks(self) -> str:
        """Say how many probes could not be had; may be empty."""
        return self._asker.remarks()

    def _compared(self, item: Item, *answers: Answers) -> Compared:
        *others, live, candidate = self._asker.read(item, *answers)
        probe = Probe(
            key=item.question.hash,
            cluster=item.question.cluster,
            base=others[0] if others else live,
            live=live,
            candidate=candidate,
            tags=item.label.tags if item.label else (),
        )
        return Compared(item, probe, answers[-2].texts, answers[-1].texts)

    def drift(self, pinned: Sequence[Pinned], candidate: Candidate) -> Drift:
        """How far the candidate is from base, live version and what was live a week ago, on its own
        pinned answers. A run that began at the base computed nothing of the live version, whose
        part is read back through the engine."""
        found = drift.divergences(pinned)
        if self.live != self._base and not any(each.parent for each in pinned):
            found = replace(found, from_live=self._from_live(pinned))
        return replace(found, from_week=self._from_week(pinned, candidate, found))

    def _from_live(self, pinned: Sequence[Pinned]) -> float | None:
        try:
            return drift.divergence(
                (each.own, self._client.read_back(each.pin, model=self.live)) for each in pinned
            )
        except EngineError as error:
            log.warning("cannot compare with the live version %s: %s", self.live, error)
            return math.nan  # within no limit: the gate holds what may be far

    def _from_week(
        self, pinned: Sequence[Pinned], candidate: Candidate, found: Drift
    ) -> float | None:
        week = self._store.adapters.wanted_at(time.time() - WEEK_SECONDS)
        if week in (None, self.parent):
            return found.from_base if week is None else found.from_live
        try:
            with candidate.loaded_beside(self._config.state_dir / "adapters" / week) as name:
                return drift.divergence(
                    (each.own, self._client.read_back(each.pin, model=name)) for each in pinned
                )
        except (AdapterDamaged, EngineError) as error:
            log.warning("cannot compare with %s, which was live a week ago: %s", week, error)
            return None

    def staleness(self) -> Staleness | None:
        """Whether the labelled probes look like the newest questions; None: too few of either."""
        return staleness_of(self._store, self._judging)

    def qualities(
        self, compared: Sequence[Compared], looked: Staleness | None
    ) -> tuple[Quality | None, Quality | None, Quality | None]:
        """Return how good the answers of base, live version and candidate are, all measured by the
        same labels; `looked` as staleness() gives it."""
        undecided = self._store.comparisons.undecided_right()

        def quality(of: Callable[[Probe], Answered]) -> Quality | None:
            answered = ((each.item, of(each.probe)) for each in compared)
            return quality_of(answered, looked, self._config.gate, undecided)

        return (
            quality(lambda probe: probe.base),
            quality(lambda probe: probe.live),
            quality(lambda probe: probe.candidate),
        )

    def _expose(self, seen: Iterable[Item]) -> None:
        """Count that a gate has seen these."""
        asked = list(seen)
        held_out = [each.id for each in asked if each.label is None]
        self._store.holdout.expose(held_out)
        self._store.probes.expose([each.id for each in asked if each.label is not None])

    def _progress(self, of: int, done: int) -> None:
        self._store.runs.observe(self._run_id, "probe", {"done": done, "of": of})


def staleness_of(store: Store, asked: Iterable[Item]) -> Staleness | None:
    """Return whether the labelled ones look like the newest questions; None: too few of either."""
    known = [each.question.text for each in asked if each.decided]
    newest = store.questions.page(max(RECENT, len(known)))
    return staleness.staleness_of_labels(known, [row.question.text for row in newest])


def quality_of(
    answered: Iterable[tuple[Item, Answered]],
    looked: Staleness | None,
    settings: GateConfig,
    undecided: tuple[int, int] = (0, 0),
) -> Quality | None:
    """How good the answers are; `looked` is whether the labels look like the traffic, `undecided`
    how many of the undecided answers that were drawn and judged are right, and of how many."""
    speaks = _speaking(looked, settings)
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
        undecided,
    )


def _speaking(looked: Staleness | None, settings: GateConfig) -> Collection[ProbeOrigin]:
    """The labels that say something of the traffic: those drawn from it, the operator's own once
    they are known to look like it, and none when it has moved away from them. Those of
    disagreements are the hard ones."""
    if looked is None:
        return (ProbeOrigin.RANDOM,)
    return () if looked.stale(settings) else (ProbeOrigin.RANDOM, ProbeOrigin.OPERATOR)
