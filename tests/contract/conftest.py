"""The engines that must keep the contract: ours, and the real vLLM when asked for."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import once
from tests.contract.served import BASE, MAX_MODEL_LEN, Served
from ttrl.engine.client import EngineClient
from ttrl.engine.process import (
    VLLM_ENVIRONMENT,
    EngineLog,
    EngineProcess,
    embedded_command,
    free_port,
    vllm_command,
)

VLLM_FLAGS = (
    *("--dtype", "float32", "--enforce-eager", "--max-model-len", str(MAX_MODEL_LEN)),
    # Its CPU build dies of prompts' log-probabilities in a batch, if outputs may have a LoRA.
    *("--lora-target-modules", "q_proj", "k_proj", "v_proj", "o_proj"),
    *("gate_proj", "up_proj", "down_proj"),
)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return once.models(tmp_path_factory)


ENGINES = (
    pytest.param("embedded", marks=pytest.mark.integration),
    pytest.param("vllm", marks=[pytest.mark.vllm, pytest.mark.timeout(400)]),
)


@pytest.fixture(scope="session", params=ENGINES)
def engine(
    request: pytest.FixtureRequest, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    kind = request.param
    if kind == "vllm" and os.environ.get("TEST_ENGINE") != "vllm":
        pytest.skip("TEST_ENGINE=vllm runs these against a real vLLM")
    port = free_port()
    served = Served(kind, f"http://127.0.0.1:{port}", folder)
    log = EngineLog(tmp_path_factory.mktemp("log") / "engine.log")
    if kind == "vllm":
        python = os.environ.get("TEST_VLLM_PYTHON", sys.executable)
        command = vllm_command(served.model, port, BASE, extra_flags=VLLM_FLAGS, python=python)
        environment = VLLM_ENVIRONMENT | {"VLLM_CPU_KVCACHE_SPACE": "1"}
    else:
        command, environment = embedded_command(served.model, port, BASE), {}
    with EngineProcess(command, url=served.url, env=environment, log=log, startup_timeout=300):
        yield served
    log.close()


@pytest.fixture
def client(engine: Served) -> Iterator[EngineClient]:
    with EngineClient(engine.url, timeout=60) as client:
        yield client
        for card in client.models():
            if card.parent is not None:
                client.unload_adapter(card.name)
