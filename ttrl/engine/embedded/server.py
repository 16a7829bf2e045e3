"""The part of vLLM's HTTP API that is spoken here: requests, answers, streams, and the adapters
that are loaded."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import os
import signal
import sys
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from itertools import accumulate
from typing import Any, ClassVar, Literal, Self, TypeVar

import uvicorn
from jinja2 import TemplateError
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import from_json
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from ttrl.engine.embedded.generation import Job, Row, Scheduler, Settings
from ttrl.engine.embedded.model import Adapter, Model

HOST = "127.0.0.1"
NICE = 5
"""Added to the process's niceness: it computes on the CPUs on which the gateway answers."""
STOP_SECONDS = 5
LOOK_SECONDS = 0.5
"""Between two looks whether who waits for a whole answer has left."""
MAX_ALTERNATIVES = 20

NOT_SUPPORTED = (
    "allowed_token_ids", "bad_words", "chat_template", "continue_final_message", "documents",
    "echo", "logit_bias", "logprob_token_ids", "prompt_embeds", "repetition_detection",
    "response_format", "structured_outputs", "suffix", "thinking_token_budget", "tools",
    "truncate_prompt_tokens", "use_beam_search", "watermarking",
)  # fmt: skip
"""Fields that vLLM knows and we do not. Better refused than ignored: a client would take the answer
for what it asked."""

R = TypeVar("R", bound=BaseModel)
log = logging.getLogger(__name__)


class AdapterName(BaseModel):
    lora_name: str = Field(min_length=1)


class NewAdapter(AdapterName):
    lora_path: str = Field(min_length=1)


class StreamOptions(BaseModel):
    include_usage: bool = False


class Request(Settings):
    """What chats and completions have in common. `model` None is the base model."""

    model: str | None = None
    stream_options: StreamOptions | None = None
    return_token_ids: bool = False

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.temperature == 0 and self.n > 1:
            raise ValueError(f"n must be 1 when using greedy sampling, got {self.n}")
        if self.stream_options and not self.stream:
            raise ValueError("stream options can only be defined when `stream=True`")
        return self

    def _job(
        self, prompt: str | list[int], max_tokens: int | None, model: Model, **rest: Any
    ) -> Job:
        longest = model.max_model_len
        too_long = HTTPException(400, f"The prompt must be shorter than {longest} tokens.")
        if isinstance(prompt, str):
            # A text of many megabytes must not hold everybody up: it is not even tokenized.
            if len(prompt) > longest * model.longest_token:
                raise too_long
            # What a tokenizer puts around a text, a chat template has put there itself.
            special = not isinstance(self, Chat)
            prompt = list(model.tokenizer.encode(prompt, add_special_tokens=special))
        if len(prompt) >= longest:
            raise too_long
        if not prompt or not all(0 <= token < len(model.tokenizer) for token in prompt):
            raise HTTPException(400, "A prompt must be text or the model's token ids.")
        most = min(longest - len(prompt), max_tokens or longest)
        if (max_tokens or 0) > longest or self.min_tokens > most:
            raise HTTPException(400, f"max_tokens must be at most {longest}, min_tokens {most}.")
        return Job(self, prompt, most, model, **rest)


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
    kind: ClassVar = "chat.completion"

    messages: list[Message] = Field(min_length=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    logprobs: bool = False
    top_logprobs: int = Field(0, ge=0, le=MAX_ALTERNATIVES)
    add_generation_prompt: bool = True
    chat_template_kwargs: dict[str, Any] = Field({})

    @model_validator(mode="after")
    def _check_chat(self) -> Self:
        if self.top_logprobs and not self.logprobs:
            raise ValueError("when using `top_logprobs`, `logprobs` must be true")
        return self

    def jobs(self, model: Model, adapter: Adapter | None) -> list[Job]:
        try:
            # A template is a program: a client that sends one gets a TypeError for the second.
            text = model.tokenizer.apply_chat_template(
                [message.for_template() for message in self.messages],
                chat_template=None,
                tokenize=False,
                add_generation_prompt=self.add_generation_prompt,
                **self.chat_template_kwargs,
            )
        except (TemplateError, ValueError, TypeError, KeyError) as error:
            # The template's words may quote the messages; they go to the client that sent them.
            raise HTTPException(400, f"The chat template refuses this request: {error}") from error
        most = self.max_completion_tokens or self.max_tokens
        logprobs = self.top_logprobs if self.logprobs else None
        return [self._job(str(text), most, model, adapter=adapter, logprobs=logprobs)]

    def text(self, text: str) -> dict[str, Any]:
        if self.stream:
            return {"delta": {"content": text}}
        return {"message": {"role": "assistant", "content": text, "refusal": None}}

    def logprobs_of(self, row: Row, start: int, model: Model) -> dict[str, Any]:
        def entry(token: int, logprob: float) -> dict[str, Any]:
            return {"token": model.token(token), "logprob": logprob}

        return {
            "content": [
                entry(token, logprob) | {"top_logprobs": [entry(*each) for each in top]}
                for token, logprob, top in row.drawn[start:]
            ]
        }


class Completion(Request):
    kind: ClassVar = "text_completion"

    prompt: str | list[int] | list[str] | list[list[int]] = Field(min_length=1)
    max_tokens: int | None = Field(16, ge=1)
    logprobs: int | None = Field(None, ge=0, le=MAX_ALTERNATIVES)

    def jobs(self, model: Model, adapter: Adapter | None) -> list[Job]:
        single = isinstance(self.prompt, str) or isinstance(self.prompt[0], int)
        prompts: list[Any] = [self.prompt] if single else list(self.prompt)
        about = {"adapter": adapter, "logprobs": self.logprobs, "news": asyncio.Event()}
        return [self._job(each, self.max_tokens, model, **about) for each in prompts]

    def text(self, text: str) -> dict[str, Any]:
        return {"text": text}

    def logprobs_of(self, row: Row, start: int, model: Model) -> dict[str, Any]:
        tokens = [model.token(token) for token, _, _ in row.drawn]
        return {
            "text_offset": list(accumulate(map(len, tokens), initial=0))[start:-1],
            "tokens": tokens[start:],
            "token_logprobs": [logprob for _, logprob, _ in row.drawn[start:]],
            # The sampled token and, beside it, the likeliest.
            "top_logprobs": [
                {model.token(each): value for each, value in ((token, logprob), *top)}
                for token, logprob, top in row.drawn[start:]
            ],
        }


class Reply:
    """The answer to a request, whole or in chunks."""

    def __init__(self, request: Chat | Completion, jobs: Sequence[Job], model: Model) -> None:
        self._request, self._jobs, self._model = request, jobs, model
        self._chat = isinstance(request, Chat)
        self.rows = [row for job in jobs for row in job.rows]
        self._head = {
            "id": uuid.uuid4().hex,
            "object": request.kind + (".chunk" if self._chat and request.stream else ""),
            "created": int(time.time()),
            "model": request.model or model.name,
        }

    def whole(self) -> dict[str, Any]:
        choices = []
        for index, row in enumerate(self.rows):
            choice = self._choice(index, 0, row.text)
            choices.append(choice if self._chat else choice | self._prompt(row.job))
        rest = self._prompt(self._jobs[0]) if self._chat else {}
        return {**self._head, "choices": choices, "usage": self._usage(), **rest}

    async def chunks(self) -> AsyncIterator[dict[str, Any]]:
        """Yield what there is to send, until all jobs are done."""
        for index in range(len(self.rows) if self._chat else 0):
            opening = {"delta": {"role": "assistant", "content": ""}}
            choice = self._choice(index, 0, "") | opening
            yield {**self._head, "choices": [choice], **self._prompt(self._jobs[0])}
        sent = [(0, 0)] * len(self.rows)  # tokens and characters
        done = False
        while not done:
            await wait(self._jobs[0].news)
            done = all(job.done for job in self._jobs)
            for index, row in enumerate(self.rows):
                tokens, characters = sent[index]
                if len(row.drawn) > tokens:
                    # Not yet what may turn out to be the beginning of a stop string.
                    stops = () if row.finish else row.job.settings.stop
                    held = max((len(stop) - 1 for stop in stops), default=0)
                    end = max(characters, len(row.text) - held)
                    sent[index] = len(row.drawn), end
                    choice = self._choice(index, tokens, row.text[characters:end])
                    yield {**self._head, "choices": [choice]}
        options = self._request.stream_options
        if options and options.include_usage:
            yield {**self._head, "choices": [], "usage": self._usage()}

    def _choice(self, index: int, start: int, text: str) -> dict[str, Any]:
        """Return what is to be said of an answer's tokens from `start` on."""
        row = self.rows[index]
        logged = row.job.logprobs is not None and row.drawn
        choice: dict[str, Any] = {
            "index": index,
            **self._request.text(text),
            "logprobs": self._request.logprobs_of(row, start, self._model) if logged else None,
            "finish_reason": row.finish,
            "stop_reason": row.stop_reason,
        }
        if self._request.return_token_ids:
            choice["token_ids"] = [drawn.token for drawn in row.drawn[start:]]
        return choice

    def _usage(self) -> dict[str, int]:
        prompt = sum(len(job.prompt_ids) for job in self._jobs)
        answers = sum(len(row.drawn) for row in self.rows)
        total = prompt + answers
        return {"prompt_tokens": prompt, "completion_tokens": answers, "total_tokens": total}

    def _prompt(self, job: Job) -> dict[str, Any]:
        prompt: dict[str, Any] = {}
        if self._request.return_token_ids:
            prompt["prompt_token_ids"] = job.prompt_ids
        if job.prompt_logprobs:
            prompt["prompt_logprobs"] = [
                None if logprob is None else {str(token): {"logprob": logprob}}
                for token, logprob in zip(job.prompt_ids, job.prompt_logprobs, strict=True)
            ]
        return prompt


class Server:
    def __init__(self, model: Model, api_key: str | None = None) -> None:
        self._model = model
        self._authorization = f"Bearer {api_key}" if api_key else None
        self._scheduler = Scheduler(model)
        self._adapters: dict[str, Adapter] = {}
        self._started = int(time.time())

    def app(self) -> Starlette:
        routes = [
            Route("/health", self.health),
            Route("/metrics", self.metrics),
            Route("/v1/models", self.models),
            Route("/v1/chat/completions", partial(self.answer, Chat), methods=["POST"]),
            Route("/v1/completions", partial(self.answer, Completion), methods=["POST"]),
            Route("/v1/load_lora_adapter", self.load_adapter, methods=["POST"]),
            Route("/v1/unload_lora_adapter", self.unload_adapter, methods=["POST"]),
        ]
        handlers = {HTTPException: refuse}
        return Starlette(routes=routes, exception_handlers=handlers, lifespan=self._generating)

    @asynccontextmanager
    async def _generating(self, _: Starlette) -> AsyncIterator[None]:
        def ended(generation: asyncio.Task[None]) -> None:
            if not generation.cancelled():
                log.critical("generation died", exc_info=generation.exception())
                signal.raise_signal(signal.SIGTERM)

        generation = asyncio.create_task(self._scheduler.run())
        generation.add_done_callback(ended)
        yield
        generation.cancel()

    def _check_key(self, http: HttpRequest) -> None:
        given = http.headers.get("authorization", "")
        if self._authorization and not hmac.compare_digest(
            given.encode(), self._authorization.encode()
        ):
            raise HTTPException(401, "Unauthorized")

    async def _read(self, kind: type[R], http: HttpRequest) -> R:
        """Check a request's key and body; the model's own sampling defaults fill in what it leaves
        out. Raises HTTPException."""
        self._check_key(http)
        try:
            fields = from_json(await http.body(), allow_inf_nan=False)
        except ValueError as error:
            raise HTTPException(400, "The body is not valid JSON.") from error
        if not isinstance(fields, dict):
            raise HTTPException(400, "The body must be a JSON object.")
        if unknown := [name for name in NOT_SUPPORTED if fields.get(name)]:
            raise HTTPException(400, f"The embedded engine does not support {', '.join(unknown)}.")
        given = {name: value for name, value in fields.items() if value is not None}
        try:
            return kind.model_validate({**self._model.defaults, **given})
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, first["loc"]))
            raise HTTPException(400, f"{where or 'request'}: {first['msg']}") from error

    async def health(self, _: HttpRequest) -> Response:
        return Response()

    async def metrics(self, _: HttpRequest) -> Response:
        return Response(generate_latest(self._scheduler.registry), media_type=CONTENT_TYPE_LATEST)

    async def models(self, http: HttpRequest) -> Response:
        self._check_key(http)
        base = self._model
        about = {"object": "model", "created": self._started, "owned_by": "ttrl"}
        cards = [{"id": base.name, "root": base.folder, "parent": None, **about}]
        cards[0]["max_model_len"] = base.max_model_len
        for adapter in self._adapters.values():
            cards.append({"id": adapter.name, "root": adapter.path, "parent": base.name, **about})
        return JSONResponse({"object": "list", "data": cards})

    async def answer(self, kind: type[Chat | Completion], http: HttpRequest) -> Response:
        request = await self._read(kind, http)
        name = request.model or self._model.name
        adapter = self._adapters.get(name)
        if adapter is None and name != self._model.name:
            raise HTTPException(404, f"The model `{name}` does not exist.")
        jobs = request.jobs(self._model, adapter)
        reply = Reply(request, jobs, self._model)
        if request.stream:
            return StreamingResponse(self._stream(reply, jobs), media_type="text/event-stream")
        with self._scheduler.answering(jobs):
            while not all(job.done for job in jobs) and not await http.is_disconnected():
                await wait(jobs[0].news, LOOK_SECONDS)
        return JSONResponse(reply.whole())

    async def _stream(self, reply: Reply, jobs: Sequence[Job]) -> AsyncIterator[str]:
        with self._scheduler.answering(jobs):
            async for chunk in reply.chunks():
                yield f"data: {json.dumps(chunk, ensure_ascii=False)}\n\n"
            yield "data: [DONE]\n\n"

    async def load_adapter(self, http: HttpRequest) -> Response:
        request = await self._read(NewAdapter, http)
        name = request.lora_name
        try:
            adapter = await asyncio.to_thread(self._model.read_adapter, name, request.lora_path)
        except (FileNotFoundError, ValueError) as error:
            status = 404 if isinstance(error, FileNotFoundError) else 400
            raise HTTPException(status, f"Loading lora {name} failed: {error}") from error
        # Not before: somebody may take the name while this one is read.
        if name in {self._model.name, *self._adapters}:
            raise HTTPException(400, f"The lora adapter '{name}' has already been loaded.")
        self._adapters[name] = adapter
        return PlainTextResponse(f"Success: LoRA adapter '{name}' added successfully.")

    async def unload_adapter(self, http: HttpRequest) -> Response:
        name = (await self._read(AdapterName, http)).lora_name
        if self._adapters.pop(name, None) is None:
            raise HTTPException(404, f"The lora adapter '{name}' cannot be found.")
        return PlainTextResponse(f"Success: LoRA adapter '{name}' removed successfully.")


async def wait(news: asyncio.Event, seconds: float | None = None) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await news.wait()
    news.clear()


async def refuse(_: HttpRequest, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    kind = "NotFoundError" if error.status_code == 404 else "BadRequestError"
    about = {"message": error.detail, "type": kind, "param": None, "code": error.status_code}
    return JSONResponse({"error": about}, error.status_code)


def serve(model: Model, port: int, api_key: str | None) -> None:
    """Serve until SIGTERM or SIGINT, or until generation dies."""
    url = f"http://{HOST}:{port}"
    line = f"embedded engine (for trials and tests only) serves {model.name} at {url}"
    print(line, file=sys.stderr, flush=True)  # noqa: T201
    os.nice(NICE)
    uvicorn.run(
        Server(model, api_key).app(),
        host=HOST,
        port=port,
        log_config=None,
        log_level="warning",
        # An open stream must not keep the process from ending.
        timeout_graceful_shutdown=STOP_SECONDS,
        timeout_keep_alive=30,
    )
