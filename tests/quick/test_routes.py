"""A request of another protocol asks what its chat form would, or says why it cannot be one."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttrl.questions.question import Question, Unlearnable
from ttrl.questions.routes import CHAT, MESSAGES, RESPONSES, question_in

TEXT, INPUT = ({"type": kind, "text": "Hi?"} for kind in ("text", "input_text"))
HI = {"role": "user", "content": "Hi?"}
SCHEMA = {"properties": {"city": {"type": "string"}}, "type": "object"}
FUNCTION = {"name": "weather", "description": "Of a city."}
TOOL = {"type": "function", "function": {**FUNCTION, "parameters": SCHEMA}}
NAMED = {"type": "function", "function": {"name": "weather"}}
CALLS = {
    "role": "assistant",
    "tool_calls": [
        {"id": "1", "type": "function", "function": {"name": "weather", "arguments": "{}"}},
    ],
}
RESULT = {"role": "tool", "tool_call_id": "1", "content": "Rain"}
USE = {"type": "tool_use", "id": "1", "name": "weather", "input": {}}
USED = {"type": "tool_result", "tool_use_id": "1", "content": [{"type": "text", "text": "Rain"}]}
CALL = {"type": "function_call", "call_id": "1", "name": "weather", "arguments": "{}"}
CALLED = {"type": "function_call_output", "call_id": "1", "output": "Rain"}
SAID = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "No"}]}
THOUGHT = {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "?"}]}


def question(route: str, request: dict[str, Any]) -> Question | Unlearnable:
    return question_in(route, request, max_chars=100)


def messages(*turns: dict[str, Any], **fields: Any) -> tuple[str, dict[str, Any]]:
    return MESSAGES, {"model": "m", "max_tokens": 9, "messages": list(turns), **fields}


def responses(asked: object, **fields: Any) -> tuple[str, dict[str, Any]]:
    return RESPONSES, {"model": "m", "max_output_tokens": 9, "input": asked, **fields}


def assistant(*blocks: dict[str, Any]) -> dict[str, Any]:
    return {"role": "assistant", "content": list(blocks)}


@pytest.mark.parametrize(
    ("asked", "turns", "fields"),
    [
        (messages({"role": "user", "content": [TEXT]}), [HI], {}),
        (messages(HI, system=""), [HI], {}),
        (
            messages(HI, system=[TEXT, {"type": "text", "text": "x-anthropic-billing-header: 7"}]),
            [{"role": "system", "content": "Hi?"}, HI],
            {},
        ),
        (
            messages({"role": "user", "content": [TEXT, {"type": "text", "text": ""}, TEXT]}),
            [{"role": "user", "content": [TEXT, TEXT]}],
            {},
        ),
        (messages(HI, temperature=0, min_p=1, stop_sequences=["x"]), [HI],
         {"temperature": 0, "stop": ["x"]}),
        (messages(HI, tools=[{**FUNCTION, "input_schema": {"properties": SCHEMA["properties"]},
                              "cache_control": {}}], tool_choice={"type": "auto"}), [HI],
         {"tools": [TOOL]}),
        (messages(HI, tools=[{**FUNCTION, "input_schema": SCHEMA}], tool_choice={"type": "any"}),
         [HI], {"tools": [TOOL], "tool_choice": "required"}),
        (messages(HI, tools=[{**FUNCTION, "input_schema": SCHEMA}],
                  tool_choice={"type": "tool", "name": "weather"}),
         [HI], {"tools": [TOOL], "tool_choice": NAMED}),
        (messages(HI, thinking={"type": "enabled", "budget_tokens": 5}), [HI],
         {"thinking_token_budget": 5}),
        (messages(HI, output_config={"effort": "low", "format": {"type": "json_schema",
                                                                  "schema": SCHEMA}}), [HI],
         {"reasoning_effort": "low", "response_format": {
             "type": "json_schema", "json_schema": {"name": "json_schema", "schema": SCHEMA}}}),
        (messages(HI, assistant({"type": "thinking", "thinking": "?"}, USE),
                  {"role": "user", "content": [USED]}),
         [HI, {**CALLS, "reasoning": "?"}, RESULT], {}),
        (messages(HI, assistant(TEXT, USE), {"role": "user", "content": [TEXT, USED]}),
         [HI, {**CALLS, "content": "Hi?"}, RESULT, HI], {}),
        (responses("Hi?"), [HI], {}),
        (responses([{"type": "message", "role": "user", "content": [INPUT]}]), [HI], {}),
        (responses([HI, SAID, HI], instructions="Be."),
         [{"role": "system", "content": "Be."}, HI, {"role": "assistant", "content": "No"}, HI],
         {}),
        (responses("Hi?", temperature=0, min_p=1, max_tokens=3), [HI],
         {"temperature": 0, "min_p": 1}),
        (responses("Hi?", tools=[{"type": "function", **FUNCTION, "parameters": SCHEMA}],
                   tool_choice={"type": "function", "name": "weather"}),
         [HI], {"tools": [TOOL], "tool_choice": NAMED}),
        (responses("Hi?", text={"format": {"type": "json_object"}}, reasoning={"effort": "low"}),
         [HI], {"response_format": {"type": "json_object"}, "reasoning_effort": "low"}),
        (responses([HI, THOUGHT, SAID, CALL, CALLED]),
         [HI, {**CALLS, "reasoning": "?", "content": "No"}, RESULT], {}),
        (responses([HI, SAID, SAID, CALL, {**CALLED, "output": [{**INPUT, "text": "Rain"}]}]),
         [HI, {"role": "assistant", "content": "No"}, {**CALLS, "content": "No"}, RESULT], {}),
    ],
)  # fmt: skip
def test_the_same_question_as_in_chat(asked, turns, fields):
    chat = question(CHAT, {"messages": turns, "max_tokens": 9, **fields})
    found = question(*asked)
    assert isinstance(found, Question)
    assert found == chat
    assert found.sampling == chat.sampling


IMAGE = {"role": "user", "content": [{"type": "image", "source": {}}]}


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (("/v1/embeddings", {"messages": [HI]}), Unlearnable.NOT_CHAT),
        ((MESSAGES, {}), Unlearnable.MALFORMED),
        (messages({"role": "user"}), Unlearnable.MALFORMED),
        (messages({"role": "user", "content": ["Hi?"]}), Unlearnable.MALFORMED),
        (messages({"role": "system", "content": "x"}, HI), Unlearnable.NO_CHAT_FORM),
        (messages(HI, thinking={"type": "disabled"}), Unlearnable.NO_CHAT_FORM),
        (messages(HI, tools=[{"type": "web_search_1", "name": "x"}]), Unlearnable.NO_CHAT_FORM),
        (messages(IMAGE), Unlearnable.NOT_TEXT),
        (messages(HI, {"role": "assistant", "content": "It"}), Unlearnable.NO_QUESTION),
        (messages({"role": "user", "content": " "}), Unlearnable.NO_QUESTION),
        (messages({"role": "user", "content": "x" * 101}), Unlearnable.TOO_LONG),
        ((RESPONSES, {}), Unlearnable.MALFORMED),
        (responses([]), Unlearnable.MALFORMED),
        (responses([HI, SAID]), Unlearnable.NO_QUESTION),
        (responses("Hi?", previous_response_id="resp_1"), Unlearnable.UNKNOWN_CONTEXT),
        (responses("Hi?", conversation="conv_1"), Unlearnable.UNKNOWN_CONTEXT),
        (responses([{"type": "item_reference", "id": "1"}, HI]), Unlearnable.UNKNOWN_CONTEXT),
        (responses("Hi?", background=True), Unlearnable.NO_CHAT_FORM),
        (responses("Hi?", tools=[{"type": "web_search"}]), Unlearnable.NO_CHAT_FORM),
        (responses([HI, {"type": "web_search_call", "id": "1"}, HI]), Unlearnable.NO_CHAT_FORM),
        (responses([HI, {**THOUGHT, "encrypted_content": "x"}, HI]), Unlearnable.NO_CHAT_FORM),
        (responses([HI, {**SAID, "content": SAID["content"] * 2}, HI]), Unlearnable.NO_CHAT_FORM),
        (responses([{"role": "user", "content": [{"type": "input_image"}]}]), Unlearnable.NOT_TEXT),
    ],
)
def test_what_has_no_chat_form_says_why(asked, reason):
    assert question(*asked) is reason


WORDS = st.sampled_from(
    ["user", "assistant", "tool", "text", "tool_use", "tool_result", "message", "reasoning", "Hi?",
     "function_call", "function_call_output", "input_text", "json_schema", "function", ""]
)  # fmt: skip
KEYS = st.sampled_from(
    ["role", "content", "type", "text", "name", "id", "call_id", "tool_use_id", "arguments",
     "output", "summary", "thinking", "parameters", "input_schema", "format", "schema", "input"]
)  # fmt: skip
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | WORDS,
    lambda of: st.lists(of, max_size=3) | st.dictionaries(KEYS, of, max_size=4),
)
FIELDS = st.sampled_from(
    ["messages", "system", "input", "instructions", "tools", "tool_choice", "text", "reasoning",
     "thinking", "output_config", "stop", "max_tokens"]
)  # fmt: skip


@given(route=st.sampled_from([MESSAGES, RESPONSES]), request_=st.dictionaries(FIELDS, ANYTHING))
def test_whatever_comes_is_a_question_or_has_a_reason(route, request_):
    assert isinstance(question(route, request_), Question | Unlearnable)
