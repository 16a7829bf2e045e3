"""Engines that fail, clients that leave, stores that hang: each side sees only what it must."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import httpx2
import pytest
from starlette.testclient import TestClient
from starlette.types import Receive, Send

from serve.gateway.app import Gateway
from serve.gateway.live import Live, Target
from serve.gateway.recorder import Recorder
from tests.house import House, asking, house, until
from tests.standin import (
    DEADLINE,
    Gate,
    at_once,
    dying_after,
    event,
    free_port,
    hanging,
    hanging_up,
    head,
    saying,
    streaming,
)
from ttrl.config import Config
from ttrl.metrics import Metrics
from ttrl.questions.question import Unlearnable
from ttrl.store.questions import Recorded

CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def running() -> Iterator[House]:
    with house() as started:
        yield started


@pytest.fixture
def home(running: House) -> House:
    running.clear()
    running.live.flip("ttrl-1")
    return running


def nothing_learned(home: House, reason: Unlearnable) -> None:
    assert home.texts() == []
    assert home.tally.skips == {reason: 1}


def test_nothing_goes_to_an_engine_that_has_not_got_the_live_version_again(home: House) -> None:
    home.live.open = False
    try:
        with home.http() as client:
            answer = client.post(CHAT, json={"messages": asking()})
    finally:
        home.live.open = True
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert home.engine.received == []
    nothing_learned(home, Unlearnable.INCOMPLETE)


@pytest.mark.fault("there is no engine", sees="503 with Retry-After", keeps="everything")
def test_no_engine_is_a_503_that_says_when_to_come_back() -> None:
    with house(engine_url=f"http://127.0.0.1:{free_port()}") as home, home.http() as client:
        answer = client.post(CHAT, json={"messages": asking()})
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "5"
        assert answer.headers["x-ttrl-adapter"] == "base"
        assert answer.json()["error"]["type"] == "server_error"
        assert client.get("/healthz").status_code == 200
        assert client.get("/readyz").status_code == 503
        assert home.tally.errors == {"unreachable": 1}
        nothing_learned(home, Unlearnable.INCOMPLETE)


@pytest.mark.fault(
    "the engine hangs up without an answer",
    sees="502",
    keeps="everything; the question is not recorded",
)
def test_an_engine_that_hangs_up_is_a_502(openai) -> None:
    with hanging_up() as url, house(engine_url=url) as home, home.client() as client:
        with pytest.raises(openai.InternalServerError) as error:
            client.chat.completions.create(model="demo", messages=asking())
        assert error.value.status_code == 502
        assert home.tally.errors == {"broke_off": 1}
        nothing_learned(home, Unlearnable.INCOMPLETE)


@pytest.mark.fault(
    "the engine dies in the midst of a stream",
    sees="a stream that is seen to be cut",
    keeps="everything; the question is not recorded",
)
def test_an_engine_that_dies_mid_stream_cuts_the_stream(home: House) -> None:
    home.engine.behave = dying_after(["one", "two"])
    got: list[bytes] = []
    with home.http() as client, client.stream("POST", CHAT, json={"messages": asking()}) as answer:
        assert answer.status_code == 200
        with pytest.raises(httpx2.RemoteProtocolError):
            got.extend(answer.iter_raw())
    model = {"model": "ttrl-1"}
    assert b"".join(got) == event(model, "one") + event(model, "two")
    assert home.tally.errors == {"cut": 1}
    assert home.tally.requests == {"5xx": 1}, "no success, whatever its first line said"
    nothing_learned(home, Unlearnable.INCOMPLETE)


def test_the_real_client_notices_a_cut_stream(home: House, openai) -> None:
    home.engine.behave = dying_after(["one"])
    with home.client() as client:
        stream = client.chat.completions.create(model="demo", messages=asking(), stream=True)
        assert next(stream).choices[0].delta.content == "one"
        with pytest.raises((openai.APIError, httpx2.RemoteProtocolError)):
            list(stream)


def test_the_engines_own_errors_pass_unchanged(home: House) -> None:
    said = b'{"error": {"message": "too long",  "type": "x", "param": null, "code": 400}}'
    home.engine.behave = saying(400, said, "application/json")
    with home.http() as client:
        answer = client.post(CHAT, json={"messages": asking()})
    assert (answer.status_code, answer.content) == (400, said)
    assert answer.headers["x-ttrl-adapter"] == "ttrl-1"
    nothing_learned(home, Unlearnable.ENGINE_REFUSED)


@pytest.mark.fault(
    "the engine answers with an error that is not JSON",
    sees="the error's status, in OpenAI's shape",
    keeps="everything",
)
@pytest.mark.parametrize(("status", "seen"), [(500, 500), (418, 418), (302, 400)])
def test_errors_that_are_not_json_are_put_in_shape(home: House, status: int, seen: int) -> None:
    home.engine.behave = saying(status, b"<h1>Ouch: 2 plus 2</h1>", "text/html")
    with home.http() as client:
        answer = client.post(CHAT, json={"messages": asking()})
    assert answer.status_code == seen
    assert answer.json()["error"]["code"] == "not_json"
    assert b"Ouch" not in answer.content
    assert home.tally.errors == {"not_json": 1}


@pytest.mark.fault(
    "something else than an engine answers",
    sees="what it said",
    keeps="everything; the question is not recorded",
)
def test_a_page_instead_of_an_answer_teaches_nothing(home: House) -> None:
    home.engine.behave = saying(200, b"<h1>Welcome</h1>", "text/html")
    with home.http() as client:
        assert client.post(CHAT, json={"messages": asking()}).content == b"<h1>Welcome</h1>"
    nothing_learned(home, Unlearnable.ENGINE_REFUSED)


def test_a_client_that_leaves_before_the_answer_ends_the_engines_work(home: House, openai) -> None:
    home.engine.behave = hanging
    with home.client() as client, pytest.raises(openai.APITimeoutError):
        client.chat.completions.create(model="demo", messages=asking(), timeout=0.5)
    assert home.engine.aborted.wait(DEADLINE)
    nothing_learned(home, Unlearnable.INCOMPLETE)
    assert home.tally.requests == {"4xx": 1}
    assert home.tally.aborts == 1
    assert home.live.in_flight("ttrl-1") == 0


def test_a_client_that_leaves_when_its_stream_has_said_that_it_is_done_was_answered(
    home: House,
) -> None:
    """The real client does: it does not wait for the end of the connection's message."""
    gate = Gate()

    async def behave(body: dict[str, Any], receive: Receive, send: Send) -> None:
        await head(send, 200, "text/event-stream")
        last = event(body, "4") + b"data: [DONE]\n\n"
        await send({"type": "http.response.body", "body": last, "more_body": True})
        await gate.passed()
        await send({"type": "http.response.body", "body": b""})

    home.engine.behave = behave
    with home.http() as client:
        with client.stream("POST", CHAT, json={"messages": asking(), "stream": True}) as answer:
            assert b"[DONE]" in next(answer.iter_raw())
        for _ in range(5):  # by then the gateway has seen that the client is gone
            assert client.get("/healthz").is_success
    gate.open()
    assert home.texts() == [asking()[0]["content"]]
    assert (home.tally.aborts, home.tally.requests) == (0, {"2xx": 1})


@pytest.mark.fault(
    "the engine sends half an event, or something else than events",
    sees="what it sent",
    keeps="everything",
)
@pytest.mark.parametrize("said", [b'data: {"cho', b"\xff\x00 no event", b""])
def test_rubbish_in_a_stream_passes_as_it_came(home: House, said: bytes) -> None:
    home.engine.behave = saying(200, said, "text/event-stream")
    with home.http() as client:
        for _ in range(2):
            asked = {"messages": asking(), "stream": True}
            assert client.post(CHAT, json=asked).content == said
        assert client.get("/healthz").status_code == 200


@pytest.mark.fault(
    "a client leaves before its answer ends",
    sees="others nothing",
    keeps="everything; the engine's work for it ends",
)
def test_a_client_that_leaves_mid_stream_ends_the_engines_work(home: House) -> None:
    home.engine.behave = streaming(["one", "two"], [Gate()])
    with home.client() as client:
        stream = client.chat.completions.create(model="demo", messages=asking(), stream=True)
        next(stream)
        assert home.live.in_flight("ttrl-1") == 1
        stream.close()
    assert home.engine.aborted.wait(DEADLINE)
    nothing_learned(home, Unlearnable.INCOMPLETE)
    assert home.live.in_flight("ttrl-1") == 0


@pytest.mark.fault(
    "an answer takes longer than it may",
    sees="504, or a cut stream",
    keeps="everything; the engine's work for it ends",
)
def test_an_engine_that_hangs_is_given_up_at_the_deadline() -> None:
    with house(deadline_seconds=0.5) as home, home.http() as client:
        home.engine.behave = hanging
        answer = client.post(CHAT, json={"messages": asking()})
        assert answer.status_code == 504
        assert answer.json()["error"]["code"] == "timed_out"
        assert home.engine.aborted.wait(DEADLINE)

        home.engine.behave = streaming(["one", "two"], [Gate()])
        with client.stream("POST", CHAT, json={"messages": asking()}) as answer:
            assert answer.status_code == 200
            with pytest.raises(httpx2.RemoteProtocolError):
                answer.read()
        assert home.texts() == []
        assert home.tally.errors == {"timed_out": 2}
        assert home.tally.requests == {"5xx": 2}, "cut or not"


@pytest.mark.fault("a client reads slowly", sees="all of its answer", keeps="everything")
def test_a_slow_reader_gets_everything(home: House) -> None:
    pieces = ["x" * 60_000] * 400
    home.engine.behave = streaming(pieces)
    with home.http() as client, client.stream("POST", CHAT, json={"messages": asking()}) as answer:
        assert home.engine.arrived.wait(DEADLINE)
        chunks = answer.iter_raw()
        next(chunks)
        assert home.tally.under_way == 1
        rest = b"".join(chunks)
    assert rest.endswith(b"data: [DONE]\n\n")
    assert len(home.texts()) == 1


@pytest.mark.fault(
    "the store does not answer", sees="nothing", keeps="as many questions as the queue holds"
)
def test_a_stuck_store_delays_nobody() -> None:
    stuck = threading.Event()
    stored: list[Recorded] = []

    def write(batch: Sequence[Recorded]) -> None:
        assert stuck.wait(DEADLINE)
        stored.extend(batch)

    with house(write=write, capacity=5) as home, home.client() as client:
        for number in range(20):
            client.chat.completions.create(model="demo", messages=asking(str(number)), timeout=5)
        until(lambda: home.tally.requests == {"2xx": 20}, "all answers are out")
        dropped = home.tally.skips[Unlearnable.QUEUE_FULL]
        assert not stored
        assert dropped
        stuck.set()
        home.settle()
    assert len(stored) == 20 - dropped
    assert len(stored) >= 5


class Broken(Live):
    """Has a defect that talks about the user's words."""

    def target(self, requested_model: object) -> Target | None:
        raise KeyError("the user's secret")


@pytest.mark.fault(
    "a defect of ours",
    sees="500 in OpenAI's shape",
    keeps="everything; no word of a user's is in the log",
)
def test_a_defect_of_ours_is_a_500_without_the_users_words(
    caplog: pytest.LogCaptureFixture,
) -> None:
    live = Broken("demo", "m")
    gateway = Gateway(Config(), "http://engine", live, Recorder(list), Metrics()).app()
    with TestClient(gateway, base_url="http://localhost") as client, caplog.at_level(logging.INFO):
        answer = client.post(CHAT, json={"messages": asking()})
    assert answer.status_code == 500
    assert answer.json()["error"]["type"] == "server_error"
    said = answer.text + "\n".join(record.getMessage() for record in caplog.records)
    assert "KeyError" in said
    assert "test_gateway_faults.py" in said
    assert "secret" not in said
    assert all(record.exc_info is None for record in caplog.records)


def test_after_every_fault_it_still_answers(home: House, openai) -> None:
    home.engine.behave = dying_after([])
    with home.client() as client:
        with pytest.raises(openai.APIError):
            client.chat.completions.create(model="demo", messages=asking())
        home.engine.behave = at_once()
        answer = client.chat.completions.create(model="demo", messages=asking())
    assert answer.choices[0].message.content == "4"
