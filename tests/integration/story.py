"""A daemon's night under the eyes of a real Prometheus: promotion, rejection, roll-back."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.hook import SECRET, Hook, listening
from tests.integration.daemon import LIGHT, Daemon, wait_until
from tests.prometheus import Prometheus, scraping
from ttrl.demo import Problem, make_problems
from ttrl.engine.process import free_port
from ttrl.evaluation.probes import Label
from ttrl.questions.question import from_prompt
from ttrl.store.questions import Recorded

DAY = 86400.0
SETTINGS = (
    "update.steps=8", "selection.max_questions=32", "gate.samples=8",
    "schedule.every=1h", "schedule.min_questions=1000",
    "shadow.share=1", "shadow.pairs_a_minute=60", "shadow.samples=2",
)  # fmt: skip
TOO_FAR = ("--set", "update.learning_rate=0.5", "--steps", "2")
"""The light trainer spoils whatever it trains at such a rate."""


@dataclass(frozen=True)
class Story:
    """What there is to look at, from `began` (Unix seconds) on."""

    daemon: Daemon
    prometheus: Prometheus
    hook: Hook
    began: float
    promoted: str
    asked: Sequence[str]


@contextmanager
def told(directory: Path) -> Iterator[Story]:
    """Everything but the roll-back, which `Daemon.ttrl("adapters", "rollback")` is."""
    problems = make_problems(360, seed=11)
    with listening() as hook:
        told_to = (f"webhook.url={hook.url}", f"webhook.secret={SECRET}")
        daemon = Daemon(directory / "state", *SETTINGS, *told_to, start=False, environ=LIGHT)
        _prepare(daemon, problems)
        with daemon:
            daemon.start()
            yield from _night(daemon, directory, hook, problems)


def _night(
    daemon: Daemon, directory: Path, hook: Hook, problems: Sequence[Problem]
) -> Iterator[Story]:
    target = daemon.url.removeprefix("http://")
    with scraping(target, directory, free_port()) as prometheus:
        began = time.time()
        wait_until(lambda: prometheus.ask("ttrl_engine_up"), "it is scraped")
        _use(daemon, problems[:12])
        daemon.ttrl("measure", "--json")
        daemon.ttrl("adapt", "--json")
        promoted = daemon.status()["live"]
        assert promoted != "base", daemon.ttrl("runs", "list")
        _use(daemon, problems[12:24])
        daemon.ttrl("adapt", "--json", *TOO_FAR, code=4)
        asked = [problem.prompt for problem in problems]
        yield Story(daemon, prometheus, hook, began, promoted, asked)


def _prepare(daemon: Daemon, problems: Sequence[Problem]) -> None:
    """Questions of two weeks, a fifth of them held out, and labelled probes."""
    now = time.time()
    with daemon.store() as store:
        for some, at in ((problems[:130], now - 10 * DAY), (problems[130:310], now - DAY)):
            asked = [Recorded(from_prompt(problem.prompt), at) for problem in some]
            store.questions.record(asked[:26], holdout=1)
            store.questions.record(asked[26:], holdout=0)
        store.probes.add(
            [
                Label(from_prompt(problem.prompt), (problem.answer,), None, ("sums",))
                for problem in problems[310:]
            ]
        )


def _use(daemon: Daemon, problems: Sequence[Problem]) -> None:
    """As users do: whole answers, a stream, one that is not to be learned from."""
    for problem in problems:
        daemon.ask(problem.prompt)
    asked = {"model": "ttrl-demo", "messages": [{"role": "user", "content": "what is one plus?"}]}
    for piece in daemon.client.chat.completions.create(**asked, stream=True, max_tokens=8):
        assert piece.id
    unlearned = {"X-TTRL-No-Learn": "1"}
    daemon.client.chat.completions.create(**asked, extra_headers=unlearned, max_tokens=8)
