"""The part of vLLM's HTTP API that is spoken here: requests, errors, answers and streams."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self, TypeVar

from jinja2 import TemplateError
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import from_json

from ttrl.engine.embedded.generation import (
    MAX_ALTERNATIVES,
    UNFINISHED,
    Job,
    Row,
    Settings,
)
from ttrl.engine.embedded.model import Adapter, Model

KINDS = {400: "BadRequestError", 404: "NotFoundError", 500: "InternalServerError"}
MAX_PROMPTS = 256
FLOOR = -9999.0
"""JSON has no minus infinity."""

NOT_SUPPORTED = (
    "allowed_token_ids", "chat_template", "logprob_token_ids", "prompt_embeds", "suffix",
    "repetition_detection", "structured_outputs", "thinking_token_budget", "truncate_prompt_tokens",
)  # fmt: skip
"""Fields that vLLM knows and we do not. Better refused than ignored: a client would take the answer
for what it asked."""
NEUTRAL: Mapping[str, Sequence[Any]] = {
    **dict.fromkeys(NOT_SUPPORTED, ()),
    "bad_words": ([],),
    "echo": (False,),
    "length_penalty": (1, 1.0),
    "logit_bias": ({},),
    "response_format": ({"type": "text"},),
    "tool_choice": ("none", "auto"),
    "use_beam_search": (False,),
    "watermarking": (False,),
}
"""More of them, with the values that change nothing."""
TEMPLATE_OURS = frozenset({"chat_template", "tokenize", "return_dict", "return_tensors"})
"""What a client must not slip to the tokenizer: a template is a program."""

R = TypeVar("R", bound=BaseModel)


class Refusal(Exception):
    """An error answer in vLLM's shape."""

    def __init__(self, message: str, status: int = 400, kind: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        kind = kind or KINDS[status]
        error = {"message": message, "type": kind, "param": None, "code": status}
        self.body = {"error": error}


def read(kind: type[R], body: bytes, model: Model) -> R:
    """Check a request's body; the model's own sampling defaults fill in what it leaves out. Raises
    Refusal."""
    try:
        fields = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise Refusal("The body is not valid JSON.") from error
    if not isinstance(fields, dict):
        raise Refusal("The body must be a JSON object.")
    for name, neutral in NEUTRAL.items():
        value = fields.get(name)
        same = ((type(each), each) for each in neutral)  # to Python, True is 1
        if value is not None and (type(value), value) not in same:
            raise Refusal(f"The embedded engine does not support this `{name}`.")
    given = {name: value for name, value in fields.items() if value is not None}
    try:
        return kind.model_validate({**model.defaults, **given})
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise Refusal(f"{where}: {first['msg']}" if where else first["msg"]) from error


class LoadAdapter(BaseModel):
    lora_name: str = Field(min_length=1)
    lora_path: str = Field(min_length=1)


class UnloadAdapter(BaseModel):
    lora_name: str = Field(min_length=1)


class StreamOptions(BaseModel):
    include_usage: bool = False


class Request(Settings):
    """What chats and completions have in common. `model` None is the base model."""

    model: str | None = None
    stream_options: StreamOptions | None = None
    return_token_ids: bool = False

    @model_validator(mode="after")
    def _check_stream(self) -> Self:
        if self.stream_options and not self.stream:
            raise ValueError("stream options can only be defined when `stream=True`")
        return self

    def jobs(self, model: Model, adapter: Adapter | None) -> list[Job]:
        """Return a job for each prompt. Raises Refusal."""
        raise NotImplementedError

    def _job(
        self, ids: list[int], max_tokens: int | None, default: int | None, model: Model, **rest: Any
    ) -> Job:
        longest = model.max_model_len
        room = longest - len(ids)
        if room < 1:
            raise Refusal(
                f"This model's maximum context length is {longest} tokens. However, your prompt "
                f"contains {len(ids)} input tokens, which leaves none for the answer."
            )
        if max_tokens and max_tokens > longest:
            raise Refusal(f"max_tokens must be at most {longest}, got {max_tokens}.")
        most = min(room, max_tokens or default or room)
        if self.min_tokens > most:
            raise Refusal(
                f"min_tokens must be less than or equal to max_tokens={most}, "
                f"got {self.min_tokens}."
            )
        return Job(self, ids, most, model, **rest)


class TextPart(BaseModel):
    type: Literal["text"]
    text: str


class Message(BaseModel):
    model_config = ConfigDict(extra="allow")

    role: str
    content: str | list[TextPart] | None = None

    def for_template(self) -> dict[str, Any]:
        parts = self.content or ""
        text = parts if isinstance(parts, str) else "\n".join(part.text for part in parts)
        return self.model_dump(exclude_unset=True) | {"content": text}


class Chat(Request):
    messages: list[Message] = Field(min_length=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    logprobs: bool = False
    top_logprobs: int = Field(0, ge=0, le=MAX_ALTERNATIVES)
    tools: list[Any] | None = None
    documents: list[Any] | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool = False
    chat_template_kwargs: dict[str, Any] = Field({})

    @model_validator(mode="after")
    def _check_chat(self) -> Self:
        if self.top_logprobs and not self.logprobs:
            raise ValueError("when using `top_logprobs`, `logprobs` must be true")
        if self.chat_template_kwargs.keys() & TEMPLATE_OURS:
            raise ValueError("`chat_template_kwargs` may not replace the template")
        return self

    def jobs(self, model: Model, adapter: Adapter | None) -> list[Job]:
        given = {"tools", "documents", "add_generation_prompt"}
        options = {
            **self.chat_template_kwargs,
            "add_generation_prompt": not self.continue_final_message,
            "continue_final_message": self.continue_final_message,
            **self.model_dump(include=given, exclude_none=True),
        }
        try:
            text = model.render([message.for_template() for message in self.messages], **options)
        except (TemplateError, ValueError, TypeError, KeyError) as error:
            # The template's words may quote the messages; they go to the client that sent them.
            raise Refusal(f"The chat template refuses this request: {error}") from error
        most = self.max_completion_tokens or self.max_tokens
        logprobs = self.top_logprobs if self.logprobs else None
        ids = _encode(text, model)
        return [
            self._job(ids, most, model.max_new_tokens, model, adapter=adapter, logprobs=logprobs)
        ]


class Completion(Request):
    prompt: str | list[int] | list[str] | list[list[int]] = Field(min_length=1)
    logprobs: int | None = Field(None, ge=0, le=MAX_ALTERNATIVES)

    def jobs(self, model: Model, adapter: Adapter | None) -> list[Job]:
        single = isinstance(self.prompt, str) or isinstance(self.prompt[0], int)
        prompts: list[Any] = [self.prompt] if single else list(self.prompt)
        if len(prompts) > MAX_PROMPTS:
            raise Refusal(f"At most {MAX_PROMPTS} prompts at once.")
        jobs, news = [], asyncio.Event()
        for prompt in prompts:
            ids = _encode(prompt, model, special=True) if isinstance(prompt, str) else prompt
            if not ids or not all(0 <= token < model.vocabulary_size for token in ids):
                raise Refusal("A prompt must be text or the model's token ids.")
            about = {"adapter": adapter, "logprobs": self.logprobs, "news": news}
            jobs.append(self._job(ids, self.max_tokens, 16, model, **about))
        return jobs


def _encode(text: str, model: Model, *, special: bool = False) -> list[int]:
    # Refused before tokenizing: a body of many megabytes must not hold everybody up.
    if len(text) > model.max_model_len * model.longest_token:
        raise Refusal(
            f"This model's maximum context length is {model.max_model_len} tokens. However, your "
            f"prompt contains {len(text)} characters, more than that many tokens can hold."
        )
    return model.encode(text, special=special)


class Reply:
    """The answer to a request, whole or in chunks; `served_name` is the model that was asked."""

    def __init__(
        self, request: Request, served_name: str, jobs: Sequence[Job], model: Model
    ) -> None:
        self._request, self._jobs, self._model = request, jobs, model
        self._chat = isinstance(request, Chat)
        self._rows = [row for job in jobs for row in job.rows]
        self._sent = [(0, 0, False) for _ in self._rows]  # tokens, characters, and the finish
        chunk = ".chunk" if request.stream else ""
        self._head = {
            "id": f"{'chatcmpl' if self._chat else 'cmpl'}-{uuid.uuid4().hex}",
            "object": f"chat.completion{chunk}" if self._chat else "text_completion",
            "created": int(time.time()),
            "model": served_name,
        }

    def whole(self) -> dict[str, Any]:
        choices = []
        for index, row in enumerate(self._rows):
            choice = self._choice(index, row, 0, len(row.token_ids), row.finish)
            if self._chat:
                choice["message"] = {"role": "assistant", "content": row.text, "refusal": None}
            else:
                choice |= {"text": row.text, **self._prompt(row.job)}
            choices.append(choice)
        prompt = self._prompt(self._jobs[0]) if self._chat else {}
        return {**self._head, "choices": choices, "usage": self._usage(), **prompt}

    def opening(self) -> list[dict[str, Any]]:
        delta = {"delta": {"role": "assistant", "content": ""}}
        return [
            {**self._head, "choices": [self._choice(index, row, 0, 0, None) | delta]}
            | self._prompt(row.job)
            for index, row in enumerate(self._rows if self._chat else ())
        ]

    def news(self) -> list[dict[str, Any]]:
        """Return the chunks with what came since the last call."""
        chunks = []
        for index, row in enumerate(self._rows):
            first, sent, ended = self._sent[index]
            finish, count = row.finish, len(row.token_ids)  # in this order
            if ended or (count == first and not finish):
                continue
            text, settings = row.text, row.job.settings
            if not finish:
                # Not what may turn out to be half a character, or the beginning of a stop string.
                text = text.rstrip(UNFINISHED)
                if settings.stop and not settings.include_stop_str_in_output:
                    text = text[: max(0, len(text) + 1 - max(map(len, settings.stop)))]
            piece = text[sent:]
            self._sent[index] = (count, max(sent, len(text)), bool(finish))
            delta = {"delta": {"content": piece}} if self._chat else {"text": piece}
            choice = self._choice(index, row, first, count, finish) | delta
            chunks.append({**self._head, "choices": [choice]})
        return chunks

    def closing(self) -> list[dict[str, Any]]:
        options = self._request.stream_options
        wanted = options and options.include_usage
        return [{**self._head, "choices": [], "usage": self._usage()}] if wanted else []

    def _choice(
        self, index: int, row: Row, start: int, end: int, finish: str | None
    ) -> dict[str, Any]:
        """Return what all choices say of the tokens from `start` to `end`."""
        choice: dict[str, Any] = {
            "index": index,
            "logprobs": self._logprobs(row, start, end) if end else None,
            "finish_reason": finish,
            "stop_reason": row.stop_reason if finish else None,
        }
        if self._request.return_token_ids:
            choice["token_ids"] = row.token_ids[start:end]
        return choice

    def _usage(self) -> dict[str, int]:
        prompt = sum(len(job.prompt_ids) for job in self._jobs)
        answers = sum(len(row.token_ids) for row in self._rows)
        return {
            "prompt_tokens": prompt,
            "completion_tokens": answers,
            "total_tokens": prompt + answers,
        }

    def _prompt(self, job: Job) -> dict[str, Any]:
        prompt: dict[str, Any] = {}
        if self._request.return_token_ids:
            prompt["prompt_token_ids"] = job.prompt_ids
        if job.prompt_logprobs:
            prompt["prompt_logprobs"] = [
                None if logprob is None else {str(token): {"logprob": max(logprob, FLOOR)}}
                for token, logprob in zip(job.prompt_ids, job.prompt_logprobs, strict=True)
            ]
        return prompt

    def _logprobs(self, row: Row, start: int, end: int) -> dict[str, Any] | None:
        wanted = row.job.logprobs
        if wanted is None:
            return None
        own = list(zip(row.token_ids[start:end], row.logprobs[start:end], strict=True))
        tops = [top[:wanted] for top in row.tops[start:end]]
        token = self._model.token
        if self._chat:
            content = []
            for pair, top in zip(own, tops, strict=True):
                entry, *others = (
                    {
                        "token": token(each),
                        "logprob": max(logprob, FLOOR),
                        "bytes": list(token(each).encode("utf-8", errors="replace")),
                    }
                    for each, logprob in (pair, *top)
                )
                content.append(entry | {"top_logprobs": others})
            return {"content": content}
        tokens = [token(each) for each in row.token_ids[:end]]
        return {
            "text_offset": [len("".join(tokens[:at])) for at in range(start, end)],
            "tokens": tokens[start:],
            "token_logprobs": [max(logprob, FLOOR) for _, logprob in own],
            # The sampled token and, beside it, the likeliest.
            "top_logprobs": [
                {token(each): max(logprob, FLOOR) for each, logprob in (pair, *top)}
                for pair, top in zip(own, tops, strict=True)
            ],
        }
