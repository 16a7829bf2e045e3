"""The embedded engine's program with a model of a few lines: the part of the API that ttrl uses."""

from __future__ import annotations

import argparse
import json
import os
import random
import time
from pathlib import Path

import uvicorn
from light_model import BASE, answer, logprob, read
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

END = 3

parser = argparse.ArgumentParser()
parser.add_argument("--model")
parser.add_argument("--port", type=int)
parser.add_argument("--served-model-name")
arguments, _ = parser.parse_known_args()
name, key = arguments.served_model_name, os.environ.get("VLLM_API_KEY")
adapters: dict[str, tuple[str, str]] = {}
"""Of each that is loaded, its path and its weights."""
tokens = 1


def refused(status: int, message: str) -> Response:
    return JSONResponse({"error": {"message": message, "code": status}}, status)


def weights_of(model: str | None) -> str | None:
    """None where it is not served."""
    if model in (None, name):
        return BASE
    return adapters[model][1] if model in adapters else None


def metrics(request: Request) -> Response:
    file = os.environ.get("TEST_LIGHT_WAITING")  # what a test says that waits
    waiting = Path(file).read_text() if file else "0"
    lines = ["# TYPE vllm:num_requests_running gauge\nvllm:num_requests_running 0"]
    lines.append(f"# TYPE vllm:num_requests_waiting gauge\nvllm:num_requests_waiting {waiting}")
    lines.append("# TYPE vllm:prompt_tokens counter\nvllm:prompt_tokens_total 1")
    lines.append(f"# TYPE vllm:generation_tokens counter\nvllm:generation_tokens_total {tokens}")
    return PlainTextResponse("\n".join(lines) + "\n")


async def models(request: Request) -> Response:
    cards = [{"id": name, "parent": None, "root": arguments.model, "max_model_len": 512}]
    cards += [
        {"id": each, "parent": name, "root": path} for each, (path, _) in list(adapters.items())
    ]
    return JSONResponse({"object": "list", "data": cards})


async def load(request: Request) -> Response:
    body = await request.json()
    if body["lora_name"] in adapters:
        return refused(400, "has already been loaded")
    try:
        adapters[body["lora_name"]] = body["lora_path"], read(Path(body["lora_path"]))
    except OSError:
        return refused(404, "No adapter found")
    return PlainTextResponse("Success")


async def unload(request: Request) -> Response:
    found = adapters.pop((await request.json())["lora_name"], None)
    return PlainTextResponse("Success") if found else refused(404, "cannot be found")


def choice(index: int, text: str, weights: str, most: int, stop) -> dict[str, object]:
    """One answer, a token a character."""
    for mark in [stop] if isinstance(stop, str) else stop or []:
        text = text.partition(mark)[0]
    ids = [*map(ord, text), END]
    cut = len(ids) > most
    text, ids = text[:most], ids[:most]
    return {
        "index": index,
        "message": {"role": "assistant", "content": text},
        "finish_reason": "length" if cut else "stop",
        "token_ids": ids,
        "logprobs": {"content": [{"logprob": logprob(weights, each)} for each in ids]},
    }


async def chat(request: Request) -> Response:
    global tokens
    body = await request.json()
    weights = weights_of(body.get("model"))
    if weights is None:
        return refused(404, "does not exist")
    if not body["messages"]:
        return refused(400, "messages must not be empty")
    said = body["messages"][-1]["content"]
    greedy = body.get("temperature") == 0
    rng = None if greedy else random.Random(body.get("seed"))
    most = body.get("max_completion_tokens") or body.get("max_tokens") or 400
    choices = [
        choice(at, answer(weights, said, rng), weights, most, body.get("stop"))
        for at in range(body.get("n") or 1)
    ]
    whole = {
        "id": f"chatcmpl-{tokens}",
        "object": "chat.completion",
        "created": 1,
        "model": body.get("model"),
    }
    usage = {"prompt_tokens": len(said), "completion_tokens": 1, "total_tokens": len(said) + 1}
    tokens += 1
    if not body.get("stream"):
        ids = [ord(each) % 1000 for each in said]
        return JSONResponse({**whole, "choices": choices, "usage": usage, "prompt_token_ids": ids})

    async def events():
        for each in choices:
            for piece in each["message"]["content"]:
                delta = {"index": each["index"], "delta": {"content": piece}, "finish_reason": None}
                chunk = {**whole, "object": "chat.completion.chunk", "choices": [delta]}
                yield f"data: {json.dumps(chunk)}\n\n"
            last = {"index": each["index"], "delta": {}, "finish_reason": each["finish_reason"]}
            chunk = {**whole, "object": "chat.completion.chunk", "choices": [last]}
            yield f"data: {json.dumps(chunk)}\n\n"
        yield "data: [DONE]\n\n"

    return StreamingResponse(events(), media_type="text/event-stream")


async def completions(request: Request) -> Response:
    global tokens
    body = await request.json()
    weights = weights_of(body.get("model"))
    if weights is None:
        return refused(404, "does not exist")
    tokens += 1
    ids = body["prompt"]
    read_back = [None, *({str(each): {"logprob": logprob(weights, each)}} for each in ids[1:])]
    return JSONResponse(
        {"choices": [{"index": 0, "text": "x", "finish_reason": "length",
                      "prompt_logprobs": read_back}]}
    )  # fmt: skip


class KeyCheck:
    def __init__(self, app) -> None:
        self.app = app

    async def __call__(self, scope, receive, send) -> None:
        given = dict(scope.get("headers", ())).get(b"authorization")
        if key and scope.get("path", "").startswith("/v1") and given != f"Bearer {key}".encode():
            await JSONResponse({"error": "Unauthorized"}, 401)(scope, receive, send)
            return
        await self.app(scope, receive, send)


async def health(request: Request) -> Response:
    return Response()


def app() -> KeyCheck:
    routes = [
        Route("/health", health),
        Route("/metrics", metrics),
        Route("/v1/models", models),
        Route("/v1/chat/completions", chat, methods=["POST"]),
        Route("/v1/completions", completions, methods=["POST"]),
        Route("/v1/load_lora_adapter", load, methods=["POST"]),
        Route("/v1/unload_lora_adapter", unload, methods=["POST"]),
    ]
    return KeyCheck(Starlette(routes=routes))


if __name__ == "__main__":
    until = os.environ.get("TEST_LIGHT_UNTIL")  # a file: it is loading until that is there
    while until and not Path(until).exists():
        time.sleep(0.02)
    uvicorn.run(app(), host="127.0.0.1", port=arguments.port, log_level="warning")
