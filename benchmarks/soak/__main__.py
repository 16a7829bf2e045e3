"""A real daemon with real runs under steady traffic, while something goes wrong every few seconds.

Failures are expected while the daemon or the engine is down, at no other time. A question that was
answered must be in the store once; those that were only in memory when the daemon was killed are
excused, as the design has it, and counted. The daemon is killed and stopped in the first half only,
so that memory and descriptors are those of one process in the second. The last line is JSON.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import urlsplit

import click
import psutil

from benchmarks.soak.served import Served
from benchmarks.soak.trouble import Trouble
from benchmarks.soak.users import Asked, Users
from benchmarks.versions import make
from ttrl import versions
from ttrl.store import Store
from ttrl.store.questions import QuestionState
from ttrl.store.runs import RunState

PAUSE_SECONDS = (2.0, 8.0)
GRACE_SECONDS = 2.0
"""A connection that was open when the daemon or the engine died is noticed so much later."""
COMMIT_SECONDS = 2.0
"""What was answered so long before a kill -9 may not be written yet."""
WARM = 0.2
"""Share of a process's life after which its memory is looked at."""


@dataclass(frozen=True)
class Event:
    """Something that was made to happen, in monotonic seconds."""

    name: str
    began: float
    ended: float


@dataclass
class Sight:
    """Memory (MiB) and descriptors of the daemon, second by second, of its last process."""

    pid: int = 0
    memory: list[float] = field(default_factory=list)
    descriptors: list[int] = field(default_factory=list)

    def look(self, daemon: psutil.Popen) -> None:
        """Once."""
        if daemon.pid != self.pid:
            self.pid, self.memory, self.descriptors = daemon.pid, [], []
        try:
            self.memory.append(daemon.memory_info().rss / 2**20)
            self.descriptors.append(daemon.num_fds())
        except psutil.Error:
            return


@contextmanager
def healthz(served: Served) -> Iterator[list[tuple[float, float]]]:
    """How long /healthz took each time it answered in the block, and when it was asked, in seconds;
    filled at its end, the longest last."""
    found: list[tuple[float, float]] = []
    command = [sys.executable, "-m", "benchmarks.soak.healthz", urlsplit(served.url).netloc]
    with tempfile.TemporaryFile("w+") as lines:
        child = subprocess.Popen(command, stdout=lines)
        yield found
        child.kill()
        child.wait()
        lines.seek(0)
        found += sorted((float(took), float(at)) for at, took in map(str.split, lines))


@contextmanager
def beside(work: Any) -> Iterator[None]:
    """As a thread, until the block is left and it has ended."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    yield
    thread.join(120)


def soak(
    served: Served, trouble: Trouble, users: Users, seconds: float, seed: int
) -> tuple[list[Event], Sight]:
    """Let things go wrong for so long, each of them before any comes again."""
    chance, sight, events, waiting = random.Random(seed), Sight(), list[Event](), list[str]()
    began, over = time.monotonic(), threading.Event()

    def watch() -> None:
        while not over.wait(1.0):
            sight.look(served.daemon)

    with beside(users.run), beside(watch):
        while (gone := time.monotonic() - began) < seconds:
            names = trouble.names(restarts=gone < seconds / 2)
            waiting = [name for name in waiting if name in names] or names
            name = waiting.pop(chance.randrange(len(waiting)))
            since = time.monotonic()
            getattr(trouble, name)()
            events.append(Event(name, since, time.monotonic()))
            print(f"{gone:6.0f} s  {name}", file=sys.stderr)
            time.sleep(chance.uniform(*PAUSE_SECONDS))
        users.over = True
        over.set()
    return events, sight


def excused(asked: Asked, events: Sequence[Event]) -> bool:
    """Whether a failure had to be."""
    return any(
        each.name in Trouble.users_may_notice
        and asked.began < each.ended + GRACE_SECONDS
        and asked.ended > each.began
        for each in events
    )


def in_memory(asked: Asked, events: Sequence[Event]) -> bool:
    """Whether an answered question was perhaps not written when the daemon was killed."""
    waits = [
        (e.began, e.ended + COMMIT_SECONDS) for e in events if e.name in Trouble.questions_wait
    ]
    for killed in (e.began for e in events if e.name == "daemon_killed"):
        since = min((b for b, e in waits if b < killed <= e + 10), default=killed)
        if since - COMMIT_SECONDS <= asked.ended <= killed + COMMIT_SECONDS:
            return True
    return False


def judge(
    store: Store, state_dir: Path, asked: Sequence[Asked], events: Sequence[Event]
) -> dict[str, Any]:
    """What came of it."""
    kept = {row.question.text: row.count for row in store.questions.page(10**9)}
    answered = [each for each in asked if each.failure is None]
    failed = [each for each in asked if each.failure is not None]
    unexpected = [each for each in failed if not excused(each, events)]
    missing = [each for each in answered if each.prompt not in kept]
    lost = [each for each in missing if not in_memory(each, events)]
    for each in (*unexpected, *lost):
        print(f"{each.failure or 'lost'}: {each.prompt}", file=sys.stderr)
    rows = store.adapters.digests()
    whole = {each.name for each in (state_dir / "adapters").iterdir()} == set(rows) and all(
        versions.verify(state_dir / "adapters" / name).digest == digest
        for name, digest in rows.items()
    )
    runs = store.runs.newest(10**6)
    for run in runs:
        if run.state is RunState.FAILED:
            print(f"run {run.id} failed: {run.reason}", file=sys.stderr)
    failed_back = store.questions.page(10**9, kind=QuestionState.FAILED)
    return {
        "faults": dict(Counter(each.name for each in events)),
        "requests": len(asked),
        "failed": len(failed),
        "failed_unexpectedly": len(unexpected),
        "lost": len(lost),
        "in_memory_when_killed": len(missing) - len(lost),
        "doubled": sum(kept.get(each.prompt, 0) > 1 for each in asked),
        "runs": dict(Counter(run.state.value for run in runs)),
        "questions_failed": dict(Counter(row.reason for row in failed_back)),
        "runs_without_end": sum(not run.state.ended for run in runs),
        "versions": len(rows),
        "versions_whole": whole,
    }


def flat(series: Sequence[float]) -> list[float]:
    """The middle value at the beginning and at the end of what comes after warming up."""
    warm = series[int(len(series) * WARM) :]
    part = max(len(warm) // 5, 1)
    return [round(median(warm[:part]), 1), round(median(warm[-part:]), 1)]


@click.command()
@click.option("--short", is_flag=True, help="Three minutes instead of an hour.")
@click.option("--minutes", type=float, help="Any other length.")
@click.option("--seed", default=0, show_default=True)
@click.option("--keep", type=click.Path(path_type=Path), help="Leave the state here, to look at.")
def main(short: bool, minutes: float | None, seed: int, keep: Path | None) -> None:
    """Traffic, runs and faults at once; then count what was lost."""
    length = minutes or (3.0 if short else 60.0)
    with tempfile.TemporaryDirectory() as folder:
        state_dir = keep or Path(folder) / "state"
        state_dir.mkdir(parents=True)
        with Store.open(state_dir) as store:
            made = make(Path(folder) / "made", 3, store)
            served = Served(state_dir)
            users = Users(served.url, seed)
            trouble = Trouble(served, store, made, seed)
            with served.up(), healthz(served) as looks:
                events, sight = soak(served, trouble, users, 60 * length, seed)
            found = judge(store, state_dir, users.asked, events)
    for took, at in looks[-5:]:
        during = [e.name for e in events if e.began - 1 < at < e.ended + GRACE_SECONDS]
        print(f"/healthz took {took:.3f} s ({', '.join(during)})", file=sys.stderr)
    print(json.dumps({
        "minutes": length, **found,
        "healthz_max_s": round(looks[-1][0], 3),
        "daemon_mib": flat(sight.memory), "daemon_descriptors": flat(sight.descriptors),
    }))  # fmt: skip
    bad = ("failed_unexpectedly", "lost", "doubled", "runs_without_end")
    sys.exit(any(found[name] for name in bad) or not found["versions_whole"])


if __name__ == "__main__":
    main()
