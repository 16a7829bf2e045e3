"""What works against vLLM works against the gateway: odd but usual requests, in their wire form."""

from __future__ import annotations

import codecs
import json
import socket
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any
from urllib.parse import urlsplit

import pytest

from serve.gateway.app import says_its_end
from tests.house import House, asking, house
from tests.standin import DEADLINE, saying

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
    "content",
    [
        body(),
        codecs.BOM_UTF8 + body(),
        body(n=2.0, max_tokens="16"),
        body(n="4"),
    ],
)
def test_requests_that_vllm_takes(home: House, path: str, content: bytes) -> None:
    with home.http() as client:
        answer = client.post(path, content=content, headers={"content-type": "application/json"})
    assert answer.status_code == 200, answer.text
    (received,) = home.engine.received
    expected = json.loads(content.removeprefix(codecs.BOM_UTF8))
    assert received.body == {**expected, "model": "base-model"}
    assert home.texts() == ["What is 2 plus 2?"]


@pytest.mark.parametrize(
    "n", [0, 5, 1.5, "5", "5.0", "0_5", "0", "", "two", "1e9", "9" * 5000, True, [1], 1e300]
)
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
            answer = client.get(path)
            assert (answer.status_code, answer.content == b"") == (status, healthy)
        assert client.get("/version").json() == {"version": version("ttrl")}


def test_tokens_are_counted_and_nothing_is_recorded(home: House) -> None:
    with home.http() as client:
        path = "/v1/messages/count_tokens"
        assert client.post(path, json={"messages": asking()}).status_code == 200
        assert client.post(path, json={"messages": ["x" * 2000]}).status_code == 413
    assert home.texts() == []
    assert [received.path for received in home.engine.received] == [path]


def test_a_route_of_the_operators_may_end_in_a_slash() -> None:
    with house(gateway={"routes": ["/v1/own/"]}) as home, home.http() as client:
        assert client.post("/v1/own/", json={}).status_code == 200
        assert [received.path for received in home.engine.received] == ["/v1/own/"]


@pytest.mark.parametrize("stream", [False, True])
def test_http_1_0_knows_no_chunks(home: House, stream: bool) -> None:
    asked, url = body(stream=stream), urlsplit(home.url)
    head = f"POST {CHAT} HTTP/1.0\r\ncontent-type: application/json\r\nhost: localhost\r\n"
    with socket.create_connection((url.hostname, url.port), DEADLINE) as connection:
        connection.sendall(f"{head}content-length: {len(asked)}\r\n\r\n".encode() + asked)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    headers, _, content = answer.partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in headers
    assert content.startswith(b"data: {" if stream else b"{")
    assert content.endswith(b"data: [DONE]\n\n" if stream else b"}")
    assert home.texts() == ["What is 2 plus 2?"]


@pytest.mark.parametrize(
    ("path", "event", "failed"),
    [
        (CHAT, b'data: {"error": {"message": "it broke", "code": 500}}', True),
        (CHAT, b'data: {"choices": [{"text": "data: {\\"error\\"\\nevent: error\\n"}]}', False),
        ("/v1/messages", b'event: error\ndata: {"type":"error"}', True),
        ("/v1/messages", b'event: ping\ndata: {"text":"event: error\\n"}', False),
        ("/v1/responses", b"event: response.failed\ndata: {}", True),
        ("/v1/responses", b"event: response.completed\ndata: {}", False),
    ],
)
def test_an_error_in_a_stream_is_counted_and_not_learned_from(
    home: House, path: str, event: bytes, failed: bool
) -> None:
    stream = b'data: {"id": "1"}\n\n' + event + b"\n\ndata: [DONE]\n\n"
    home.engine.behave = saying(200, stream, "text/event-stream")
    asked = body(input="What is 2 plus 2?")
    with home.http() as client:
        answer = client.post(path, content=asked, headers={"content-type": "application/json"})
    assert answer.content == stream
    assert home.texts() == ([] if failed else ["What is 2 plus 2?"])
    assert home.tally.errors == ({"in_stream": 1} if failed else {})


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
