"""Letting requests out: threads that want to ask, and an engine whose every look is scripted."""

from __future__ import annotations

import queue
import random
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from tests.house import until
from tests.standin import DEADLINE, free_port, serving
from ttrl.engine import threads
from ttrl.engine.client import EngineClient, EngineUnreachable, Load
from ttrl.engine.pacing import MODEST, Paced, Pacer, PacerClosed, Pause, Resume

IDLE, BUSY, CROWDED = Load(5, 0, 9), Load(5, 3, 9), Load(5, 20, 9)


@dataclass
class Scene:
    """Askers, and an engine that shows what a test says when it says so: a look is due once the
    clock goes on, and the clock goes on when there is something to show."""

    now: float = 0.0
    shown: queue.SimpleQueue[Any] = field(default_factory=queue.SimpleQueue)
    told: list[Pause | Resume] = field(default_factory=list)
    leave: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    lock: threading.Lock = field(default_factory=threading.Lock)
    entered: int = 0
    left: int = 0
    failures: list[Exception] = field(default_factory=list)
    askers: list[threading.Thread] = field(default_factory=list)
    looks: int = 0

    def __post_init__(self) -> None:
        self.pacer = Pacer(
            self.look,
            maximum=8,
            pause_waiting=10,
            tell=self.told.append,
            interval=0.01,
            clock=lambda: self.now,
        )

    @property
    def inside(self) -> int:
        return self.entered - self.left

    def look(self) -> Load | None:
        self.looks += 1
        seen = self.shown.get(timeout=DEADLINE)
        if isinstance(seen, Exception):
            raise seen
        assert seen is None or isinstance(seen, Load)
        return seen

    def show(self, seen: object, *, bound: int) -> None:
        """One look, and what becomes of the bound."""
        self.shown.put(seen)
        self.now += 1
        until(lambda: self.pacer.limit == bound, f"the bound is {bound}")

    def ask(self, count: int) -> None:
        """So many more who want to ask, until they are let go."""
        threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(count)]
        self.askers += threads
        for thread in threads:
            thread.start()

    def let_go(self, count: int) -> None:
        for _ in range(count):
            self.leave.release()

    def wait_inside(self, count: int) -> None:
        until(lambda: self.inside == count, f"{count} requests are out")

    def all_gone(self) -> None:
        for thread in self.askers:
            thread.join(DEADLINE)
            assert not thread.is_alive()

    def _ask(self) -> None:
        try:
            with self.pacer.slot():
                with self.lock:
                    self.entered += 1
                assert self.leave.acquire(timeout=DEADLINE)
                with self.lock:
                    self.left += 1
        except (PacerClosed, RuntimeError) as error:
            self.failures.append(error)


@pytest.fixture
def scene() -> Iterator[Scene]:
    scene = Scene()
    yield scene
    scene.pacer.close()
    scene.let_go(100)
    for _ in range(20):
        scene.shown.put(None)
    scene.all_gone()


def test_no_more_go_out_than_the_bound(scene: Scene) -> None:
    scene.ask(14)
    scene.show(IDLE, bound=MODEST + 1)
    scene.wait_inside(5)
    for bound in (6, 7, 8):
        scene.show(IDLE, bound=bound)
        scene.wait_inside(bound)
    scene.show(BUSY, bound=4)
    assert scene.inside == 8, "what is out is not called back"
    scene.let_go(5)
    until(lambda: (scene.left, scene.inside) == (5, 4), "five have left, one has come")
    assert scene.entered == 9
    scene.show(BUSY, bound=2)
    scene.let_go(2)
    scene.wait_inside(2)
    assert scene.entered == 9
    assert scene.told == []


def test_somebody_looks_while_all_wait_for_the_engine(scene: Scene) -> None:
    scene.ask(scene.pacer.width)
    for bound in (5, 6, 7, 8):
        scene.show(IDLE, bound=bound)
    scene.wait_inside(8)
    scene.show(CROWDED, bound=0)
    assert (scene.looks, scene.inside) == (5, 8)


def test_a_pause_and_its_end(scene: Scene) -> None:
    scene.ask(7)
    scene.show(IDLE, bound=5)
    scene.wait_inside(5)
    scene.show(CROWDED, bound=0)
    until(lambda: scene.told, "it is told")
    scene.let_go(5)
    scene.wait_inside(0)
    scene.show(CROWDED, bound=0)
    until(scene.shown.empty, "it looks again")
    assert scene.pacer.take().paused_seconds == 1
    scene.show(BUSY, bound=1)
    scene.wait_inside(1)
    until(lambda: len(scene.told) == 2, "it is told")
    assert scene.told == [Pause(20), Resume(2.0)]
    assert scene.pacer.take().paused_seconds == 1
    assert scene.entered == 6


def test_what_became_of_the_bound(scene: Scene) -> None:
    assert scene.pacer.take() == Paced(MODEST, 0)
    scene.ask(9)
    for load, bound in ((IDLE, 5), (BUSY, 2), (CROWDED, 0), (BUSY, 1)):
        scene.show(load, bound=bound)
    assert scene.pacer.take() == Paced((5 + 2 + 0 + 1) / 4, 1)
    assert scene.pacer.take() == Paced(1, 0), "no look since: as it is"


def test_nobody_looks_while_nothing_is_wanted(scene: Scene) -> None:
    scene.ask(1)
    scene.show(IDLE, bound=5)
    scene.wait_inside(1)
    scene.now += 100
    scene.let_go(1)
    scene.all_gone()
    assert scene.looks == 1
    scene.ask(1)
    scene.show(CROWDED, bound=0)
    assert (scene.entered, scene.looks) == (1, 2), "what was seen long ago does not count"


@pytest.mark.parametrize("paused", [False, True])
def test_closing_turns_away_who_waits(scene: Scene, paused: bool) -> None:
    scene.ask(8)
    scene.show(IDLE, bound=5)
    scene.wait_inside(5)
    if paused:
        scene.show(CROWDED, bound=0)
        until(lambda: scene.told, "it is told")
    scene.pacer.close()
    until(lambda: len(scene.failures) == 3, "those that wait are turned away")
    assert {type(failure) for failure in scene.failures} == {PacerClosed}
    assert scene.told[1:] == [Resume(0.0)] * paused
    scene.let_go(5)
    scene.all_gone()
    with pytest.raises(PacerClosed), scene.pacer.slot():
        pass
    scene.pacer.close()
    assert len(scene.told) == 2 * paused


def test_closing_during_a_look(scene: Scene) -> None:
    scene.ask(3)
    until(lambda: scene.looks == 1, "one looks")
    scene.pacer.close()
    until(lambda: len(scene.failures) == 2, "those that do not look are turned away")
    scene.shown.put(CROWDED)
    scene.all_gone()
    assert (len(scene.failures), scene.told) == (3, [])


def test_an_engine_that_shows_nothing(scene: Scene) -> None:
    scene.ask(9)
    for bound in (5, 6):
        scene.show(IDLE, bound=bound)
    scene.show(None, bound=MODEST)
    scene.show(IDLE, bound=MODEST + 1)
    scene.show(EngineUnreachable("gone"), bound=MODEST)
    assert scene.failures == []


def test_a_look_that_fails_for_no_known_reason_holds_up_nobody_else(scene: Scene) -> None:
    scene.ask(4)
    scene.show(RuntimeError("a fault of ours"), bound=MODEST)
    scene.wait_inside(3)
    assert [str(failure) for failure in scene.failures] == ["a fault of ours"]


def test_all_get_through_whatever_is_seen() -> None:
    chance = random.Random(3)
    choices = [IDLE, BUSY, CROWDED, None, EngineUnreachable("gone")]

    def look() -> Load | None:
        seen = chance.choice(choices)
        if isinstance(seen, EngineUnreachable):
            raise seen
        return seen

    pacer = Pacer(look, maximum=8, pause_waiting=10, interval=0.001)

    def ask(number: int) -> int:
        with pacer.slot():
            return number

    assert list(threads.map_in_order(ask, range(500), width=12)) == list(range(500))


@contextmanager
def engine(waiting: int | None) -> Iterator[EngineClient]:
    """A real client of a server that says how many wait, if it says anything."""

    async def metrics(_: Request) -> PlainTextResponse:
        names = ["num_requests_running", "prompt_tokens_total", "generation_tokens_total"]
        lines = [f"vllm:{name} 1.0" for name in names]
        return PlainTextResponse("\n".join([*lines, f"vllm:num_requests_waiting {waiting}"]))

    routes = [] if waiting is None else [Route("/metrics", metrics)]
    with serving(Starlette(routes=routes)) as url, EngineClient(url, timeout=DEADLINE) as client:
        yield client


@pytest.mark.parametrize(("waiting", "bound"), [(0, 5), (1, 2), (9, 2), (None, 4)])
def test_over_http(waiting: int | None, bound: int) -> None:
    with engine(waiting) as client:
        pacer = Pacer(client.load, maximum=8, pause_waiting=10)
        with pacer.slot():
            assert pacer.limit == bound


def test_an_engine_that_is_gone_is_asked_all_the_same() -> None:
    with EngineClient(f"http://127.0.0.1:{free_port()}", timeout=5) as client:
        pacer = Pacer(client.load, maximum=8, pause_waiting=10)
        with pacer.slot():
            assert pacer.limit == MODEST


def test_side_by_side_and_in_order() -> None:
    together = threading.Barrier(3)

    def work(number: int) -> int:
        together.wait(DEADLINE)
        return number * 2

    assert list(threads.map_in_order(work, range(9), width=3)) == [
        number * 2 for number in range(9)
    ]
    assert list(threads.map_in_order(work, [], width=3)) == []


def test_work_comes_as_it_is_done_and_may_grow() -> None:
    slow, items, found = threading.Event(), deque([0, 1]), []

    def work(number: int) -> int:
        assert number or slow.wait(DEADLINE)
        return number * 2

    for item, result in threads.map_as_done(work, items, width=2):
        found.append((item, result))
        if item == 1:
            items.append(2)
        if item == 2:
            slow.set()
    assert found == [(1, 2), (2, 4), (0, 0)]


def test_a_failure_comes_out_and_nothing_more_is_started() -> None:
    done: list[int] = []

    def work(number: int) -> None:
        if number == 2:
            raise EngineUnreachable("gone")
        done.append(number)

    with pytest.raises(EngineUnreachable):
        list(threads.map_in_order(work, range(100), width=1))
    until(lambda: all(thread.name != "request" for thread in threading.enumerate()), "all end")
    assert 2 <= len(done) < 100


def test_work_under_way_keeps_no_process_from_ending() -> None:
    program = (
        "import threading\nfrom ttrl.engine import threads\n"
        "def work(number):\n"
        "    if number: threading.Event().wait()\n"
        "    return number\n"
        "print(next(threads.map_in_order(work, [0, 1, 2], width=3)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30
    )
    assert (done.stdout, done.stderr, done.returncode) == ("0\n", "", 0)
