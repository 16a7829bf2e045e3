"""What vLLM makes of requests in other protocols is what we record of them."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from serve.gateway.app import ANSWER_ID, says_its_end
from tests.contract.served import BASE, Served
from ttrl.questions.question import Question
from ttrl.questions.routes import CHAT, MESSAGES, RESPONSES, question_in

HI = {"role": "user", "content": "Rain?"}
RAIN = {"type": "text", "text": "Rain"}
USE = {"type": "tool_use", "id": "1", "name": "sky", "input": {}}
USED = {"type": "tool_result", "tool_use_id": "1", "content": [RAIN, RAIN]}
CALL = {"type": "function_call", "call_id": "1", "name": "sky", "arguments": "{}"}
CALLED = {"type": "function_call_output", "call_id": "1", "output": "Rain"}
SAID = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "No"}]}
ASKED: list[tuple[str, dict[str, Any]]] = [
    (MESSAGES, {"messages": [HI], "system": [RAIN, RAIN]}),
    (MESSAGES, {"messages": [{"role": "user", "content": [RAIN, RAIN]}]}),
    (MESSAGES, {"messages": [HI, {"role": "assistant", "content": [RAIN, USE]},
                             {"role": "user", "content": [RAIN, USED]}]}),
    (RESPONSES, {"input": "Rain?", "instructions": "Be brief."}),
    (RESPONSES, {"input": [HI, SAID, {"role": "user", "content": [
        {"type": "input_text", "text": "Why?"}, {"type": "input_text", "text": "How?"}]}]}),
    (RESPONSES, {"input": [HI, SAID, CALL, CALLED]}),
]  # fmt: skip


@pytest.mark.parametrize(("route", "request_"), ASKED)
def test_a_prompt_is_the_same_by_its_chat_form(
    engine: Served, route: str, request_: dict[str, Any]
) -> None:
    if engine.kind != "vllm":
        pytest.skip("the embedded engine speaks chat alone")
    length = "max_tokens" if route == MESSAGES else "max_output_tokens"
    asked = {"model": BASE, "temperature": 0, length: 12, **request_}
    question = question_in(route, asked, max_chars=1000)
    assert isinstance(question, Question)
    as_chat = {"model": BASE, **question.body, **(question.sampling or {})}
    answer, chat = (
        httpx2.post(f"{engine.url}{path}", json=body, timeout=60).raise_for_status().json()
        for path, body in ((route, asked), (CHAT, as_chat))
    )
    said = answer["content"][0] if route == MESSAGES else answer["output"][0]["content"][0]
    assert said["text"] == chat["choices"][0]["message"]["content"]
    assert answer["usage"]["input_tokens"] == chat["usage"]["prompt_tokens"]
    asked["stream"] = True
    streamed = httpx2.post(f"{engine.url}{route}", json=asked, timeout=60).content
    assert ANSWER_ID.match(streamed)
    assert says_its_end(route, streamed[-4000:])
