"""The live monitor, in front of a stand-in engine: never in a user's way, nothing in vain."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from serve.daemon.webhook import Notice, of_alert
from serve.gateway.live import Live
from serve.gateway.recorder import Recorder
from serve.gateway.shadow import QUEUE, Outcome, Shadow
from tests.standin import DEADLINE, serving
from ttrl.answers import Reader
from ttrl.config.loading import load
from ttrl.engine.client import LOAD_SERIES, EngineClient
from ttrl.metrics import Metrics
from ttrl.monitoring.live import Stream
from ttrl.questions.question import from_prompt
from ttrl.sampling.groups import PRIORITY
from ttrl.store import Store
from ttrl.store.adapters import AdapterRow, AdapterState

QUESTIONS = [from_prompt(f"What is {n} plus 1?") for n in range(100)]


@dataclass
class Engine:
    """Answers every version as it is told: `texts`, or an error `status`. `waiting` answers wait in
    it, as it says itself."""

    texts: dict[str, str] = field(default_factory=dict)
    status: dict[str, int] = field(default_factory=dict)
    waiting: int = 0
    looks: int = 0
    asked: list[dict[str, Any]] = field(default_factory=list)

    async def chat(self, request: Request) -> Response:
        body = await request.json()
        self.asked.append(body)
        model = body["model"]
        if model in self.status:
            return JSONResponse({"error": {"message": "no"}}, self.status[model])
        choice = {
            "message": {"role": "assistant", "content": self.texts.get(model, "\\boxed{4}")},
            "finish_reason": "stop", "token_ids": [1], "logprobs": {"content": [{"logprob": -1.0}]},
        }  # fmt: skip
        choices = [{**choice, "index": index} for index in range(body["n"])]
        return JSONResponse({"prompt_token_ids": [1], "choices": choices})

    async def metrics(self, _: Request) -> Response:
        self.looks += 1
        return PlainTextResponse("\n".join(f"{name} {self.waiting}" for name in LOAD_SERIES))

    def app(self) -> Starlette:
        chat = Route("/v1/chat/completions", self.chat, methods=["POST"])
        return Starlette(routes=[chat, Route("/metrics", self.metrics)])


@dataclass
class Scene:
    """A guard that looks at every question, as fast as it can."""

    store: Store
    engine: Engine
    client: EngineClient
    settings: dict[str, Any]
    live: Live = field(default_factory=lambda: Live("demo", "base-model"))
    metrics: Metrics = field(default_factory=Metrics)
    rolled_back: list[bool] = field(default_factory=list)

    def __post_init__(self) -> None:
        fast = {"shadow.share": 1.0, "shadow.pairs_a_minute": 1e6, "vote.instruction": "In a box."}
        config = load(environ={}, overrides={**fast, **self.settings}).config
        self.shadow = Shadow(
            config, self.store, self.client, self.live, self.metrics.judging,
            reader=Reader(),
            rolled_back=lambda: self.rolled_back.append(True),
        )  # fmt: skip

    def go_live(self, name: str, number: int) -> None:
        row = AdapterRow(
            name, "l", number, "d", None, "b", None, 16, AdapterState.APPROVED, "why", 1.0
        )
        self.store.adapters.publish(row, [], author="run")
        self.live.flip(name)

    def outcomes(self) -> Counter[str]:
        name = "ttrl_shadow_questions_total"
        families = self.metrics.registry.restricted_registry([name]).collect()
        samples = [sample for family in families for sample in family.samples if sample.value]
        return Counter({sample.labels["outcome"]: int(sample.value) for sample in samples})

    def value(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(f"ttrl_shadow_{name}", labels) or 0

    def run(self, until: Any) -> None:
        """Let it work until something is so."""

        async def scenario() -> None:
            work = asyncio.create_task(self.shadow.run())
            async with asyncio.timeout(DEADLINE):
                while not until():
                    assert not work.done() or work.result()
                    await asyncio.sleep(0.002)
            work.cancel()

        asyncio.run(scenario())


@pytest.fixture
def scene(store: Store, request: pytest.FixtureRequest) -> Iterator[Scene]:
    with staged(store, **getattr(request, "param", {})) as made:
        yield made


@contextmanager
def staged(store: Store, **settings: Any) -> Iterator[Scene]:
    engine = Engine()
    with serving(engine.app()) as url, EngineClient(url, timeout=DEADLINE) as client:
        yield Scene(store, engine, client, settings)


def test_both_versions_are_asked_behind_everybody_and_compared(scene: Scene) -> None:
    scene.go_live("a", 1)
    scene.engine.texts["a"] = "\\boxed{5}"
    scene.shadow.offer(QUESTIONS[0])
    scene.run(lambda: scene.outcomes()["compared"])
    assert sorted(body["model"] for body in scene.engine.asked) == ["a", "base-model"]
    for body in scene.engine.asked:
        assert (body["n"], body["priority"]) == (4, PRIORITY)
        assert body["messages"] == QUESTIONS[0].body["messages"], "as users ask"
    versions = scene.shadow.versions()
    assert versions is not None
    (found,) = scene.store.shadow.of(versions)
    assert (found[Stream.DEPARTURE], found[Stream.AGREEMENT]) == (1.0, 0.0)
    report = scene.shadow.report()
    assert report is not None
    assert (report.pairs, report.nearness, report.other) == (1, 0, "base")
    assert report.differs == []
    assert 0 < scene.value("evidence_ratio", stream="departure") < 1


def test_the_queue_is_bounded_and_says_so(scene: Scene) -> None:
    scene.go_live("a", 1)
    for question in QUESTIONS[: QUEUE + 5]:
        scene.shadow.offer(question)
    assert scene.outcomes() == {"queue_full": 5}
    scene.run(lambda: scene.outcomes()["compared"] == QUEUE)


@pytest.mark.parametrize("scene", [{"shadow.share": 0.0}], indirect=True)
def test_a_share_of_nothing_switches_it_off(scene: Scene) -> None:
    scene.go_live("a", 1)
    for question in QUESTIONS:
        scene.shadow.offer(question)
    assert not scene.outcomes(), "not even a full queue"


def test_while_the_base_is_live_there_is_nothing_to_compare(scene: Scene) -> None:
    for question in QUESTIONS:
        scene.shadow.offer(question)
    assert not scene.outcomes()
    assert scene.shadow.versions() is None
    assert scene.shadow.report() is None


def test_a_question_whose_versions_are_gone_is_dropped(scene: Scene) -> None:
    scene.go_live("a", 1)
    scene.shadow.offer(QUESTIONS[0])
    scene.live.flip(None)
    scene.run(lambda: scene.outcomes()["swapped"])
    assert scene.engine.asked == []


def test_nothing_is_asked_while_anybody_waits(scene: Scene) -> None:
    scene.go_live("a", 1)
    scene.engine.waiting = 1
    scene.shadow.offer(QUESTIONS[0])
    scene.run(lambda: scene.engine.looks >= 2)
    assert scene.engine.asked == []
    scene.engine.waiting = 0
    scene.shadow.offer(QUESTIONS[0])
    scene.run(lambda: scene.outcomes()["compared"])


@pytest.mark.parametrize(
    ("status", "outcome", "errors"),
    [
        ({"a": 500}, Outcome.COMPARED, [1.0]),
        ({"base-model": 500}, Outcome.COMPARED, [-1.0]),
        ({"a": 500, "base-model": 500}, Outcome.COMPARED, [0.0]),
        ({"a": 404}, Outcome.ENGINE_FAILED, []),
        ({"base-model": 400}, Outcome.ENGINE_FAILED, []),
    ],
)
def test_what_the_engine_fails_at(
    scene: Scene, status: dict[str, int], outcome: Outcome, errors: list[float]
) -> None:
    scene.go_live("a", 1)
    scene.engine.status = status
    scene.shadow.offer(QUESTIONS[0])
    scene.run(lambda: scene.outcomes()[outcome])
    versions = scene.shadow.versions()
    assert versions is not None
    assert scene.store.shadow.of(versions) == [{Stream.ERRORS: each} for each in errors]


@pytest.mark.parametrize("scene", [{"shadow.false_alarms_a_year": 1e9}], indirect=True)
def test_a_worse_version_is_rolled_back_once_and_the_next_is_watched_afresh(
    scene: Scene, store: Store
) -> None:
    scene.go_live("a", 1)
    scene.go_live("b", 2)
    scene.engine.texts["b"] = "I would rather not say."
    for question in QUESTIONS[:QUEUE]:
        scene.shadow.offer(question)

    def feed() -> list[bool]:
        scene.shadow.offer(QUESTIONS[len(scene.engine.asked) % 100])
        return scene.rolled_back

    scene.run(feed)
    assert store.adapters.wanted().adapter == "a"
    row = store.adapters.get("b")
    assert row.state is AdapterState.ROLLED_BACK
    assert row.reason is not None
    assert row.reason.startswith("live monitor: ")
    assert "pairs with a" in row.reason
    assert sum(metric.value for metric in alarms(scene)) == 1
    scene.live.flip("a")  # as the reconciler does
    versions = scene.shadow.versions()
    assert versions is not None
    assert (versions.live, versions.other) == ("a", None)
    report = scene.shadow.report()
    assert report is not None
    assert (report.pairs, report.nearness) == (0, 0)


@pytest.mark.parametrize("scene", [{"shadow.false_alarms_a_year": 1e9}], indirect=True)
def test_a_version_that_only_answers_otherwise_stays_and_labels_are_asked_for_once(
    scene: Scene, store: Store
) -> None:
    """It may be right where the one before was wrong."""
    scene.go_live("a", 1)
    scene.engine.texts["a"] = "\\boxed{5}"
    told: list[Notice] = []
    scene.shadow.alerted = lambda *alert: told.append(of_alert(*alert))
    wanted = 40

    def feed() -> bool:
        scene.shadow.offer(QUESTIONS[len(scene.engine.asked) % 100])
        return scene.outcomes()["compared"] >= wanted

    scene.run(feed)
    assert scene.rolled_back == []
    assert store.adapters.wanted().adapter == "a"
    (notice,) = told
    assert (notice.event, notice.adapter) == ("adapter.differs", "a")
    assert notice.reason.startswith("its answers differ: ")
    assert "`ttrl label`" in notice.reason
    report = scene.shadow.report()
    assert report is not None
    assert [words.split(":")[0] for words in report.differs] == ["its answers differ"]
    assert alarms(scene) == []
    assert (
        scene.metrics.registry.get_sample_value("ttrl_shadow_alerts_total", {"stream": "departure"})
        == 1
    )


@pytest.mark.parametrize("scene", [{"shadow.false_alarms_a_year": 1e9}], indirect=True)
def test_an_alert_is_not_told_again_after_a_restart(scene: Scene) -> None:
    scene.go_live("a", 1)
    told: list[Notice] = []
    for _ in range(2):
        scene.__post_init__()
        scene.shadow.alerted = lambda *alert: told.append(of_alert(*alert))
        versions = scene.shadow.versions()
        assert versions is not None
        for _ in range(60):
            assert scene.shadow.note(versions, {Stream.LONGER: 1.0}) is Outcome.COMPARED
    assert len(told) == 1


def alarms(scene: Scene) -> list[Any]:
    (family,) = (f for f in scene.metrics.registry.collect() if f.name == "ttrl_shadow_alarms")
    return [sample for sample in family.samples if sample.value]


def test_what_was_seen_survives_a_restart(store: Store) -> None:
    with staged(store) as first:
        first.go_live("a", 1)
        first.engine.texts["a"] = "\\boxed{5}"
        for question in QUESTIONS[:5]:
            first.shadow.offer(question)
        first.run(lambda: first.outcomes()["compared"] == 5)
        seen = first.shadow.report()
    with staged(store) as second:
        second.live.flip("a")
        second.run(lambda: second.shadow.report() is not None)
        assert second.shadow.report() == seen


def test_only_what_is_recorded_is_asked_again() -> None:
    """Requests that opted out and the like never come to the recorder."""
    taken: list[str] = []

    async def scenario() -> None:
        recorder = Recorder(list, capacity=2, then=lambda question: taken.append(question.text))
        for question in QUESTIONS[:5]:
            recorder.offer(question)

    asyncio.run(scenario())
    assert taken == [question.text for question in QUESTIONS[:2]]


def test_no_words_of_anybody_are_written_down(scene: Scene) -> None:
    scene.go_live("a", 1)
    scene.engine.texts["a"] = "\\boxed{secret}"
    scene.shadow.offer(from_prompt("secret"))
    scene.shadow.offer(from_prompt("another secret"))
    scene.run(lambda: scene.outcomes()["compared"] == 2)
    versions = scene.shadow.versions()
    assert versions is not None
    assert "secret" not in json.dumps(scene.store.shadow.of(versions))
    assert b"secret" not in scene.metrics.text()
