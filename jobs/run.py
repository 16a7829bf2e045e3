"""One training run, from top to bottom: start, select, train (sample, vote, reward, step, monitor),
evaluate, gate, publish.

A process of its own, `python -m jobs.run`: its death leaves the daemon serving.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import os
import secrets
import shutil
import signal
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from jobs import process, selection
from jobs.candidate import Candidate, checkpoint_steps
from jobs.evaluation import Evaluation, staleness_of
from jobs.judge import Judge, judge_for
from jobs.probes import Compared, to_label
from jobs.process import known_answers, reader_for, sized
from jobs.selection import Descent
from ttrl import ReportedError, events, rewards, verifiers, versions
from ttrl.answers.layers import Layer
from ttrl.config import AnswerKind, Config, SelectionOrder, Teacher
from ttrl.engine import threads
from ttrl.engine.client import EngineClient, EngineError, EngineRefused
from ttrl.engine.pacing import Pacer, PacerClosed
from ttrl.engine.proof import Pin
from ttrl.engine.samples import SampleSet
from ttrl.evaluation import gate
from ttrl.evaluation.drift import Drift
from ttrl.evaluation.estimates import Quality, Reliability
from ttrl.evaluation.evidence import threshold_at
from ttrl.evaluation.gate import Judgement, Verdict
from ttrl.events import Draw, Event, Selection, Step, Unanswered
from ttrl.monitoring import run as run_monitor
from ttrl.monitoring.run import Action, Ruling
from ttrl.monitoring.signs import Signs, Watch
from ttrl.questions.regime import Regime
from ttrl.rewards import RewardFailed
from ttrl.sampling import prompts
from ttrl.sampling.groups import PRIORITY, Group, Roller, cut_off, pacer_for, rows
from ttrl.sampling.selection import Rounds
from ttrl.store import Store, StoreError
from ttrl.store.adapters import AdapterRow, AdapterState, Author
from ttrl.store.database import OUTAGE, cause, is_outage
from ttrl.store.questions import QuestionState, StoredQuestion
from ttrl.store.runs import RunState
from ttrl.training import (
    OUT_OF_MEMORY,
    Row,
    TrainingEnded,
    UpdateDiverged,
)
from ttrl.verifiers import Verifier
from ttrl.versions import Manifest, identify
from ttrl.votes import VoteOutcome
from ttrl.words import counted

if TYPE_CHECKING:
    from ttrl.training.grpo import Trainer
    from ttrl.training.lora import Imported

log = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 5.0
STORE_PATIENCE_SECONDS = 60.0
"""Long, since nobody waits for a run."""
DRAWS_PER_STEP = 4
"""Times that a step samples, at most, until enough questions have a training signal."""
REPLAYED_STEPS = 4
"""Steps after which samples are too old to be trained on again: their importance weights stray too
far from 1."""
PINS, PIN_PROMPT_TOKENS, PIN_ANSWER_TOKENS = 8, 256, 256
"""Sequences that prove what the engine serves, and their tokens at most: the end of the prompt and
the beginning of the answer."""
NICE = 10
"""Added to the process's niceness: where the CPU is short, the gateway and the engine go first."""
CONTRADICTED_NAMED = 3
RUNS_SWEPT = 20
"""Runs that may have left a version in its place without a row."""

FAILED_DRAWS = 3
"""Draws in a row without an answered question, each retried for a minute, after which the engine is
taken to be gone."""
FAILURES = 2
"""Draws in which an engine that answers others does not answer a question, after which that one is
kept back."""
NOT_FOUND = 404

IMPORTED = Descent(None, "imported")
"""Where the candidate comes from elsewhere."""
End = tuple[RunState, str]
"""How a run ended, and why."""


def execute(config: Config, store: Store, client: EngineClient, run_id: int) -> RunState:
    """Take the queued run to its end, and return how it ended. A failure is an end with a reason in
    the store; an unforeseen one is raised as well."""
    state, reason = RunState.FAILED, ""
    try:
        state, reason = Run(config, store, client, run_id).adapt()
    except process.Stopped as stopped:
        state, reason = RunState.ABORTED, str(stopped)
    except (DBAPIError, PoolTimeout, StoreError) as error:
        reason = f"the store could not be used: {cause(error)}; see `ttrl doctor`"
    except ReportedError as error:
        reason = str(error)
    except MemoryError:
        reason = OUT_OF_MEMORY
    except OSError as error:
        reason = f"{error.strerror or error} ({error.filename})"
    except BaseException as error:
        reason = f"unexpected {type(error).__name__}; see the run's log"
        raise
    finally:
        end(config, store, run_id, state, reason)
    return state


@dataclass(frozen=True)
class PendingSamples:
    """The samples of a step, which are drawn in a thread of their own."""

    groups: Future[list[Group]]
    staleness: int
    """Optimizer steps between the weights that draw them and those that are trained on them."""
    needed: int
    """Questions with a training signal."""
    replayed: Sequence[Sequence[Row]]
    """Of the step's other questions."""


class Run:
    """One run, and what its steps share.

    While a step samples, rounds, tally and draws are its thread's, and what it writes to the
    store is written under `_writing`; all else is the main thread's.
    """

    start: Descent
    candidate: Candidate
    roller: Roller
    pacer: Pacer
    steps: int

    def __init__(self, config: Config, store: Store, client: EngineClient, run_id: int) -> None:
        self.config = config
        self.store = store
        self.client = client
        self.id = run_id
        self.judge = Judge(config.judge)
        self.tally = Tally()
        self.ruling = Ruling(Action.GO_ON, trusted=0)
        self.trained_on: set[int] = set()
        """Ids of the questions that taught something."""
        self._first: Sequence[StoredQuestion] = ()
        """The questions of the first step."""
        self._groups: list[Group] = []
        """Of the newest step."""
        self._staleness = 0
        """Of these groups."""
        self._totals: Mapping[str, int] = {}
        """What the run had sampled when it had these groups."""
        self._sampling: PendingSamples | None = None
        """Of the step after it."""
        self._writing = threading.Lock()
        self._over = threading.Event()
        """No further step is to be: what is still sampled is not written down."""
        self._pins: Sequence[Pin] = ()
        self._replayable: deque[tuple[int, Sequence[Row]]] = deque()
        """A question's rows, after the number of steps that the weights had done that drew them."""
        self._draws = Draws()
        self._seen: list[Signs] = []
        self._random = Random(config.update.seed)

    def adapt(self) -> End:
        """Do the whole run, in the order in which it reads."""
        self.config = config = sized(self.config, self.client)
        store = self.store
        with process.signals_deferred():
            rewards.load(config.vote.rewards)
            wordings = prompts.load(config.vote)
            verifier, skipped_checks = self._load_verifier()

        imported = store.runs.get(self.id).request.get("import")
        self.start = IMPORTED if imported else selection.descent(config, store)
        parent = self.start.parent.name if self.start.parent else None
        store.runs.start(self.id, parent=parent, begins=self.start.begins)

        # An import trains on nothing: its questions only prove which weights are served.
        questions = store.questions.page(PINS) if imported else self._select()
        if not questions and not imported:
            return RunState.NOTHING, "there are no new questions to train on"

        store.runs.enter(self.id, RunState.UPDATING)
        steps = config.update.steps_over(len(questions), self.start.updates)
        base = self.client.base_model().name
        served = parent or base
        kept = checkpoint_steps(steps, config.update.snapshots)
        references = known_answers(config)
        teachers = {Teacher.CANDIDATE: None, Teacher.LIVE: served, Teacher.BASE: base}
        with (
            Candidate(self.client, scratch(config, self.id), self.id, served, kept) as candidate,
            pacer_for(self.client, config.vote, self._observe) as pacer,
            judge_for(config, store, self.client, pacer) as self.judge,
        ):
            reader = reader_for(config, self.client, pacer)
            # Before training: it remembers the version that is live now, which the candidate is
            # compared with.
            evaluation = Evaluation(
                self.client, store, config, self.id, pacer, reader, candidate.reload_if_lost
            )
            roller = Roller(
                self.client,
                config.vote,
                config.update,
                pacer,
                reader,
                references,
                verifier,
                teacher=teachers[config.vote.teacher],
                views=wordings,
                fooled=self._unreliable_kinds(),
                over=self._over,
                judge=self.judge.for_rewards(config.vote.rewards),
                judge_weight=config.judge.weight,
            )
            self.prepare(questions, steps, candidate, roller, pacer)

            if imported:
                trainer, ended = self._import_adapter(Path(imported))
            else:
                trainer, ended = self._train()
            if not candidate.steps:
                return RunState.NOTHING, self.tally.nothing(config.vote.longest)
            trusted = self.trusted_steps()
            if not trusted:
                reason = _with_remarks(self.ruling.words(), self.tally.remarks(config.vote.longest))
                if self.ruling.collapse:
                    return self._reject(reason)
                for question_id in self.trained_on:  # or the next run would be the same
                    store.questions.mark(question_id, QuestionState.LEARNED_FROM)
                return RunState.REJECTED, reason
            best = evaluation.best_step(trusted, candidate.load)  # by labels of their own
            candidate.load(best)
            try:
                pinned = trainer.logprobs(self.pins(), candidate.directory)
            except UpdateDiverged as error:
                raise UpdateDiverged(_with_remarks(str(error), ended)) from error
            del trainer, self.save
            gc.collect()  # the model is in a circle of references

            store.runs.enter(self.id, RunState.JUDGING)
            compared = self.judge.compared(evaluation.evaluate(candidate.version))
            self._observe_judge()
            drift = evaluation.drift(pinned, candidate)
            judgement, quality = self._judge_and_record(evaluation, compared, drift)
            again = self.start.words if self.start.again else ""
            judged = reader.judge.remark() if reader.judge else ""
            remarked = self.tally.remarks(config.vote.longest)
            signals = (
                roller.views.remark(),
                verifier.remark(),
                skipped_checks,
                *self.judge.remarks(),
            )
            remarks = (ended, again, remarked, evaluation.remarks(), judged, *signals)
            reason = f"{judgement.verdict}: {judgement.reason}"
            if judgement.verdict is Verdict.WORSE:
                return self._reject(_with_remarks(reason, *remarks))

            store.runs.enter(self.id, RunState.PUBLISHING)
            live_changed = not evaluation.current  # the gate has not compared with what serves now
            ships = judgement.ships(config.gate.ship) and not live_changed
            row = self._publish(AdapterState.APPROVED if ships else AdapterState.HELD, reason)
            if quality is not None:
                store.measurements.add(row.name, quality)
            store.measurements.add(row.name, drift)
            row = store.adapters.publish(row, self.trained_on, pinned, author=Author.RUN)
            state = RunState.PUBLISHED if row.state is AdapterState.APPROVED else RunState.HELD
            return state, _with_remarks(row.reason or "", *remarks)

    # Select

    def _load_verifier(self) -> tuple[Verifier, str]:
        """Load the checks but those that labels show to mislead, and say which these are."""
        checks, measured = self.config.verify.checks, self.store.measurements.newest(Reliability)
        misleading = sorted(measured.found.misleading & checks.keys()) if measured else []
        names = ", ".join(misleading)
        skipped_checks = f"checks not run because labels show that they are often wrong: {names}"
        verifier = verifiers.load(self.config.verify, without=misleading)
        return verifier, skipped_checks if misleading else ""

    def _unreliable_kinds(self) -> frozenset[AnswerKind]:
        """The kinds of questions that are not trained on by their majority."""
        measured = self.store.measurements.newest(Reliability)
        if measured is None or not self.config.vote.only_reliable:
            return frozenset()
        return measured.found.fooled

    def _select(self) -> list[StoredQuestion]:
        store = self.store
        hashes = store.runs.get(self.id).request.get("hashes")
        selected, like_a_probe = selection.select(self.config, store, self.start, hashes)
        store.questions.set_apart(like_a_probe)
        if hashes is None:
            store.questions.wait({question.id: why for question, why in selected.left_out})
            self._observe(Selection(len(selected.chosen), selected.counts, selected.grounds))
        return list(selected.chosen)

    # Train

    def prepare(
        self,
        questions: Sequence[StoredQuestion],
        steps: int,
        candidate: Candidate,
        roller: Roller,
        pacer: Pacer,
    ) -> None:
        update = self.config.update
        passes = update.passes if update.steps is None else None
        shuffled = self.config.selection.order is SelectionOrder.NEWEST
        self.rounds = Rounds(questions, seed=update.seed, passes=passes, shuffled=shuffled)
        self.steps, self.candidate, self.roller, self.pacer = steps, candidate, roller, pacer
        self._watch = Watch(roller.reader)
        self._began = self._last_report = time.monotonic()

    def _train(self) -> tuple[Trainer, str]:
        """Train, and say why that ended before all steps were done, if it did. A failure after the
        first step leaves the steps before it to be judged; an earlier one is raised."""
        self._sampling = self._start_sampling(0)  # while torch is imported and the model loaded
        try:
            return self._do_steps()
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Give up what is still sampled: nothing of it is written down any more."""
        with self._writing:
            self._over.set()

    def _do_steps(self) -> tuple[Trainer, str]:
        with process.signals_deferred():
            from ttrl.training.grpo import Trainer  # torch: here, and nowhere before

        config, parent = self.config, self.start.parent
        trainer = Trainer(
            config.model.name,
            config.state_dir / "adapters" / parent.name if parent else None,
            config.update,
            steps=self.steps,
            temperature=config.vote.temperature,
            max_tokens=config.vote.longest,
            scratch=self.candidate.scratch,
        )
        self.save = trainer.save_adapter
        reason = ""
        try:
            # It calls `next_batch` before each optimizer step, and once after the last.
            trainer.run(self.next_batch)
        except (TrainingEnded, UpdateDiverged, MemoryError) as error:
            if not self.candidate.steps and not isinstance(error, TrainingEnded):
                raise
            if isinstance(error, MemoryError):
                reason = OUT_OF_MEMORY
            else:
                reason = str(error) or "no more questions have a training signal"
        trainer.free()  # with what the error held on to
        done = max(self.candidate.steps, default=0)
        early = reason and done < self.steps
        return (
            trainer,
            f"training ended after {done} of {counted(self.steps, 'step')}: {reason}"
            if early
            else "",
        )

    def next_batch(self, step: int, numbers: Mapping[str, float]) -> Sequence[Row]:
        """Finish a step, of which the trainer logged `numbers`, and return the rows of the next.
        Raises TrainingEnded if there is to be none."""
        update = self.config.update
        if step:
            self._report(step, numbers)
            self.candidate.deploy(self.save, step)
            if reason := self._monitor() or self._limit_reached():
                raise TrainingEnded(reason)
        if step == self.steps:
            return ()

        sampling, self._sampling = self._sampling or self._start_sampling(step), None
        self._pins, self._groups = self.pins(), []
        try:
            self._groups = sampling.groups.result()
            if not step:
                self._first = [group.question for group in self._groups]
            informative = any(group.informative for group in self._groups)
            if step and not informative and not self._limit_reached():
                # It may be a collapse that the monitor has not seen enough of: what has become of
                # the questions of the first step says most.
                self._groups += self._sample_questions(self._first, self.candidate.version)
        except EngineError as error:
            if not self._seen:
                raise
            raise TrainingEnded(f"the engine stopped answering: {error}") from error
        self._staleness = sampling.staleness
        self._totals = {
            "questions": len(self.tally.questions),
            "samples": self.tally.layers.total(),
            "tokens": self.tally.tokens,
        }
        if not informative:
            if self._groups:
                self._report(len(self._seen), None)
                self._monitor()
            if self.rounds.used_up:
                asked = f"{counted(update.passes, 'time')} (update.passes)"
                raise TrainingEnded(f"each question with a training signal was sampled {asked}")
            raise TrainingEnded

        # Where too few have a training signal, others fill the step, with an advantage of zero.
        usable = sorted(
            (group for group in self._groups if group.kept), key=lambda group: not group.informative
        )
        used = [usable[place % len(usable)] for place in range(sampling.needed)]
        for group in self._groups:
            # A question that was learned from stays so when it has no signal any more.
            question = group.question
            known = question.state is QuestionState.LEARNED_FROM or question.id in self.trained_on
            if group.informative and group in used:
                # Written with the version: what a run that dies was trained on is as new as before.
                self.trained_on.add(question.id)
            elif not known and not group.informative:
                self.store.questions.mark(question.id, *group.fate)
        drawn_after = step - sampling.staleness
        batch = [list(training_rows(group, update.keep, drawn_after)) for group in used]
        if update.replay:
            self._replayable += (
                (drawn_after, rows)
                for rows, group in zip(batch, used, strict=True)
                if group.informative
            )
        if update.overlap and step + 1 < self.steps:
            self._sampling = self._start_sampling(step + 1)
        return [row for rows in [*batch, *sampling.replayed] for row in rows]

    def _start_sampling(self, step: int) -> PendingSamples:
        """Begin to sample for the step after `step`, which may still be in training, from the
        newest weights that are in the engine."""
        update = self.config.update
        while self._replayable and self._replayable[0][0] < step - REPLAYED_STEPS:
            self._replayable.popleft()
        recent = [rows for _, rows in self._replayable]
        count = int(update.replay * update.questions_per_step)
        replayed = self._random.sample(recent, min(count, len(recent)))
        needed = update.questions_per_step - len(replayed)
        groups = threads.submit(partial(self._sample_step, step, needed, self.candidate.version))
        return PendingSamples(groups, step - self.candidate.newest, needed, replayed)

    def _sample_step(self, step: int, needed: int, version: str) -> list[Group]:
        """Sample and vote until `needed` questions have a training signal and the monitor has seen
        enough labels from before training; when the run's limits are reached, one is enough."""
        groups: list[Group] = []

        def missing(newest: Sequence[Group] = ()) -> int:
            all_groups, spent = [*groups, *newest], self._limit_reached()
            count = (1 if spent else needed) - sum(group.informative for group in all_groups)
            if not step and not spent:
                labelled = sum(group.vote.label is not None for group in all_groups)
                count = max(count, min(run_monitor.LABELS - labelled, self.rounds.unasked))
            return count

        for _ in range(DRAWS_PER_STEP):
            questions = self.rounds.take(missing())
            if not questions:
                break
            groups += self._sample_questions(questions, version, missing)
        return groups

    def _sample_questions(
        self,
        questions: Sequence[StoredQuestion],
        version: str,
        missing: Callable[[Sequence[Group]], int] = lambda _: 0,
    ) -> list[Group]:
        """Sample the questions from a version, vote, and write that down. As soon as a vote shows
        that more are `missing`, they are sampled as well. Questions that the engine does not answer
        come again in a later draw; those that are at fault are kept back. Raises the engine's error
        when it is gone, and PacerClosed when the run is over."""
        self._draws.count += 1
        refused: list[tuple[int, Exception]] = []
        failures: list[tuple[int, Exception]] = []
        groups: list[Group] = []
        asked, queue = list(questions), deque(questions)
        # Each is sampled, voted on, rewarded, and its samples are chosen (ttrl/sampling/groups.py).
        for group in self.roller.each(
            queue,
            version=version,
            draw=self._draws.count,
            refused=lambda question, error: refused.append((question.id, error)),
            failed=lambda question, error: failures.append((question.id, error)),
        ):
            with self._written():
                try:
                    self.store.votes.add([rows(group, run_id=self.id, step=self._draws.count)])
                except Exception as error:
                    if is_outage(error):
                        raise
                    failures.append((group.question.id, error))
                    continue
                groups.append(group)
                self.tally.add(group)
                if group.settled:
                    self.rounds.drop(group.question.id)
                under_way = len(asked) - len(groups) - len(failures) - len(refused)
                if len(asked) < DRAWS_PER_STEP * len(questions):
                    more = self.rounds.take(missing(groups) - under_way)
                    asked += more
                    queue += more
        by_id = {question.id: question for question in asked}
        places = {key: place for place, key in enumerate(by_id)}
        groups.sort(key=lambda group: places[group.question.id])  # not the fastest ones first
        lost = [fault for _, fault in failures if isinstance(fault, EngineError)]
        blame = self._draws.blame(
            failures,
            voted=len(groups),
            labelled=any(group.vote.label is not None for group in groups),
            answers=partial(self._serves, version),
        )
        with self._written():
            marks = [(key, QuestionState.REFUSED, fault) for key, fault in refused]
            marks += [(key, QuestionState.FAILED, fault) for key, fault in blame.kept_back]
            for key, state, fault in marks:
                log.warning(
                    "question %d is left out from now on (%s): %s", key, state, kind_of(fault)
                )
                self.rounds.drop(key)
                self.store.questions.mark(key, state, kind_of(fault))
            for key in blame.again:
                self.rounds.give_back(by_id[key])
            if lost:
                self.tally.unanswered += len(lost)
                self._observe(Unanswered(len(lost)))
                log.warning(
                    "left %s out of this step: %s", counted(len(lost), "question"), lost[-1]
                )
        if blame.fault is not None:
            raise blame.fault
        if any(isinstance(error, EngineRefused) and error.status == NOT_FOUND for error in lost):
            try:
                for each in self._sampled(version):
                    self.candidate.reload_if_lost(each)
            except EngineError as error:
                log.warning("the candidate could not be loaded into the engine again: %s", error)
        return groups

    @contextmanager
    def _written(self) -> Iterator[None]:
        """Let the block write to the store, unless the run is over: PacerClosed."""
        with self._writing:
            if self._over.is_set():
                raise PacerClosed
            yield

    def _sampled(self, version: str) -> set[str]:
        """The versions whose samples a step needs: a teacher's as well, if there is one."""
        return {version, self.roller.teacher or version}

    def _serves(self, version: str) -> bool:
        """Return whether the engine answers a plain prompt, so that what it does not answer is at
        fault itself."""
        try:
            for each in self._sampled(version):
                self.client.prompt_logprobs([1], model=each)
        except EngineError:
            return False
        return True

    def _report(self, steps: int, numbers: Mapping[str, float] | None) -> None:
        """Write down what the newest samples showed; `numbers` are the trainer's of the step that
        was done with them, None if none was."""
        now = time.monotonic()
        signs = self._watch.read(steps, self._groups, numbers or {}, self._staleness)
        self._seen.append(signs)
        self.store.runs.note(self.id, steps=steps, **self._totals)
        paced = self.pacer.take()
        layers = Counter(layer for group in self._groups for layer in group.vote.layers)
        draw = Draw(
            **vars(signs),
            steps=self.steps,
            seconds=now - self._last_report,
            layers=dict(layers),
            step_saved=len(self._groups) * self.config.vote.samples - layers.total(),
            step_tokens=sum(group.tokens for group in self._groups),
            outcomes=dict(Counter(group.vote.outcome for group in self._groups)),
            shares=tuple(round(group.vote.share, 3) for group in self._groups),
            contradicted=sum(group.contradicted for group in self._groups),
            in_flight_limit=paced.mean_limit,
            paused_seconds=paced.paused_seconds,
        )
        if numbers is None:
            self._observe(draw)
        else:
            self._observe(Step(**vars(draw), grad_norm=numbers.get("grad_norm")))
        self._observe_judge()
        self._last_report = now

    def _observe_judge(self) -> None:
        if spent := self.judge.spent():
            self._observe(spent)

    def _observe(self, event: Event) -> None:
        events.observe(self.store, self.id, event)

    def _monitor(self) -> str:
        self.ruling = run_monitor.judge(self._seen, self.config.guard)
        if not self.ruling.stops:
            return ""
        self._observe(self.ruling)
        return self.ruling.words()

    def _limit_reached(self) -> str:
        limits = self.config.update
        if self.tally.tokens >= limits.max_tokens:
            return "update.max_tokens was reached"
        if time.monotonic() - self._began >= limits.time_limit.total_seconds():
            return "update.time_limit was reached"
        return ""

    def _import_adapter(self, source: Path) -> tuple[Imported, str]:
        """Have an adapter from elsewhere as the candidate, in the place of training. What does not
        fit the base model never reaches the engine."""
        with process.signals_deferred():
            from ttrl.training.lora import Imported

        config, weights = self.config, []
        versions.read_foreign(source, config.model.name)

        def save(directory: Path) -> None:
            versions.copy(source, directory)
            weights.append(Imported(config.model.name, directory, config.update.dtype))

        self.save = save
        self.candidate.deploy(save, 1)
        self.ruling = Ruling(Action.GO_ON, trusted=1)
        pins = []
        for row in self.rounds.take(PINS):
            with suppress(EngineRefused):
                drawn = self.client.sample(
                    row.question,
                    model=self.candidate.version,
                    n=1,
                    sampling=Regime({"max_tokens": PIN_ANSWER_TOKENS}),
                    priority=PRIORITY,
                )
                pins.append(_pin(row.id, drawn, 0))
        self._pins = pins
        return weights[0], "imported, not trained here"

    # Evaluate, gate, publish

    def trusted_steps(self) -> list[int]:
        return [step for step in self.candidate.steps if step <= self.ruling.trusted]

    def pins(self) -> Sequence[Pin]:
        """Return sequences that prove the weights wherever they are loaded: of the newest step that
        had any, where the weights must differ most."""
        pins = []
        for group in self._groups:
            if group.kept:
                pins.append(_pin(group.question.id, group.drawn, group.kept[0]))
        return pins[-PINS:] or self._pins

    def _judge_and_record(
        self, evaluation: Evaluation, compared: Sequence[Compared], drift: Drift
    ) -> tuple[Judgement, Quality | None]:
        """Have the gate judge, and write down what it found; but for the candidate's quality, which
        has no name yet and is returned."""
        store, settings = self.store, self.config.gate
        probes = [each.probe for each in compared]
        threshold = threshold_at(time.time(), store.runs.labelled_gates(), settings)
        looked = staleness_of(store, (each.item for each in compared))
        doubt = self.judge.doubt(self.config.vote.rewards)
        judgement = gate.judge(probes, settings, threshold, drift, looked, judge_doubt=doubt)
        store.runs.add_verdict(self.id, self.candidate.version, evaluation.live, judgement)
        self._observe(replace(judgement, worst=()))
        if judgement.verdict is not Verdict.WORSE:  # nobody needs to judge what is thrown away
            store.comparisons.add(self.id, to_label(store, settings, self.id, compared))
        base, live, candidate = evaluation.qualities(compared, looked)
        for version, quality in {None: base, evaluation.parent: live}.items():
            if quality is not None:
                store.measurements.add(version, quality)
        return judgement, candidate

    def _reject(self, reason: str) -> End:
        """Keep what made a version worse from being trained on again."""
        reason_each = f"run {self.id} trained on it and was rejected"
        self.store.adapters.quarantine(self.trained_on, reason_each)
        return RunState.REJECTED, reason

    def _publish(self, state: AdapterState, reason: str) -> AdapterRow:
        """Put the candidate's weights in their final place, and return the row without which
        nothing serves them."""
        config, store, source = self.config, self.store, self.candidate.directory
        parent, base = self.start.parent, identify(config.model.name)
        lineage = parent.lineage if parent else secrets.token_hex(3)
        number, digest = store.adapters.next_number(lineage), versions.digest_of(source)
        saved = json.loads((source / versions.CONFIG).read_text())
        targets = saved["target_modules"]
        manifest = Manifest(
            name=versions.version_name(lineage, number, digest),
            lineage=lineage,
            number=number,
            digest=digest,
            base_model=base.name,
            parent=parent.name if parent else None,
            run_id=self.id,
            rank=saved["r"],
            target_modules=tuple(sorted([targets] if isinstance(targets, str) else targets)),
            created=time.time(),
            modules=None if self.start is IMPORTED else config.update.modules,
            weights=base.weights,
            text=base.text,
        )
        store.runs.note(self.id, adapter=manifest.name)
        versions.publish(source, config.state_dir / "adapters", manifest)
        shared = vars(manifest).keys() & AdapterRow.__annotations__.keys()
        known = {name: getattr(manifest, name) for name in shared}
        return AdapterRow(**known, state=state, reason=reason)


VOTE_OUTCOMES: Mapping[VoteOutcome, str] = {
    VoteOutcome.LABEL: "had equal rewards for all kept samples",
    VoteOutcome.TIE: "tied",
    VoteOutcome.UNREADABLE: "had no readable answer",
    VoteOutcome.TOO_FEW_READABLE: "had too few readable answers",
    VoteOutcome.BELOW_FLOOR: "had too small a majority (vote.floor)",
    VoteOutcome.ABOVE_CEILING: "had too large a majority (vote.ceiling)",
    VoteOutcome.REFUTED: "had only answers that checks found wrong",
    VoteOutcome.UNRELIABLE: "were of a kind that labels show to be misjudged (vote.only_reliable)",
}
"""Votes that taught nothing, by why."""


@dataclass
class Tally:
    """What a run's votes came to; `questions` are ids."""

    votes: int = 0
    tokens: int = 0
    unanswered: int = 0
    layers: Counter[Layer] = field(default_factory=Counter)
    """Its samples, by how they were read."""
    questions: set[int] = field(default_factory=set)
    contradicted: set[int] = field(default_factory=set)
    uninformative: Counter[VoteOutcome] = field(default_factory=Counter)

    def add(self, group: Group) -> None:
        self.votes += 1
        self.layers.update(group.vote.layers)
        self.tokens += group.tokens
        self.questions.add(group.question.id)
        if group.contradicted:
            self.contradicted.add(group.question.id)
        if not group.informative:
            self.uninformative[group.vote.outcome] += 1

    def remarks(self, max_tokens: int) -> str:
        lost = f"{counted(self.unanswered, 'sampling request')} got no answer from the engine"
        questions = counted(len(self.contradicted), "question")
        first = ", ".join(map(str, sorted(self.contradicted)[:CONTRADICTED_NAMED]))
        contradicted = (
            f"other signals contradicted the majority answer of {questions} ({first}); "
            f"see them with `ttrl questions show ID`, and label such ones first"
        )
        remarks = (
            cut_off(self.layers, max_tokens),
            lost if self.unanswered else "",
            contradicted if self.contradicted else "",
        )
        return "; ".join(filter(None, remarks))

    def nothing(self, max_tokens: int) -> str:
        reasons = self.uninformative.most_common()
        votes = ", ".join(f"{count} {VOTE_OUTCOMES[why]}" for why, count in reasons)
        seen = f"of {counted(self.votes, 'vote')}, {votes}" if votes else ""
        remarks = ("no question had a training signal", seen, self.remarks(max_tokens))
        return "; ".join(filter(None, remarks))


@dataclass(frozen=True)
class Blame:
    """Ids of questions that were asked in vain."""

    again: Sequence[int] = ()
    """To be asked once more."""
    kept_back: Sequence[tuple[int, Exception]] = ()
    """At fault themselves."""
    fault: Exception | None = None
    """What ends the run."""


class Draws:
    """What the draws of a run have shown: whose fault it is that a question has no vote, the
    engine's, the run's or its own."""

    def __init__(self) -> None:
        self.count = 0
        self._vain = 0
        """Draws in a row in which the engine answered nothing."""
        self._failures: Counter[int] = Counter()
        """How often a question was not answered by an engine that answers others."""

    def blame(
        self,
        failures: Sequence[tuple[int, Exception]],
        *,
        voted: int,
        labelled: bool,
        answers: Callable[[], bool],
    ) -> Blame:
        """Of one draw: its failures with the questions' ids, the number of its other questions,
        whether one of these got a label, and whether the engine answers something else now, which
        is asked only if it matters."""
        lost = [fault for _, fault in failures if isinstance(fault, EngineError)]
        self._vain = self._vain + 1 if lost and not voted else 0
        silent = self._vain >= FAILED_DRAWS
        # A reward is asked only about what has a label.
        rewards_alone = all(isinstance(fault, RewardFailed) for _, fault in failures)
        if len(failures) > 1 and not lost and (not voted or (rewards_alone and not labelled)):
            # One is kept back, so that no set of questions ends every run.
            return Blame(kept_back=failures[:1], fault=failures[0][1])
        well = bool(voted) or (bool(lost) and answers())
        gone = silent and not well
        again, kept_back = list[int](), list[tuple[int, Exception]]()
        for key, fault in failures:
            # An engine that was started anew lacks the version: that is no fault of what is asked.
            lacking = isinstance(fault, EngineRefused) and fault.status == NOT_FOUND
            self._failures[key] += well and not lacking
            worn = silent or self._failures[key] >= FAILURES
            if isinstance(fault, EngineError) and (gone or not worn):
                again.append(key)
            else:
                kept_back.append((key, fault))
        return Blame(again, kept_back, lost[-1] if gone else None)


def kind_of(fault: Exception) -> str:
    """In a word or two: an exception's own words may quote the question."""
    return f"status {fault.status}" if isinstance(fault, EngineRefused) else type(fault).__name__


def training_rows(group: Group, count: int, drawn_after: int | None = None) -> Iterator[Row]:
    """Yield a group's kept samples as rows of the update, repeated until they are `count`."""
    assert count % len(group.kept) == 0
    for position in group.kept * (count // len(group.kept)):
        sample = group.drawn.samples[position]
        yield Row(
            prompt_ids=group.drawn.prompt_ids,
            completion_ids=sample.token_ids,
            logprobs=sample.logprobs,
            reward=group.rewards[position],
            drawn_after=drawn_after,
            scale=group.scale,
            penalty=group.penalty,
        )


def _pin(question_id: int, drawn: SampleSet, position: int) -> Pin:
    prompt = drawn.prompt_ids[-PIN_PROMPT_TOKENS:]
    answer = drawn.samples[position].token_ids[:PIN_ANSWER_TOKENS]
    return Pin(question_id, prompt + answer, len(prompt))


def _with_remarks(reason: str, *remarks: str) -> str:
    return " ".join([reason, *(f"({remark})" for remark in remarks if remark)])


# However it ends


def scratch(config: Config, run_id: int) -> Path:
    return config.state_dir / "runs" / str(run_id)


def end(config: Config, store: Store, run_id: int, state: RunState, reason: str) -> None:
    """End a run, once, and clean up after it; may be called again. One that failed or was stopped
    after it had published counts as published."""
    intended = store.runs.get(run_id).adapter
    row = store.adapters.find(intended) if intended else None
    if row is not None and state in (RunState.FAILED, RunState.ABORTED):
        state = RunState.HELD if row.state is AdapterState.HELD else RunState.PUBLISHED
        reason = row.reason or ""
    shutil.rmtree(scratch(config, run_id), ignore_errors=True)
    if intended and row is None:  # no row knows its files
        versions.discard(config.state_dir / "adapters", intended)
    store.runs.end(run_id, state, reason, adapter=row.name if row else None)


def sweep(config: Config, store: Store) -> None:
    """Clean up after ended runs, when none is in progress."""
    for folder in (config.state_dir / "runs").glob("*"):
        shutil.rmtree(folder, ignore_errors=True)
    for run in store.runs.newest(RUNS_SWEPT):
        if run.adapter is not None and store.adapters.find(run.adapter) is None:
            versions.discard(config.state_dir / "adapters", run.adapter)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m jobs.run")
    parser.add_argument("--run", type=int, required=True)
    parser.add_argument("--engine-url", required=True)
    arguments = parser.parse_args()
    config = process.configure(arguments.run)
    process.raise_on_signals()
    os.nice(NICE)
    client = process.engine_client(config, arguments.engine_url)
    with Store.open(config.state_dir, config.store.url, STORE_PATIENCE_SECONDS) as store, client:
        over = threading.Event()
        beating = (store, arguments.run, over)
        threading.Thread(target=_heartbeat, args=beating, daemon=True).start()
        state = execute(config, store, client, arguments.run)
        over.set()
    log.info("run %d ended: %s", arguments.run, state)
    return 0


def _heartbeat(store: Store, run_id: int, over: threading.Event) -> None:
    """Show that the run lives; stop it when somebody else has ended it in the store."""
    ours = True
    while ours and not over.is_set():
        try:
            ours = store.runs.beat(run_id)
        except OUTAGE as error:
            log.warning("the store cannot be written: %s", cause(error))
        over.wait(HEARTBEAT_SECONDS)
    if not over.is_set():  # it may just have ended by itself
        os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
