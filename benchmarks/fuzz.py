"""Random requests to the gateway, by its own description, and random answers to the parser.

    python -m benchmarks.fuzz [--minutes 10] [--seed 0]

The requests are schemathesis' (right ones, and wrong ones on purpose), sent to a real server with a
stand-in for the engine behind it; the answers are hypothesis'. What the description
(serve/openapi.yaml) does not allow, and any exception, is broken. The last line is JSON.
"""

from __future__ import annotations

import json
import multiprocessing
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import click
from hypothesis import HealthCheck, Phase, given
from hypothesis import seed as seeded
from hypothesis import settings as how
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import openapi
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.core.result import Ok
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from benchmarks.gateway import run_engine, run_gateway
from ttrl.answers import AnswerKind, Reader
from ttrl.meaning import Letters, agreement
from ttrl.questions.question import from_prompt
from ttrl.questions.screening import SIDE_PROMPTS, Circumstances, deciding, suspicion

DESCRIPTION = Path(str(files("serve") / "openapi.yaml"))
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
PIECES = st.sampled_from(
    [
        *"0123456789abcxyz+-*/^=<>()[]{}.,;:$%&_'\"\\ \n\t",
        *(
            r"\frac",
            r"\dfrac",
            r"\sqrt",
            r"\text{",
            r"\boxed{",
            r"\left(",
            r"\right)",
            r"\{",
            r"\}",
        ),
        *(r"\pm", r"\cup", r"\infty", r"\pi", r"\cdot", r"\begin{pmatrix}", r"\end{pmatrix}"),
        *("½", "²", "°", "−", "٣", "１", "million", " cm", " and ", "the answer is ", "A. ", "(B)"),
        *("答案是", "Ja", "not ", "<think>", "</think>", "\ud800", "\x00", "1" * 400, "(" * 60),
        *("^" * 30, "__import__('os')", "9**9**9"),
    ]
)
TEXTS = st.lists(PIECES, max_size=60).map("".join) | st.text()


ASKED = "How many apples are 3 + 4? (A) one (B) two (C) seven"


def _as(kind: AnswerKind | None) -> Callable[[str], object]:
    return lambda text: Reader(kind).read(ASKED, [text, f"{text}."])


READERS: dict[str, Callable[[str], object]] = {
    **{kind: _as(kind) for kind in AnswerKind},
    "any": _as(None),
    "question": lambda text: Reader().read(text, ["5", "The answer is 6."]),
    "screen": lambda text: suspicion(from_prompt(text)),
    "fingerprint": lambda text: from_prompt(text).cluster,
    "rules": lambda text: deciding(SIDE_PROMPTS, from_prompt(text), Circumstances()),
}
"""What reads texts of users and models."""
SHORT, LONG = 2000, 8000
"""Characters of the texts of which the times are compared."""
GROWTH, LEAST_SECONDS = 3.0, 0.1
"""Times as long as in proportion to its length that a text may take, and what is too short to be
measured. In proportion to its square would be 4 times."""


@dataclass
class Counts:
    """What was tried, and what is broken, in words."""

    requests: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    answers: int = 0
    timed: int = 0
    broken: list[str] = field(default_factory=list)


@contextmanager
def gateway() -> Iterator[str]:
    """The URL of a real one, with an engine that thinks of nothing."""
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        here, there = spawn.Pipe()
        engine = spawn.Process(target=run_engine, args=(there,), daemon=True)
        engine.start()
        url = f"http://127.0.0.1:{here.recv()}"
        process = spawn.Process(target=run_gateway, args=(there, url, folder), daemon=True)
        process.start()
        try:
            yield f"http://127.0.0.1:{here.recv()}"
        finally:
            for each in (process, engine):
                each.terminate()
                each.join(10)


def operations() -> list[Any]:
    """Each route with its method, as the description has it."""
    found = openapi.from_path(DESCRIPTION).get_all_operations()
    return [result.ok() for result in found if isinstance(result, Ok)]


def surface(url: str, examples: int, seed: int, counts: Counts) -> None:
    """So many requests of each kind to each route."""
    for operation in operations():
        for mode in GenerationMode:
            strategy = operation.as_strategy(generation_mode=mode)

            @seeded(seed)
            @how(
                max_examples=examples, deadline=None, database=None, phases=[Phase.generate],
                suppress_health_check=list(HealthCheck), print_blob=False,
            )  # fmt: skip
            @given(case=strategy)
            def send(case: Any) -> None:
                _send(case, url, counts)

            try:
                send()
            except Unsatisfiable:
                continue  # there is nothing wrong to send to a route that takes nothing


def _send(case: Any, url: str, counts: Counts) -> None:
    response = case.call(base_url=url, timeout=30)
    counts.requests += 1
    counts.statuses[response.status_code] += 1
    try:
        case.validate_response(response, checks=CHECKS)
    except FailureGroup as failed:
        said = "; ".join(map(str, failed.exceptions))
        counts.broken.append(f"{case.method} {case.path}: {said}")


def parser(examples: int, seed: int, counts: Counts) -> None:
    """So many texts, read as each kind of answer and compared."""

    @seeded(seed)
    @how(
        max_examples=examples, deadline=None, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck), print_blob=False,
    )  # fmt: skip
    @given(TEXTS, TEXTS, st.sampled_from(AnswerKind))
    def read(left: str, right: str, kind: AnswerKind) -> None:
        counts.answers += 2
        try:
            forms = Reader(kind).read("", [left, right, left]).answers
            agreement([left, right], right, Letters())
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what is looked for
            counts.broken.append(f"{kind}: {type(error).__name__} of {left!r} and {right!r}")
            return
        if forms[0] != forms[2]:
            counts.broken.append(f"{kind}: {left!r} is not the same as itself")

    read()


def grows(read: Callable[[str], object], text: str) -> bool:
    """Whether reading a text that repeats this one takes more than in proportion to its length."""

    def seconds(first: str, length: int) -> float:
        began = time.process_time()
        read(first + (text * length)[:length])
        return time.process_time() - began

    def once(first: str) -> bool:
        short, long = seconds(first, SHORT), seconds(first, LONG)
        return long > LEAST_SECONDS and long > GROWTH * short * LONG / SHORT

    return once("The answer is ") and once("So it is ")  # twice: others use the machine as well


def timing(examples: int, seed: int, counts: Counts) -> None:
    """So many texts, repeated, read by each reader."""

    @seeded(seed)
    @how(
        max_examples=examples, deadline=None, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck), print_blob=False,
    )  # fmt: skip
    @given(st.lists(PIECES, min_size=1, max_size=4).map("".join))
    def read(text: str) -> None:
        counts.timed += 1
        counts.broken.extend(
            f"{name}: the time to read {text!r} again and again grows faster than its length"
            for name, each in READERS.items()
            if grows(each, text)
        )

    read()


@click.command()
@click.option("--minutes", default=10.0, show_default=True)
@click.option("--seed", default=0, show_default=True)
def main(minutes: float, seed: int) -> None:
    """A third of the time each."""
    counts, began = Counts(), time.monotonic()
    with gateway() as url:
        while time.monotonic() - began < 20 * minutes:
            surface(url, 100, seed, counts)
            seed += 1
            click.echo(f"{counts.requests} requests, {len(counts.broken)} broken", err=True)
    while time.monotonic() - began < 40 * minutes:
        parser(500, seed, counts)
        seed += 1
        click.echo(f"{counts.answers} answers, {len(counts.broken)} broken", err=True)
    while time.monotonic() - began < 60 * minutes:
        timing(5, seed, counts)
        seed += 1
        click.echo(f"{counts.timed} texts timed, {len(counts.broken)} broken", err=True)
    for each in counts.broken[:20]:
        click.echo(each, err=True)
    statuses = {str(status): count for status, count in sorted(counts.statuses.items())}
    click.echo(json.dumps({
        "requests": counts.requests, "statuses": statuses, "answers": counts.answers,
        "timed": counts.timed, "broken": len(counts.broken),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
