"""One pass of adaptation: select, sample, vote, update, judge, publish.

Runs as a process of its own, `python -m jobs.adapt`, with the configuration on standard input: its
death leaves the daemon serving.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import secrets
import shutil
import signal
import sys
import threading
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import FrameType

from jobs import outset, probe
from jobs.candidate import Candidate, snapshot_steps
from jobs.lesson import Distrusted, Lesson
from jobs.probe import Examination
from ttrl import adapters, gate
from ttrl.adapters import Manifest
from ttrl.base import identify
from ttrl.config import Config
from ttrl.drift import Drift, measure
from ttrl.engine.client import EngineClient, EngineError
from ttrl.evidence import spent
from ttrl.gate import Judgement
from ttrl.lineage import Descent
from ttrl.memory.check import MemoryRefused, fit_to_card
from ttrl.policy import NothingLeft, SettingRefused, Updated, UpdateDiverged
from ttrl.rollouts import pacer_for
from ttrl.selection import Selection
from ttrl.store import Store
from ttrl.store.adapters import AdapterRow, AdapterState
from ttrl.store.questions import StoredQuestion
from ttrl.store.runs import RunState

log = logging.getLogger(__name__)

BEAT_SECONDS = 5.0
WHY_STOPPED = {
    signal.SIGINT: "it was stopped",
    signal.SIGTERM: "its process was ended, as when the one that owned it died",
}
"""The daemon stops a run with SIGINT; the kernel sends SIGTERM when the daemon is gone."""
FORESEEN = (
    EngineError,
    adapters.AdapterDamaged,
    SettingRefused,
    UpdateDiverged,
    MemoryRefused,
)
"""Failures whose own words are the run's reason; none of them quotes a user or a model."""


class Stopped(Exception):
    """Somebody asked the run to stop."""


def run(config: Config, store: Store, client: EngineClient, run_id: int) -> RunState:
    """Take the queued run through to its end, and say how it ended. Every failure is an end with
    a reason in the store; only what nobody foresaw is raised as well."""
    state, reason, adapter = RunState.FAILED, "", None
    try:
        state, reason, adapter = _adapt(config, store, client, run_id)
    except Stopped as stopped:
        state, reason = RunState.ABORTED, str(stopped)
    except Distrusted as error:
        state, reason = RunState.REJECTED, str(error)
    except FORESEEN as error:
        reason = str(error)
    except MemoryError:
        reason = "out of memory; a smaller update.micro_batch or update.keep needs less"
    except OSError as error:
        reason = f"{error.strerror or error} ({error.filename})"
    except BaseException as error:
        reason = f"an unforeseen fault, {type(error).__name__}; the run's log has it"
        raise
    finally:
        store.runs.end(run_id, state, reason, adapter=adapter)
        shutil.rmtree(_scratch(config, run_id), ignore_errors=True)
    return state


def _adapt(
    config: Config, store: Store, client: EngineClient, run_id: int
) -> tuple[RunState, str, str | None]:
    if config.engine.url is not None:  # our own was reckoned with before it was started
        fit_to_card(config)
    descent = outset.descent(config, store)
    parent = descent.parent
    store.runs.start(run_id, parent=parent.name if parent else None, begins=descent.begins)
    questions = _select(config, store, run_id, descent)
    if not questions:
        return RunState.NOTHING, "there are no new questions to learn from", None
    store.runs.enter(run_id, RunState.UPDATING)
    base = client.base_model().name
    start, scratch = parent.name if parent else base, _scratch(config, run_id)
    keep = snapshot_steps(config.update.steps, config.update.snapshots)
    tell = partial(store.runs.observe, run_id)
    with (
        Candidate(client, scratch, run_id, start, keep) as candidate,
        pacer_for(client, config.vote, tell) as pacer,
    ):
        examination = Examination(client, store, config, run_id, pacer)
        lesson = Lesson(
            config, store, client, run_id, questions, candidate, pacer, examination.choose
        )
        updated = _update(config, lesson, parent, run_id)
        if not updated.steps:
            return RunState.NOTHING, "no question left a majority that could teach anything", None
        steps = f"{updated.steps} of {config.update.steps} steps"
        early = f" (after {steps}: {updated.ended})" if updated.ended else ""
        early += f" ({descent.words})" if descent.again else ""
        store.runs.enter(run_id, RunState.JUDGING)
        live = store.adapters.serving().adapter or base
        drift = measure(updated.pinned)
        judgement = _judge(config, store, run_id, examination, live, candidate.version, drift)
        if judgement.verdict in (gate.Verdict.WORSE, gate.Verdict.UNPROVEN):
            return RunState.REJECTED, f"{judgement.verdict}: {judgement.reason}{early}", None
        store.runs.enter(run_id, RunState.PUBLISHING)
        row = _publish(config, store, run_id, parent, candidate.directory, judgement)
        row = store.adapters.publish(row, lesson.learned_from, updated.pinned, author="run")
    ships = row.state is AdapterState.APPROVED
    return RunState.PUBLISHED if ships else RunState.HELD, f"{row.reason}{early}", row.name


def _select(
    config: Config, store: Store, run_id: int, descent: Descent
) -> Sequence[StoredQuestion]:
    """The questions of the request, or recorded ones. Those that are like a probe are marked, and
    others take their places."""
    hashes, apart = store.runs.get(run_id).request.get("hashes"), probe.apart(store)
    while True:
        if hashes is not None:
            selected = Selection(tuple(store.questions.named(hashes)), ())
        else:
            selected = outset.selection(config, store, descent)
        like = [row.id for row in selected.chosen if apart.like(row.question)]
        if not like:
            break
        store.questions.guard(like)
    if hashes is None:
        outset.tell(store, run_id, selected)
    return selected.chosen


def _update(config: Config, lesson: Lesson, parent: Manifest | None, run_id: int) -> Updated:
    """Train; torch is imported here, in the run's own process, and nowhere before."""
    import torch

    from ttrl import grpo

    directory = config.state_dir / "adapters" / parent.name if parent else None
    try:
        return grpo.update(
            lesson,
            base_model=config.model.name,
            parent=directory,
            settings=config.update,
            temperature=config.vote.temperature,
            max_tokens=config.vote.max_tokens,
            scratch=_scratch(config, run_id),
        )
    except NothingLeft:
        return Updated(0, ())
    except torch.OutOfMemoryError as error:
        raise MemoryError from error


def _judge(
    config: Config,
    store: Store,
    run_id: int,
    examination: Examination,
    live: str,
    candidate: str,
    drift: Drift,
) -> Judgement:
    examined = examination.judge(live=live, candidate=candidate)
    probes = [each.probe for each in examined]
    past = [(at, said == gate.Verdict.BETTER) for at, said in store.runs.labelled_gates()]
    budget = spent(past, time.time())
    judgement = gate.judge(probes, config.gate, budget, drift, examination.staleness())
    store.runs.add_verdict(
        {
            "run_id": run_id,
            "adapter": candidate,
            "against": live,
            "verdict": judgement.verdict,
            "evidence": judgement.numbers(),
        }
    )
    store.comparisons.add(run_id, probe.to_label(store, config.gate, run_id, examined))
    return judgement


def _publish(
    config: Config,
    store: Store,
    run_id: int,
    parent: Manifest | None,
    source: Path,
    judgement: Judgement,
) -> AdapterRow:
    """Put the candidate's weights in their final place, and say what they are."""
    lineage = parent.lineage if parent else secrets.token_hex(3)
    base = identify(config.model.name)
    number, digest = store.adapters.next_number(lineage), adapters.digest_of(source)
    manifest = Manifest(
        name=adapters.version_name(lineage, number, digest),
        lineage=lineage,
        number=number,
        digest=digest,
        base_model=base.name,
        parent=parent.name if parent else None,
        run_id=run_id,
        rank=config.update.lora_rank,
        target_modules=_target_modules(source),
        created=time.time(),
        modules=config.update.modules,
        weights=base.weights,
        text=base.text,
    )
    adapters.publish(source, config.state_dir / "adapters", manifest)
    ships = judgement.ships(config.gate.ship)
    return AdapterRow(
        name=manifest.name,
        lineage=lineage,
        number=number,
        digest=digest,
        parent=manifest.parent,
        base_model=manifest.base_model,
        run_id=run_id,
        rank=manifest.rank,
        state=AdapterState.APPROVED if ships else AdapterState.HELD,
        reason=f"{judgement.verdict}: {judgement.reason}",
        created=manifest.created,
    )


def _target_modules(source: Path) -> tuple[str, ...]:
    targets = json.loads((source / adapters.CONFIG).read_text())["target_modules"]
    return tuple(sorted([targets] if isinstance(targets, str) else targets))


def _scratch(config: Config, run_id: int) -> Path:
    return config.state_dir / "runs" / str(run_id)


def main() -> int:
    """The process: arguments say where, standard input says how."""
    arguments = _parser().parse_args()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    config = Config.model_validate_json(sys.stdin.read())
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, _stop)
    client = EngineClient(
        arguments.engine_url,
        api_key=config.engine.api_key,
        timeout=config.engine.request_timeout.total_seconds(),
    )
    with Store.open(config.state_dir, config.store.url) as store, client:
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


def _stop(number: int, _frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the end is already on its way
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise Stopped(WHY_STOPPED[signal.Signals(number)])


def _keep_beating(store: Store, run_id: int, over: threading.Event) -> None:
    """Show that the run lives; stop it when somebody else has ended it in the store."""
    while store.runs.beat(run_id):
        over.wait(BEAT_SECONDS)
    if not over.wait(BEAT_SECONDS):  # it may just be ending by itself
        os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
