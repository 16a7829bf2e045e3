"""Does the store stay flat? `python -m benchmarks.store --questions 1000000 [--postgres URL]`.

Fills a store with made-up traffic (lengths, near-duplicates, clients, states and days as a busy
service has them), a tenth of it first, and at both sizes takes each operation in a process of its
own, through the functions that the daemon, a run and the command line use. The table is on standard
error; the last line on standard output is JSON. Seconds are of the CPU, with those of PostgreSQL's
backends; `ratio` is the larger store's over the smaller one's, of times that a clock can tell.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import random
import resource
import string
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from itertools import accumulate, islice
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import click
import psutil
import sqlalchemy as sa
from rich.console import Console
from rich.table import Table

from jobs import measure, probes, selection
from serve import views
from serve.cli.purge import _finder
from serve.cli.runs import _plan
from serve.daemon.core import CHECKED_AT_START
from serve.daemon.housekeeping import Observer
from serve.daemon.schedule import Clock
from ttrl.config import Config, ModelConfig, ScheduleConfig
from ttrl.config.loading import override
from ttrl.metrics import Metrics
from ttrl.questions.question import Question, digest, from_prompt
from ttrl.store import Store
from ttrl.store.forgetting import Doomed
from ttrl.store.questions import Recorded
from ttrl.store.runs import RunState, Trigger
from ttrl.store.schema import question_clients, questions, samples, votes

DAY = 86400.0
DAYS, CLIENTS, HOLDOUT, RUNS = 60, 300, 0.1, 40
STATES = {
    "new": 0.6, "learned_from": 0.15, "no_signal": 0.1, "no_label": 0.1, "like_probe": 0.02,
    "skipped": 0.02, "failed": 0.01,
}  # fmt: skip
NEAR = 0.2
"""Share of the questions that are near-duplicates of another."""
INGESTED, BATCH = 5000, 500
"""Questions that are recorded through the product, and how many at once, as its recorder does."""
AT_ONCE = 5000
TELLABLE = 0.02
"""Seconds: what takes less at both sizes has no ratio."""
NEEDLE = "zyzzyva 4711"
LETTERS = random.Random(0)
WORDS = ["".join(LETTERS.choices(string.ascii_lowercase, k=3 + n % 9)) for n in range(20_000)]
COMMON = [1 / (rank + 3) for rank in range(len(WORDS))]
CUMULATED = list(accumulate(COMMON))


def text(rng: random.Random) -> str:
    """A made-up question: words as frequent as a language's are (Zipf), lengths as a log-normal
    distribution has them, and a number in every third."""
    words = rng.choices(
        WORDS, cum_weights=CUMULATED, k=min(400, int(rng.lognormvariate(2.7, 0.8)) + 4)
    )
    if rng.random() < 0.3:
        words.append(str(rng.randrange(10_000)))
    return " ".join(words) + "?"


def made_up(first: int, last: int, now: float) -> Iterator[tuple[dict[str, Any], bool]]:
    """Rows of questions with these ids, and whether one of them was asked by a second client."""
    for number in range(first, last):
        rng = random.Random(number)
        near = rng.random() < NEAR
        cluster = rng.randrange(max(1, number // 20)) if near else number
        body = {"messages": [{"role": "user", "content": text(rng)}]}
        at = now - DAYS * DAY * (1 - number / last) * rng.random() ** 0.1
        client = None if rng.random() < 0.1 else _client(int(CLIENTS * rng.random() ** 3))
        keyed = hashlib.sha256(f"cluster {cluster}".encode()).hexdigest()
        probe = int(keyed[:4], 16) < HOLDOUT * 2**16
        state = "new" if probe else rng.choices(list(STATES), list(STATES.values()))[0]
        temperature = rng.choice([None, 0.0, 0.2, 0.7, 0.7, 1.0])
        row = {
            "id": number, "hash": hashlib.sha256(str(number).encode()).hexdigest(),
            "cluster": keyed[:32], "body": body, "count": 1 + int(rng.paretovariate(2)) // 2,
            "first_seen": at, "last_seen": min(now, at + rng.expovariate(1 / DAY)),
            "client": client, "shared": rng.random() < 0.02, "origin": "traffic", "probe": probe,
            "state": state, "reason": "dictates_its_answer" if state == "skipped" else None,
            "exposures": 0, "novel": not near, "follows": None,
            "sampling": None if temperature is None else {"temperature": temperature},
        }  # fmt: skip
        yield {name: value for name, value in row.items() if name in questions.c}, bool(client)


def _client(number: int) -> str:
    return hashlib.sha256(f"client {number}".encode()).hexdigest()


def fill(store: Store, first: int, last: int) -> None:
    """Add the questions from `first` on, with votes on those without a label."""
    rows = made_up(first, last, time.time())
    run_ids = [run.id for run in store.runs.newest(RUNS)[1:]]
    while some := list(islice(rows, AT_ONCE)):
        asked = [row for row, _ in some]
        named = [row for row, client in some if client]
        voted = [_vote(row["id"], run) for row in asked if row["state"] == "no_label"
                 for run in random.Random(row["id"]).sample(run_ids, 2)]  # fmt: skip
        with store.write() as connection:
            pairs = [{"question_id": row["id"], "client": row["client"]} for row in named]
            _insert(connection, questions, asked)
            _insert(connection, question_clients, pairs)
            keys = _insert(connection, votes, voted)
            drawn = [_sample(key, place) for key in keys for place in range(2)]
            _insert(connection, samples, drawn)
    with store.write() as connection:
        if connection.dialect.name == "postgresql":  # its ids were given
            newest = sa.select(sa.func.setval("questions_id_seq", last))
            connection.execute(newest)


def _insert(
    connection: sa.Connection, table: sa.Table, rows: Sequence[dict[str, Any]]
) -> Sequence[Any]:
    """What is to be returned goes in many rows at a time."""
    first = next(iter(table.primary_key))
    return connection.scalars(table.insert().returning(first), rows).all()


def _vote(question_id: int, run_id: int) -> dict[str, Any]:
    return {
        "run_id": run_id, "question_id": question_id, "version": "base", "step": 1, "at": 1.0,
        "kind": "text", "outcome": "tie", "share": 0.5, "entropy": 1.0, "counts": [["a", 2]],
        "stop": "all",
    }  # fmt: skip


def _sample(vote_id: int, position: int) -> dict[str, Any]:
    return {
        "vote_id": vote_id, "position": position, "layer": "empty", "text": "so it is",
        "kept": False, "finish": "stop", "reward": 0.0, "token_ids": b"\0" * 40,
        "logprobs": b"\0" * 40,
    }  # fmt: skip


def history(store: Store) -> None:
    """Some runs that are over."""
    for _ in range(RUNS):
        run = store.runs.create(Trigger.SCHEDULE, {})
        store.runs.end(run.id, RunState.NOTHING, "the benchmark made it up")


@cache
def traffic(count: int) -> list[Recorded]:
    """What comes in: new questions, some of them again, and some that go on from another."""
    rng, found = random.Random(count), list[Question]()
    while len(found) < count:
        kind = rng.random()
        if found and kind < 0.2:
            found.append(rng.choice(found))
        elif found and kind < 0.4:
            before = rng.choice(found).body["messages"]
            turns = [{"role": "assistant", "content": text(rng)}]
            body = {"messages": [*before[-3:], *turns, {"role": "user", "content": text(rng)}]}
            found.append(Question(body, digest(body), {"temperature": 0.7}))
        else:
            found.append(from_prompt(text(rng)))
    return [Recorded(each, time.time(), _client(rng.randrange(CLIENTS))) for each in found]


def _record(store: Store, config: Config) -> None:
    recorded = traffic(INGESTED)
    for start in range(0, len(recorded), BATCH):
        store.questions.record(recorded[start : start + BATCH], holdout=HOLDOUT)


def _select(store: Store, config: Config) -> None:
    assert selection.select(config, store, selection.descent(config, store))[0].chosen


def _by_signal(store: Store, config: Config) -> None:
    _select(store, override(config, {"selection.order": "signal"}))


def _tick(store: Store, config: Config) -> None:
    async def start() -> None: ...

    schedule = ScheduleConfig(every=timedelta(hours=6))
    assert Clock(schedule, store, start, Metrics())._look()


def _windows(store: Store, config: Config) -> None:
    now, week = time.time(), 7 * DAY
    assert store.questions.asked(now - week, now, limit=measure.MOST)
    assert store.questions.asked(now - 5 * week, now - week, limit=measure.MOST)


def _pages(store: Store, config: Config) -> None:
    newest = store.questions.page(50)
    for kind in (None, "new", "no_label", "skipped", "probe"):
        page = store.questions.page(50, kind=kind)
        assert page
        store.questions.page(50, kind=kind, before=page[-1].id)
    assert store.questions.get(newest[-1].id)


def _search(store: Store, config: Config) -> None:
    find = _finder(config, "text", NEEDLE)
    assert not find(store).questions


def _purge_client(store: Store, config: Config) -> None:
    ids = store.forgetting.asked_by(_client(8))[:1000]
    assert store.forgetting.purge(Doomed(ids), dry=True).questions == len(ids)


def _expire(store: Store, config: Config) -> None:
    c = questions.c
    oldest = sa.select(c.last_seen).where(~c.probe).order_by(c.last_seen).limit(300)
    assert store.forgetting.expire(store.scalars(oldest)[-1], None)


def _nothing_old(store: Store, config: Config) -> None:
    store.forgetting.expire(time.time() - 90 * DAY, 10**8)
    store.forgetting.drop_details(time.time() - 30 * DAY)


def _learned(store: Store, config: Config) -> None:
    found = store.questions.page(128, kind="new")
    for row in found[:16]:
        store.questions.mark(row.id, row.state)
    store.questions.wait({row.id: "client_share" for row in found})
    store.questions.wait({})


def _start(store: Store, config: Config) -> None:
    store.check(CHECKED_AT_START)
    Observer(store, Metrics(), config.state_dir).look()


def _apart(store: Store, config: Config) -> None:
    assert probes.to_ask(store, config.gate)


OPERATIONS: Mapping[str, Callable[[Store, Config], object]] = {
    "record 5,000": _record,
    "record them again": _record,
    "choose a run's questions": _select,
    "choose them by earlier votes": _by_signal,
    "note what was chosen": _learned,
    "choose a gate's questions": _apart,
    "adapt --dry-run": lambda store, config: _plan(config, store, None),
    "metrics": lambda store, config: Observer(store, Metrics(), config.state_dir).stand(),
    "the schedule's tick": _tick,
    "status": lambda store, config: views.report(store, config),
    "pages of questions": _pages,
    "compare two windows": _windows,
    "prune, nothing old": _nothing_old,
    "prune 300": _expire,
    "purge a client's 1,000": _purge_client,
    "a daemon's start": _start,
    "search by text": _search,
}
READS_ALL = frozenset({"search by text"})


@dataclass(frozen=True)
class Cost:
    """Seconds of the CPU and by the clock, and MiB more of memory at the peak."""

    cpu: float
    wall: float
    mib: float


def taken(name: str, url: sa.URL, config: Config, out: Connection) -> None:
    """In a child: open the store, do it once, and say what it cost."""
    began, before = time.perf_counter(), _cpu()
    resident = psutil.Process().memory_info().rss
    with Store.open(config.state_dir, url.render_as_string(hide_password=False)) as store:
        OPERATIONS[name](store, config)
        cpu = _cpu() - before + _backends(store)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    out.send(Cost(cpu, time.perf_counter() - began, max(0, peak - resident) / 2**20))


def _cpu() -> float:
    return time.process_time()


def _backends(store: Store) -> float:
    """Seconds of PostgreSQL's processes for us, where they are on this machine."""
    if store.backend.file is not None:
        return 0.0
    query = "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
    with store.read() as connection:
        pids = connection.exec_driver_sql(query).scalars().all()
    total = 0.0
    for pid in pids:
        with suppress(psutil.Error):
            times = psutil.Process(pid).cpu_times()
            total += times.user + times.system
    return total


def measured(url: sa.URL, config: Config, times: int) -> dict[str, Cost]:
    """Each operation's cost in processes of its own: the median of so many by CPU time."""
    context, costs = multiprocessing.get_context("fork"), {}
    for name in OPERATIONS:
        some = []
        for _ in range(1 if name.startswith(("record", "prune 300")) else times):
            ours, theirs = context.Pipe()
            child = context.Process(target=taken, args=(name, url, config, theirs))
            child.start()
            theirs.close()
            try:
                some.append(ours.recv())
            except EOFError:
                raise click.ClickException(f"{name!r} failed") from None
            finally:
                child.join()
        costs[name] = sorted(some, key=lambda cost: cost.cpu)[len(some) // 2]
    return costs


@click.command()
@click.option("--questions", "count", default=1_000_000, show_default=True)
@click.option("--postgres", metavar="URL", help="A new, empty database.")
@click.option("--times", default=3, show_default=True, help="Processes for each operation.")
def main(count: int, postgres: str | None, times: int) -> None:
    """Measure the store at a tenth of so many questions, and at all of them."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "model").mkdir()
        (directory / "model" / "config.json").write_text("{}")
        config = Config(state_dir=directory, model=ModelConfig(name=str(directory / "model")))
        url = sa.make_url(postgres or f"sqlite:///{directory / 'store.sqlite'}")
        found, first = [], 1
        traffic(INGESTED)  # before any process is measured
        for last in (count // 10, count):
            with Store.open(directory, url.render_as_string(hide_password=False)) as store:
                if first == 1:
                    history(store)
                fill(store, first, last + 1)
                if postgres:
                    with store.backend.engine.connect() as connection:
                        connection.execution_options(isolation_level="AUTOCOMMIT")
                        connection.exec_driver_sql("VACUUM ANALYZE")
            first = last + 1 + 10 * INGESTED  # the ids between are those that are recorded
            found.append(measured(url, config, times))
    _tell(count, found, "postgresql" if postgres else "sqlite")


def _tell(count: int, found: Sequence[Mapping[str, Cost]], where: str) -> None:
    table = Table(
        "operation", f"{count // 10:,}: CPU s", f"{count:,}: CPU s", "ratio", "wall", "MiB"
    )
    shown: dict[str, Any] = {}
    for name in OPERATIONS:
        small, large = (costs[name] for costs in found)
        tellable = max(small.cpu, large.cpu) >= TELLABLE
        ratio = round(large.cpu / small.cpu, 2) if tellable else None
        shown[name] = {
            "small": round(small.cpu, 4), "large": round(large.cpu, 4), "ratio": ratio,
            "wall": round(large.wall, 3), "mib": round(large.mib, 1),
        }  # fmt: skip
        cells = (
            f"{small.cpu:.3f}",
            f"{large.cpu:.3f}",
            f"{ratio or '-'}",
            f"{large.wall:.2f}",
            f"{large.mib:.0f}",
        )
        table.add_row(name, *cells)
    Console(stderr=True).print(table)
    bounded = [each["ratio"] or 0 for name, each in shown.items() if name not in READS_ALL]
    print(
        json.dumps(
            {
                "store": where,
                "questions": count,
                "ingest_per_cpu_s": round(INGESTED / found[-1]["record 5,000"].cpu),
                "ingest_per_s": round(INGESTED / found[-1]["record 5,000"].wall),
                "worst_ratio": max(bounded),
                "operations": shown,
            }
        )
    )


if __name__ == "__main__":
    main()
