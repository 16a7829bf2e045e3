"""Which question a request asks, by the route that it came on: chat requests as they are, those of
Anthropic's Messages and OpenAI's Responses as the chat request that vLLM (0.32) makes of them.

Runs ask again by chat requests: a request whose prompt would be another one there is not learned
from. Fields that the engine ignores on a route are ignored here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ttrl.questions.question import Question, Unlearnable, from_request

CHAT, MESSAGES, RESPONSES = "/v1/chat/completions", "/v1/messages", "/v1/responses"

Json = dict[str, Any]

MESSAGES_FIELDS = (
    "max_tokens", "stop_sequences", "temperature", "top_p", "top_k", "watermarking",
    "chat_template_kwargs",
)  # fmt: skip
RESPONSES_FIELDS = (
    "max_output_tokens", "stop", "stop_token_ids", "temperature", "top_p", "top_k", "min_p",
    "presence_penalty", "frequency_penalty", "repetition_penalty", "ignore_eos", "logit_bias",
    "include_stop_str_in_output", "skip_special_tokens", "watermarking", "structured_outputs",
    "chat_template_kwargs",
)  # fmt: skip
IN_CHAT = {"stop_sequences": "stop", "max_output_tokens": "max_tokens"}
"""What fields are called in a chat request, if not the same."""
ELSEWHERE = (
    "previous_response_id", "previous_response", "previous_input_messages", "conversation",
    "prompt",
)  # fmt: skip
"""Fields of Responses that name a context which is not in the request."""
MEDIA = frozenset(
    {"image", "document", "search_result", "input_image", "input_file", "input_audio"}
)
BILLING = "x-anthropic-billing-header"
"""A system block of Claude Code's that differs in each request; vLLM drops it."""


class _Cannot(Exception):
    def __init__(self, reason: Unlearnable) -> None:
        self.reason = reason


def question_in(
    route: str, request: Mapping[str, Any], *, max_chars: int
) -> Question | Unlearnable:
    if (as_chat := FORMS.get(route)) is None:
        return Unlearnable.NOT_CHAT
    try:
        chat = as_chat(request)
    except _Cannot as cannot:
        return cannot.reason
    return from_request(chat, max_chars=max_chars)


def _from_messages(request: Mapping[str, Any]) -> Json:
    chat = _fields(request, MESSAGES_FIELDS)
    messages = chat["messages"] = list[Json]()
    match request.get("system"):
        case str(text):
            rules = [text]
        case [*blocks]:
            rules = [text for text in map(_text, blocks) if not text.startswith(BILLING)]
        case _:
            rules = []
    if any(rules):
        messages.append({"role": "system", "content": "".join(rules)})
    for message in _list(request.get("messages")):
        match message:
            case {"role": "user" | "assistant" as role, "content": str(text)}:
                messages.append({"role": role, "content": text})
            case {"role": "user", "content": [*blocks]}:
                messages += _user_messages(blocks)
            case {"role": "assistant", "content": [*blocks]}:
                messages.append(_assistant_message(blocks))
            case {"role": "system"}:  # it depends on the template where the engine puts it
                raise _Cannot(Unlearnable.NO_CHAT_FORM)
            case _:
                raise _Cannot(Unlearnable.MALFORMED)
    if tools := request.get("tools"):
        chat["tools"] = [_tool(tool, "input_schema") for tool in _list(tools)]
        for tool in chat["tools"]:
            tool["function"]["parameters"].setdefault("type", "object")
        match request.get("tool_choice"):
            case {"type": "tool", "name": str(name)}:
                chat["tool_choice"] = _named(name)
            case {"type": "any"}:
                chat["tool_choice"] = "required"
            case {"type": "none"}:
                chat["tool_choice"] = "none"
    match request.get("thinking"):
        case {"type": "enabled", "budget_tokens": budget}:
            chat["thinking_token_budget"] = budget
        case {"type": "disabled"}:  # it depends on the template what the engine makes of it
            raise _Cannot(Unlearnable.NO_CHAT_FORM)
    match output := request.get("output_config"):
        case {"format": {"type": "json_schema", "schema": {} as schema}}:
            named = {"name": "json_schema", "schema": schema}
            chat["response_format"] = {"type": "json_schema", "json_schema": named}
    match output:
        case {"effort": str(effort)}:
            chat["reasoning_effort"] = effort
    return chat


def _user_messages(blocks: list[Any]) -> list[Json]:
    """Return what tools gave back, and then what the user said, if anything."""
    results, texts = [], []
    for block in blocks:
        match block:
            case {"type": "tool_result", "tool_use_id": str(call)}:
                results.append(_tool_message(call, block.get("content")))
            case _:
                texts.append(_text(block))
    said = [text for text in texts if text]
    return [*results, *([{"role": "user", "content": _content(said)}] if said else [])]


def _assistant_message(blocks: list[Any]) -> Json:
    texts, thoughts, calls = list[str](), list[str](), list[Json]()
    for block in blocks:
        match block:
            case {"type": "thinking", "thinking": str(text)}:
                thoughts.append(text)
            case {"type": "redacted_thinking"}:
                pass
            case {"type": "tool_use", "id": str(call), "name": str(name)}:
                # Not escaped, so that what is said there is redacted and found as elsewhere.
                given = json.dumps(block.get("input") or {}, ensure_ascii=False)
                calls.append(_call(call, name, given))
            case _:
                texts.append(_text(block))
    texts = [text for text in texts if text]
    return {
        "role": "assistant",
        **({"content": _content(texts)} if texts else {}),
        **({"reasoning": "".join(thoughts)} if thoughts else {}),
        **({"tool_calls": calls} if calls else {}),
    }


def _from_responses(request: Mapping[str, Any]) -> Json:
    if any(request.get(name) is not None for name in ELSEWHERE):
        raise _Cannot(Unlearnable.UNKNOWN_CONTEXT)
    if request.get("background"):  # the answer comes on another request
        raise _Cannot(Unlearnable.NO_CHAT_FORM)
    chat = _fields(request, RESPONSES_FIELDS)
    messages = chat["messages"] = list[Json]()
    match request.get("instructions"):
        case str(text) if text:
            messages.append({"role": "system", "content": text})
    match request.get("input"):
        case str(text):
            messages.append({"role": "user", "content": text})
        case items:
            for item in _list(items):
                _add(messages, item)
    if tools := request.get("tools"):
        chat["tools"] = [_tool(tool, "parameters") for tool in _list(tools)]
        match request.get("tool_choice"):
            case "none" | "required" as choice:
                chat["tool_choice"] = choice
            case {"type": "function", "name": str(name)}:
                chat["tool_choice"] = _named(name)
            case None | "auto":
                pass
            case _:
                raise _Cannot(Unlearnable.NO_CHAT_FORM)
    match request.get("text"):
        case {"format": {"type": "json_object"}}:
            chat["response_format"] = {"type": "json_object"}
        case {"format": {"type": "json_schema", "schema": {}} as form}:
            named = {name: form[name] for name in ("name", "schema") if name in form}
            chat["response_format"] = {"type": "json_schema", "json_schema": named}
    match request.get("reasoning"):
        case {"effort": str(effort)}:
            chat["reasoning_effort"] = effort
    return chat


def _add(messages: list[Json], item: Any) -> None:
    """Add an item of an input; an answer, its reasoning and its calls become one message."""
    said = messages[-1] if messages and messages[-1]["role"] == "assistant" else None
    part: Json
    match item:
        case {"type": "item_reference"}:
            raise _Cannot(Unlearnable.UNKNOWN_CONTEXT)
        case {"type": "function_call_output", "call_id": str(call), "output": output}:
            messages.append(_tool_message(call, output))
            return
        case {"type": "function_call", "call_id": str(call), "name": str(name),
              "arguments": str(arguments)} if not item.get("namespace"):  # fmt: skip
            if said is not None and "tool_calls" in said:
                said["tool_calls"].append(_call(call, name, arguments))
                return
            part = {"tool_calls": [_call(call, name, arguments)]}
        case {"type": "reasoning"} if not item.get("encrypted_content"):
            match item.get("content") or item.get("summary"):
                case [{"text": str(text)}, *_]:
                    part = {"reasoning": text}
                case _:
                    part = {"reasoning": ""}
        case {"role": "assistant", "content": str(text) | [{"text": str(text)}]}:
            part = {"content": text}
        case {"role": "user" | "system" | "developer" as role, "content": str(text)}:
            messages.append({"role": role, "content": text})
            return
        case {"role": "user" | "system" | "developer" as role, "content": [*parts]}:
            messages.append({"role": role, "content": _content(list(map(_text, parts)))})
            return
        case _:
            raise _cannot(item)
    if said is None or part.keys() & said.keys():
        messages.append({"role": "assistant", **part})
    else:
        said.update(part)


def _fields(request: Mapping[str, Any], names: Sequence[str]) -> Json:
    given = (name for name in names if request.get(name) is not None)
    return {IN_CHAT.get(name, name): request[name] for name in given}


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise _Cannot(Unlearnable.MALFORMED)
    return value


def _text(block: Any) -> str:
    match block:
        case {"type": "text" | "input_text", "text": str(text)}:
            return text
        case _:
            raise _cannot(block)


def _cannot(block: Any) -> _Cannot:
    match block:
        case {"type": str(kind)}:
            return _Cannot(Unlearnable.NOT_TEXT if kind in MEDIA else Unlearnable.NO_CHAT_FORM)
        case _:
            return _Cannot(Unlearnable.MALFORMED)


def _content(texts: list[str]) -> Any:
    return texts[0] if len(texts) == 1 else [{"type": "text", "text": text} for text in texts]


def _tool_message(call: str, output: Any) -> Json:
    text = "\n".join(map(_text, output)) if isinstance(output, list) else output or ""
    return {"role": "tool", "tool_call_id": call, "content": text}


def _call(call: str, name: str, arguments: str) -> Json:
    function = {"name": name, "arguments": arguments}
    return {"id": call, "type": "function", "function": function}


def _tool(tool: Any, schema: str) -> Json:
    """Return a function in chat's form; what only a server can call has none."""
    if not isinstance(tool, dict) or not isinstance(tool.get(schema), dict):
        raise _Cannot(Unlearnable.NO_CHAT_FORM)
    named = ("name", "description", "strict", "defer_loading")
    function = {name: tool[name] for name in named if tool.get(name) is not None}
    return {"type": "function", "function": {**function, "parameters": dict(tool[schema])}}


def _named(name: str) -> Json:
    return {"type": "function", "function": {"name": name}}


FORMS: Mapping[str, Callable[[Mapping[str, Any]], Mapping[str, Any]]] = {
    CHAT: lambda request: request,
    MESSAGES: _from_messages,
    RESPONSES: _from_responses,
}
"""The routes whose requests are learned from."""
