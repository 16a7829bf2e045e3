"""Load the model and serve it until told to stop."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Any

import torch
import uvicorn
from starlette.applications import Starlette
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers.utils import logging as transformers_logging

from ttrl.engine.embedded.app import Engine, make_app
from ttrl.engine.embedded.cache import SERVED_LAYERS
from ttrl.engine.embedded.lora import make_switchable, target_shapes
from ttrl.engine.embedded.protocol import Limits
from ttrl.engine.embedded.text import Language
from ttrl.engine.embedded.worker import Worker

STOP_SECONDS = 5
SAMPLING_DEFAULTS = ("temperature", "top_p", "top_k", "min_p")


def serve(
    model_dir: str,
    *,
    host: str,
    port: int,
    name: str,
    max_rank: int,
    max_model_len: int | None,
    threads: int | None,
    api_key: str | None,
) -> int:
    """Run until SIGTERM or SIGINT; the exit code."""
    if threads:
        torch.set_num_threads(threads)
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32)
    reason = _unfit(model, max_model_len)
    if reason:
        _say(f"cannot serve {model_dir}: {reason}")
        return 2
    worker = Worker(model, make_switchable(model))
    engine = Engine(
        name=name,
        root=model_dir,
        worker=worker,
        language=Language(tokenizer),
        limits=_limits(model, tokenizer.eos_token_id, model_dir, max_model_len),
        shapes=target_shapes(model),
        max_rank=max_rank,
    )
    _say(f"embedded engine, for trying and testing only, serves {name} at http://{host}:{port}")
    return _run(worker, make_app(engine, api_key=api_key), host, port)


def _run(worker: Worker, app: Starlette, host: str, port: int) -> int:
    """The server and the worker; when one ends, so does the other."""
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            host=host,
            port=port,
            log_config=None,
            log_level="warning",
            # An open stream must not keep the process from ending.
            timeout_graceful_shutdown=STOP_SECONDS,
            timeout_keep_alive=30,
        )
    )
    # The server sends itself the signal again once it has shut down: let it pass.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    worker.on_death = lambda: setattr(server, "should_exit", True)
    worker.start()
    server.run()
    died = not worker.is_alive()
    worker.stop()
    worker.join(STOP_SECONDS)
    return 1 if died or not server.started else 0


def _unfit(model: PreTrainedModel, max_model_len: int | None) -> str | None:
    layers = set(getattr(model.config, "layer_types", None) or ["full_attention"])
    if not layers <= SERVED_LAYERS:
        return "it has other layers than attention; vLLM may serve it"
    if max_model_len and max_model_len > model.config.max_position_embeddings:
        return f"max-model-len is more than its {model.config.max_position_embeddings} positions"
    return None


def _limits(
    model: PreTrainedModel, eos_id: int | None, model_dir: str, max_model_len: int | None
) -> Limits:
    config = _generation_config(Path(model_dir))
    named = config.get("eos_token_id", eos_id)
    ends = {eos_id, *(named if isinstance(named, list) else [named])} - {None}
    defaults = {name: config[name] for name in SAMPLING_DEFAULTS if config.get(name) is not None}
    return Limits(
        max_model_len=max_model_len or model.config.max_position_embeddings,
        end_ids=frozenset(int(end) for end in ends if end is not None),
        defaults=defaults,
    )


def _generation_config(model_dir: Path) -> dict[str, Any]:
    file = model_dir / "generation_config.json"
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else {}


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201
