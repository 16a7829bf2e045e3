"""What works against vLLM works against the gateway: odd but usual requests, in their wire form."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from typing import Any

import pytest

from serve.gateway.app import says_its_end
from tests.house import House, asking, house

CHAT = "/v1/chat/completions"
PAGE = "https://chat.example.org"


@pytest.fixture(scope="module")
def running() -> Iterator[House]:
    with house(gateway={"cors": [PAGE], "max_n": 4, "max_body": 2000}) as started:
        yield started


@pytest.fixture
def home(running: House) -> House:
    running.clear()
    return running


def body(**more: Any) -> bytes:
    return json.dumps({"model": "demo", "messages": asking(), **more}).encode()


@pytest.mark.parametrize("path", [CHAT, f"{CHAT}/"])
@pytest.mark.parametrize(
    "content", [body(), codecs.BOM_UTF8 + body(), body(n=2.0, max_tokens="16"), body(n="4")]
)
def test_requests_that_vllm_takes(home: House, path: str, content: bytes) -> None:
    with home.http() as client:
        answer = client.post(path, content=content, headers={"content-type": "application/json"})
    assert answer.status_code == 200, answer.text
    (received,) = home.engine.received
    expected = json.loads(content.removeprefix(codecs.BOM_UTF8))
    assert received.body == {**expected, "model": "base-model"}
    assert home.texts() == ["What is 2 plus 2?"]


@pytest.mark.parametrize("n", [0, 5, 1.5, "5", "0", "", "two", "1e9", "9" * 5000, True, [1], 1e300])
def test_bounds_hold_however_a_number_is_written(home: House, n: object) -> None:
    with home.http() as client:
        answer = client.post(CHAT, json={"model": "demo", "messages": [], "n": n})
    assert answer.status_code in (400, 413)
    assert not home.engine.received


@pytest.mark.parametrize(
    ("request_body", "status", "says"),
    [
        ({"model": "gpt-9"}, 404, "serves demo"),
        ({"model": "demo", "x": "y" * 3000}, 413, "gateway.max_body"),
    ],
)
def test_a_refusal_says_what_to_do(
    home: House, request_body: dict[str, Any], status: int, says: str
) -> None:
    with home.http() as client:
        answer = client.post(CHAT, json=request_body)
    assert answer.status_code == status
    assert says in answer.json()["error"]["message"]


@pytest.mark.parametrize("path", ["/health", "/ping"])
def test_vllms_ways_to_ask_whether_it_is_well(home: House, path: str) -> None:
    with home.http() as client:
        for healthy, status in ((True, 200), (False, 503)):
            home.engine.healthy = healthy
            assert client.get(path).status_code == status


def test_pages_of_the_origins_that_may_ask(home: House) -> None:
    ask = {"access-control-request-method": "POST", "access-control-request-headers": "x-own"}
    with home.http() as client:
        for origin, allowed in ((PAGE, PAGE), ("https://evil.example", None)):
            before = client.options(CHAT, headers={"origin": origin, **ask})
            answer = client.post(CHAT, content=body(), headers={
                "origin": origin, "content-type": "application/json",
            })  # fmt: skip
            for each in (before, answer):
                assert each.headers.get("access-control-allow-origin") == allowed
    with house() as closed, closed.http() as client:
        before = client.options(CHAT, headers={"origin": PAGE, **ask})
        assert "access-control-allow-origin" not in before.headers


@pytest.mark.parametrize(
    ("path", "stream"),
    [
        (CHAT, b'data: {"id": "1"}\n\ndata: [DONE]\n\n'),
        ("/v1/messages", b'event: message_stop\ndata: {"type":"message_stop"}\n\n'),
        ("/v1/responses", b'event: response.completed\ndata: {"type":"response.completed"}\n\n'),
    ],
)
def test_who_hangs_up_after_the_last_event_has_the_whole_answer(path: str, stream: bytes) -> None:
    assert says_its_end(path, stream)
    assert not says_its_end(path, b'data: {"text": "event: message_stop [DONE]"}\n\n')
