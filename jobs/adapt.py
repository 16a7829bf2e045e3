"""One pass of adaptation: select, sample, vote, update, judge, publish.

Runs as a process of its own, `python -m jobs.adapt`, with the configuration on standard input: its
death leaves the daemon serving.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from jobs import interruption, outset, probe, publication, quality, reading, remains
from jobs.candidate import Candidate, snapshot_steps
from jobs.interruption import Stopped
from jobs.lesson import Distrusted, Lesson
from jobs.probe import Examination
from jobs.reading import MeaningRefused
from ttrl import adapters, gate, logs
from ttrl.config import Config
from ttrl.drift import Drift
from ttrl.engine.client import EngineClient, EngineError
from ttrl.evidence import spent
from ttrl.faults import Point, reached
from ttrl.gate import Judgement, Verdict
from ttrl.lineage import Descent
from ttrl.memory.check import MemoryRefused, fit_to_card
from ttrl.paired import Answered, Probe
from ttrl.policy import NothingLeft, SettingRefused, Updated, UpdateDiverged
from ttrl.quality import Quality
from ttrl.references import ReferencesUnreadable
from ttrl.rewards import RewardFailed
from ttrl.rollouts import Roller, pacer_for
from ttrl.store import Store, StoreError
from ttrl.store.adapters import AdapterState, Author, Forgotten
from ttrl.store.measurements import Kind
from ttrl.store.outage import OUTAGE, cause
from ttrl.store.questions import StoredQuestion
from ttrl.store.runs import RunState

log = logging.getLogger(__name__)

BEAT_SECONDS = 5.0
PATIENCE_SECONDS = 60.0
"""Nobody waits for a run: it need not fail because another holds the store for a while."""
FORESEEN = (
    EngineError,
    adapters.AdapterDamaged,
    SettingRefused,
    UpdateDiverged,
    MemoryRefused,
    MeaningRefused,
    ReferencesUnreadable,
    RewardFailed,
    Forgotten,
)
"""Failures whose own words are the run's reason; none of them quotes a user or a model."""


End = tuple[RunState, str]
"""How a run ended, and why."""


def run(config: Config, store: Store, client: EngineClient, run_id: int) -> RunState:
    """Take the queued run through to its end, and say how it ended. Every failure is an end with
    a reason in the store; only what nobody foresaw is raised as well."""
    state, reason = RunState.FAILED, ""
    try:
        state, reason = _adapt(config, store, client, run_id)
    except Stopped as stopped:
        state, reason = RunState.ABORTED, str(stopped)
    except FORESEEN as error:
        reason = str(error)
    except MemoryError:
        reason = "out of memory; a smaller update.micro_batch or update.keep needs less"
    except (DBAPIError, PoolTimeout, StoreError) as error:
        reason = f"the store could not be used: {cause(error)}"
    except OSError as error:
        reason = f"{error.strerror or error} ({error.filename})"
    except BaseException as error:
        reason = f"an unforeseen fault, {type(error).__name__}; the run's log has it"
        raise
    finally:
        remains.end(config, store, run_id, state, reason)
        reached(Point.ENDED)
    return state


def _adapt(config: Config, store: Store, client: EngineClient, run_id: int) -> End:
    if config.engine.url is not None:  # our own was reckoned with before it was started
        fit_to_card(config)
    descent = outset.descent(config, store)
    parent = descent.parent.name if descent.parent else None
    store.runs.start(run_id, parent=parent, begins=descent.begins)
    reached(Point.CLAIMED)
    questions = _select(config, store, run_id, descent)
    reached(Point.SELECTED)
    if not questions:
        return RunState.NOTHING, "there are no new questions to learn from"
    store.runs.enter(run_id, RunState.UPDATING)
    reader, known = reading.reader(config), reading.references(config)
    start, scratch = parent or client.base_model().name, remains.scratch(config, run_id)
    keep = snapshot_steps(config.update.steps, config.update.snapshots)
    tell = partial(store.runs.observe, run_id)
    with (
        Candidate(client, scratch, run_id, start, keep) as candidate,
        pacer_for(client, config.vote, tell) as pacer,
    ):
        examination = Examination(client, store, config, run_id, pacer, reader)
        roller = Roller(client, config.vote, config.update, pacer, reader, known)
        lesson = Lesson(
            config, store, roller, run_id, questions, candidate, pacer, examination.choose
        )
        try:
            updated = _update(config, lesson, parent, run_id)
        except Distrusted as error:
            return _reject(store, run_id, lesson, str(error))
        if not updated.steps:
            return RunState.NOTHING, "no question left a majority that could teach anything"
        return _conclude(config, store, run_id, descent, examination, lesson, candidate, updated)


def _conclude(
    config: Config,
    store: Store,
    run_id: int,
    descent: Descent,
    examination: Examination,
    lesson: Lesson,
    candidate: Candidate,
    updated: Updated,
) -> End:
    """Judge what came out, and publish it unless the gate says no."""
    steps = f"{updated.steps} of {config.update.steps} steps"
    early = f" (after {steps}: {updated.ended})" if updated.ended else ""
    early += f" ({descent.words})" if descent.again else ""
    store.runs.enter(run_id, RunState.JUDGING)
    judged = _judge(config, store, run_id, examination, candidate, updated)
    reached(Point.JUDGED)
    judgement = judged.judgement
    reason = f"{judgement.verdict}: {judgement.reason}"
    if judgement.verdict is Verdict.WORSE:
        return _reject(store, run_id, lesson, f"{reason}{early}")
    store.runs.enter(run_id, RunState.PUBLISHING)
    ships = judgement.ships(config.gate.ship) and examination.current
    state = AdapterState.APPROVED if ships else AdapterState.HELD
    row = publication.publish(config, store, run_id, descent, candidate.directory, state, reason)
    _note(store, row.name, judged.candidate)
    store.measurements.add(Kind.POLICY, row.name, asdict(judged.drift))
    row = store.adapters.publish(row, lesson.learned_from, updated.pinned, author=Author.RUN)
    ended = RunState.PUBLISHED if row.state is AdapterState.APPROVED else RunState.HELD
    return ended, f"{row.reason}{early}"


def _reject(store: Store, run_id: int, lesson: Lesson, reason: str) -> End:
    """Nothing is to learn again by itself from what made a version worse."""
    store.adapters.quarantine(lesson.learned_from, f"run {run_id} learned from it, for the worse")
    return RunState.REJECTED, reason


def _select(config: Config, store: Store, run_id: int, descent: Descent) -> list[StoredQuestion]:
    """The questions of the request, or recorded ones; none that is like a probe."""
    hashes, apart = store.runs.get(run_id).request.get("hashes"), probe.apart(store)
    if hashes is not None:
        found = store.questions.named(hashes)
    else:
        found = outset.candidates(config, store, descent)
    like = {row.id for row in found if apart.like(row.question)}
    store.questions.guard(sorted(like))
    free = [row for row in found if row.id not in like]
    if hashes is not None:
        return free
    selected = outset.select(config, store, free)
    outset.tell(store, run_id, selected)
    return list(selected.chosen)


def _update(config: Config, lesson: Lesson, parent: str | None, run_id: int) -> Updated:
    """Train; torch is imported here, in the run's own process, and nowhere before."""
    with interruption.put_off():
        import torch

        from ttrl import grpo

    directory = config.state_dir / "adapters" / parent if parent else None
    try:
        return grpo.update(
            lesson,
            base_model=config.model.name,
            parent=directory,
            settings=config.update,
            temperature=config.vote.temperature,
            max_tokens=config.vote.max_tokens,
            scratch=remains.scratch(config, run_id),
        )
    except NothingLeft:
        return Updated(0, ())
    except torch.OutOfMemoryError as error:
        raise MemoryError from error


@dataclass(frozen=True)
class Judged:
    """What the gate said of the candidate, and how good and how far from others it is."""

    judgement: Judgement
    candidate: Quality | None
    drift: Drift


def _judge(
    config: Config,
    store: Store,
    run_id: int,
    examination: Examination,
    candidate: Candidate,
    updated: Updated,
) -> Judged:
    examined = examination.judge(candidate.version)
    probes = [each.probe for each in examined]
    budget = spent(store.runs.labelled_gates(), time.time())
    drift, looked = examination.drift(updated.pinned, candidate), examination.staleness()
    judgement = gate.judge(probes, config.gate, budget, drift, looked)
    store.runs.add_verdict(
        {
            "run_id": run_id,
            "adapter": candidate.version,
            "against": examination.live,
            "verdict": judgement.verdict,
            "evidence": judgement.numbers(),
        }
    )
    store.runs.observe(run_id, "verdict", _counted(probes, judgement))
    if judgement.verdict is not Verdict.WORSE:  # of what is thrown away nobody needs to be asked
        store.comparisons.add(run_id, probe.to_label(store, config.gate, run_id, examined))

    def good(arm: Callable[[Probe], Answered]) -> Quality | None:
        pairs = ((each.asked, arm(each.probe)) for each in examined)
        return quality.measure(pairs, looked, config.gate)

    _note(store, None, good(lambda each: each.base))
    if examination.parent is not None:
        _note(store, examination.parent, good(lambda each: each.live))
    return Judged(judgement, good(lambda each: each.candidate), drift)


def _note(store: Store, version: str | None, found: Quality | None) -> None:
    if found is not None:
        store.measurements.add(Kind.QUALITY, version, found.numbers())


def _counted(probes: Sequence[Probe], judgement: Judgement) -> dict[str, Any]:
    """What the metrics need of a verdict: no question and no answer is in it."""
    labelled = sum(each.labelled for each in probes)
    numbers = judgement.numbers()
    return {
        "verdict": judgement.verdict,
        "labelled": labelled,
        "held_out": len(probes) - labelled,
        "checks": [
            {key: check[key] for key in ("rule", "outcome", "tag", "compared")}
            for check in numbers["checks"]
        ],
        "certainty": numbers["certainty"],
    }


def main() -> int:
    """The process: arguments say where, standard input says how."""
    arguments = _parser().parse_args()
    config = Config.model_validate_json(sys.stdin.read())
    logs.configure(config.log_level, config.log_format, run=arguments.run)
    interruption.hear()
    client = EngineClient(
        arguments.engine_url,
        api_key=config.engine.api_key,
        timeout=config.engine.request_timeout.total_seconds(),
    )
    with Store.open(config.state_dir, config.store.url, PATIENCE_SECONDS) as store, client:
        over = threading.Event()
        threading.Thread(
            target=_keep_beating, args=(store, arguments.run, over), daemon=True
        ).start()
        state = run(config, store, client, arguments.run)
        over.set()
    log.info("run %d ended: %s", arguments.run, state)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m jobs.adapt")
    parser.add_argument("--run", type=int, required=True)
    parser.add_argument("--engine-url", required=True)
    return parser


def _keep_beating(store: Store, run_id: int, over: threading.Event) -> None:
    """Show that the run lives; stop it when somebody else has ended it in the store."""
    while _beats(store, run_id):
        over.wait(BEAT_SECONDS)
    if not over.wait(BEAT_SECONDS):  # it may just be ending by itself
        os.kill(os.getpid(), signal.SIGTERM)


def _beats(store: Store, run_id: int) -> bool:
    try:
        return store.runs.beat(run_id)
    except OUTAGE as error:
        log.warning("the store cannot be written: %s", cause(error))
        return True


if __name__ == "__main__":
    sys.exit(main())
