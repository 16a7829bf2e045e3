"""Request bodies read and checked: what a client may ask, and how a refusal says what is wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import TemplateError

from ttrl.engine.embedded.fields import Refusal, flag, is_whole, real, whole
from ttrl.engine.embedded.text import Language
from ttrl.engine.embedded.work import Order

MAX_ANSWERS = 256
MAX_PROMPTS = 256
MAX_ALTERNATIVES = 20
INT64 = 2**63
SMALLEST = 1e-9

SHAPING = ("tools", "documents", "add_generation_prompt", "continue_final_message")
"""Fields of a chat request that go to the template as they are."""

TEMPLATE_OURS = frozenset({"chat_template", "tokenize", "return_dict", "return_tensors"})
"""What a client must not slip to the tokenizer: a template is a program."""

NEUTRAL: Mapping[str, Sequence[Any]] = {
    "allowed_token_ids": (),
    "bad_words": ([],),
    "chat_template": (),
    "echo": (False,),
    "frequency_penalty": (0,),
    "include_stop_str_in_output": (False,),
    "length_penalty": (1,),
    "logit_bias": ({},),
    "logprob_token_ids": (),
    "min_tokens": (0,),
    "presence_penalty": (0,),
    "prompt_embeds": (),
    "repetition_penalty": (1,),
    "response_format": ({"type": "text"},),
    "structured_outputs": (),
    "suffix": (),
    "tool_choice": ("none", "auto"),
    "truncate_prompt_tokens": (),
    "use_beam_search": (False,),
}
"""Fields that vLLM knows and we do not, with the values that change nothing. Better refused than
ignored: a client would take the answer for what it asked."""


@dataclass(frozen=True)
class Limits:
    """What the model can take and what it does by default: the positions it has, the tokens that
    end its answers, and sampling fields of its generation_config.json."""

    max_model_len: int
    end_ids: frozenset[int]
    defaults: Mapping[str, float]


@dataclass(frozen=True)
class Ask:
    """A checked request: one order for each prompt, and how the answer is to look."""

    model: str | None
    orders: tuple[Order, ...]
    stream: bool
    include_usage: bool
    return_token_ids: bool


def chat_ask(body: Mapping[str, Any], language: Language, limits: Limits) -> Ask:
    """Read a chat request. Raises Refusal."""
    _refuse_unsupported(body)
    wanted = "max_completion_tokens" if body.get("max_completion_tokens") else "max_tokens"
    logprobs = whole(body, "top_logprobs", 0, 0, MAX_ALTERNATIVES)
    if logprobs and not body.get("logprobs"):
        raise Refusal("When using `top_logprobs`, `logprobs` must be true.", param="top_logprobs")
    knobs = _knobs(body, limits) | {
        "logprobs": logprobs if flag(body, "logprobs") else None,
        "max_tokens": whole(body, wanted, None, 1, limits.max_model_len),
    }
    text = _render(body, language)
    _check_characters(text, language, limits)
    ids = language.encode(text, special=False)
    return _ask(body, [_order(ids, knobs, limits)])


def completion_ask(body: Mapping[str, Any], language: Language, limits: Limits) -> Ask:
    """Read a completion request: one or several prompts, as text or as token ids."""
    _refuse_unsupported(body)
    knobs = _knobs(body, limits) | {
        "logprobs": whole(body, "logprobs", None, 0, MAX_ALTERNATIVES),
        "max_tokens": whole(body, "max_tokens", 16, 1, limits.max_model_len),
    }
    prompts = [_prompt_ids(prompt, language, limits) for prompt in _prompts(body)]
    return _ask(body, [_order(ids, knobs, limits) for ids in prompts])


def _ask(body: Mapping[str, Any], orders: Sequence[Order]) -> Ask:
    model = body.get("model")
    if model is not None and not isinstance(model, str):
        raise Refusal("`model` must be a string.", kind="Bad Request", param="model")
    options = body.get("stream_options") or {}
    if not isinstance(options, dict):
        raise Refusal("`stream_options` must be an object.", param="stream_options")
    if options and not body.get("stream"):
        raise Refusal(
            "Stream options can only be defined when `stream=True`.", param="stream_options"
        )
    return Ask(
        model=model,
        orders=tuple(orders),
        stream=flag(body, "stream"),
        include_usage=flag(options, "include_usage"),
        return_token_ids=flag(body, "return_token_ids"),
    )


def _knobs(body: Mapping[str, Any], limits: Limits) -> dict[str, Any]:
    defaults = limits.defaults
    n, stop_ids, stream = (
        whole(body, "n", 1, 1, MAX_ANSWERS),
        _stop_ids(body),
        flag(body, "stream"),
    )
    temperature = real(body, "temperature", defaults.get("temperature", 1.0), 0.0, 2.0)
    prompt_logprobs = whole(body, "prompt_logprobs", None, 0, MAX_ALTERNATIVES)
    if temperature == 0 and n and n > 1:
        raise Refusal(f"n must be 1 when using greedy sampling, got {n}.", param="n")
    if prompt_logprobs is not None and stream:
        raise Refusal("`prompt_logprobs` are not available in a stream.", param="prompt_logprobs")
    ends = frozenset() if flag(body, "ignore_eos") else limits.end_ids
    return {
        "n": n,
        "temperature": temperature,
        "top_p": real(body, "top_p", defaults.get("top_p", 1.0), SMALLEST, 1.0),
        "top_k": whole(body, "top_k", int(defaults.get("top_k", 0)), -1, INT64 - 1),
        "min_p": real(body, "min_p", defaults.get("min_p", 0.0), 0.0, 1.0),
        "seed": whole(body, "seed", None, -INT64, INT64 - 1),
        "stop": _stop(body),
        "stop_ids": stop_ids,
        "end_ids": ends | stop_ids,
        "prompt_logprobs": prompt_logprobs,
        "stream": stream,
        "priority": whole(body, "priority", 0, -INT64, INT64 - 1),
    }


def _order(ids: Sequence[int], knobs: Mapping[str, Any], limits: Limits) -> Order:
    room = limits.max_model_len - len(ids)
    if room < 1:
        raise Refusal(
            f"This model's maximum context length is {limits.max_model_len} tokens. However, your "
            f"prompt contains {len(ids)} input tokens, which leaves none for the answer.",
            param="input_tokens",
        )
    wanted = knobs["max_tokens"]
    return Order(prompt_ids=tuple(ids), **dict(knobs) | {"max_tokens": min(room, wanted or room)})


def _refuse_unsupported(body: Mapping[str, Any]) -> None:
    for name, neutral in NEUTRAL.items():
        value = body.get(name)
        if value is not None and value not in neutral:
            raise Refusal(f"The embedded engine does not support this `{name}`.", param=name)


def _render(body: Mapping[str, Any], language: Language) -> str:
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise Refusal("`messages` must be a non-empty list.", kind="Bad Request", param="messages")
    shaping = {name: body[name] for name in SHAPING if body.get(name) is not None}
    extra = body.get("chat_template_kwargs") or {}
    if not isinstance(extra, dict):
        raise Refusal("`chat_template_kwargs` must be an object.", param="chat_template_kwargs")
    if extra.keys() & TEMPLATE_OURS:
        raise Refusal("`chat_template_kwargs` may not replace the template.")
    if not shaping.get("continue_final_message"):
        shaping.setdefault("add_generation_prompt", True)
    turns = [_message(message) for message in messages]
    try:
        return language.render(turns, **{**extra, **shaping})
    except (TemplateError, ValueError, TypeError, KeyError) as error:
        # The template's own words may quote the messages; it goes to the client that sent them.
        raise Refusal(f"The chat template refuses this request: {error}") from error


def _message(message: Any) -> dict[str, Any]:
    if not isinstance(message, dict) or not isinstance(message.get("role"), str):
        raise Refusal("Each message must have a role.", kind="Bad Request", param="messages")
    content = message.get("content")
    if isinstance(content, list):
        content = "\n".join(_part(part) for part in content)
    if content is not None and not isinstance(content, str):
        raise Refusal("A message's content must be text.", kind="Bad Request", param="messages")
    return {**message, "content": content or ""}


def _part(part: Any) -> str:
    if isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str):
        return str(part["text"])
    raise Refusal("This model takes text only.", param="messages")


def _prompts(body: Mapping[str, Any]) -> list[Any]:
    prompt = body.get("prompt")
    if not prompt or not isinstance(prompt, str | list):
        raise Refusal("`prompt` must be provided and non-empty.", param="prompt")
    if isinstance(prompt, str) or all(is_whole(item) for item in prompt):
        return [prompt]
    if len(prompt) > MAX_PROMPTS:
        raise Refusal(f"At most {MAX_PROMPTS} prompts at once.", param="prompt")
    return prompt


def _prompt_ids(prompt: Any, language: Language, limits: Limits) -> list[int]:
    if isinstance(prompt, str) and prompt:
        _check_characters(prompt, language, limits)
        return language.encode(prompt, special=True)
    known = range(language.size)
    if isinstance(prompt, list) and prompt and all(is_whole(x) and x in known for x in prompt):
        return prompt
    raise Refusal("A prompt must be text or the model's token ids.", param="prompt")


def _check_characters(text: str, language: Language, limits: Limits) -> None:
    # Before tokenizing: a body of many megabytes must not hold everybody up.
    if len(text) > limits.max_model_len * language.longest_token:
        raise Refusal(
            f"This model's maximum context length is {limits.max_model_len} tokens. However, your "
            f"prompt contains {len(text)} characters, more than that many tokens can hold.",
            param="input_text",
        )


def _stop(body: Mapping[str, Any]) -> tuple[str, ...]:
    stop = body.get("stop") or []
    stops = [stop] if isinstance(stop, str) else stop
    if not isinstance(stops, list) or not all(isinstance(s, str) and s for s in stops):
        raise Refusal("`stop` must be a non-empty string or a list of them.", param="stop")
    return tuple(stops)


def _stop_ids(body: Mapping[str, Any]) -> frozenset[int]:
    ids = body.get("stop_token_ids") or []
    if not isinstance(ids, list) or not all(map(is_whole, ids)):
        raise Refusal("`stop_token_ids` must be a list of integers.", param="stop_token_ids")
    return frozenset(ids)
