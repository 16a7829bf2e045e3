"""Bad requests: each gets a status and an error in the one shape, and the engine goes on."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from tests.contract.served import BASE, MAX_MODEL_LEN, Served, greedy_text
from ttrl.engine.client import EngineClient, EngineRefused
from ttrl.engine.samples import Sampling
from ttrl.questions.question import from_prompt

CHAT, COMPLETION = "/v1/chat/completions", "/v1/completions"
MESSAGES = [{"role": "user", "content": "what is one plus two?"}]
LONG = [{"role": "user", "content": "ab" * MAX_MODEL_LEN}]
HUGE = [{"role": "user", "content": "ab" * 1_000_000}]

BAD_REQUESTS = [
    (CHAT, {"model": "nobody", "messages": MESSAGES}, 404),
    (COMPLETION, {"model": "nobody", "prompt": "hello"}, 404),
    (CHAT, {"messages": MESSAGES, "n": 0}, 400),
    (CHAT, {"messages": MESSAGES, "n": 100_000}, 400),
    (CHAT, {"messages": MESSAGES, "n": "many"}, 400),
    (CHAT, {"messages": MESSAGES, "n": 2, "temperature": 0}, 400),
    (CHAT, {"messages": MESSAGES, "temperature": -1}, 400),
    (CHAT, {"messages": MESSAGES, "temperature": 9}, 400),
    (CHAT, {"messages": MESSAGES, "temperature": "hot"}, 400),
    (CHAT, {"messages": MESSAGES, "top_p": 0}, 400),
    (CHAT, {"messages": MESSAGES, "top_p": 1.5}, 400),
    (CHAT, {"messages": MESSAGES, "min_p": -0.1}, 400),
    (CHAT, {"messages": MESSAGES, "max_tokens": 0}, 400),
    (CHAT, {"messages": MESSAGES, "max_tokens": MAX_MODEL_LEN + 1}, 400),
    (CHAT, {"messages": MESSAGES, "stop": [7]}, 400),
    (CHAT, {"messages": MESSAGES, "seed": 2**70}, 400),
    (CHAT, {"messages": MESSAGES, "top_logprobs": 2}, 400),
    (CHAT, {"messages": MESSAGES, "stream_options": {"include_usage": True}}, 400),
    (CHAT, {"messages": "hello"}, 400),
    (CHAT, {"messages": [7]}, 400),
    (CHAT, {"messages": [{"content": "hello"}]}, 400),
    (CHAT, {}, 400),
    (CHAT, {"messages": MESSAGES, "chat_template": "{{ messages }}"}, 400),
    (CHAT, {"messages": MESSAGES, "chat_template_kwargs": {"chat_template": "{{ 1 }}"}}, 400),
    (CHAT, {"messages": LONG}, 400),
    (CHAT, {"messages": HUGE}, 400),
    (COMPLETION, {"prompt": [1] * (MAX_MODEL_LEN + 1)}, 400),
    (COMPLETION, {"prompt": "hello", "max_tokens": "few"}, 400),
    (COMPLETION, {"prompt": ""}, 400),
    (COMPLETION, {}, 400),
    ("/v1/load_lora_adapter", {"lora_name": "x"}, 400),
    ("/v1/unload_lora_adapter", {}, 400),
]


def check_error(response: httpx2.Response, status: int) -> None:
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    assert isinstance(error["type"], str)
    assert error["code"] == status


@pytest.mark.parametrize(
    ("path", "body", "status"),
    BAD_REQUESTS,
    ids=[f"{number}-{path[4:]}" for number, (path, _, _) in enumerate(BAD_REQUESTS)],
)
def test_a_bad_request_is_refused(
    engine: Served, path: str, body: dict[str, Any], status: int
) -> None:
    response = httpx2.post(engine.url + path, json={"model": BASE, **body}, timeout=60)
    check_error(response, status)


def test_an_unknown_path_is_not_found(engine: Served) -> None:
    assert httpx2.post(f"{engine.url}/v1/nothing/here", json={}).status_code == 404


def test_what_is_no_text_is_refused(engine: Served) -> None:
    headers = {"content-type": "application/json"}
    response = httpx2.post(engine.url + CHAT, content=b"\xff", headers=headers)
    assert response.status_code == 400


@pytest.mark.parametrize("content", [b"{", b"", b"[]", b'"text"', b'{"n": NaN}'])
def test_what_is_no_json_object_is_refused(engine: Served, content: bytes) -> None:
    headers = {"content-type": "application/json"}
    check_error(httpx2.post(engine.url + CHAT, content=content, headers=headers), 400)


def test_it_answers_after_all_that(client: EngineClient) -> None:
    assert client.healthy()
    assert greedy_text(client, from_prompt("two plus two?"), 5)


def test_the_client_says_what_was_refused_and_quotes_nobody(client: EngineClient) -> None:
    question = from_prompt("my secret is a canary")
    with pytest.raises(EngineRefused) as caught:
        client.sample(question, model="nobody", n=1, sampling=Sampling(max_tokens=5))
    assert caught.value.status == 404
    assert "nobody" in str(caught.value)
    assert "canary" not in str(caught.value)
