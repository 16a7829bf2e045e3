"""Daemons as `ttrl serve` starts them, and versions for them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import once
from tests.integration.daemon import Daemon, settings_for
from tests.integration.light import with_versions
from ttrl.config import EngineKind


@pytest.fixture(scope="session")
def random_adapters(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return once.random_adapters(tmp_path_factory)


@pytest.fixture(scope="module")
def engine_settings(request: pytest.FixtureRequest) -> Iterator[tuple[str, ...]]:
    """What makes a daemon start the engine that `both_engines` names; else the embedded one."""
    kind = getattr(request, "param", EngineKind.EMBEDDED)
    with pytest.MonkeyPatch.context() as patch:
        if kind is EngineKind.VLLM:
            if os.environ.get("TEST_ENGINE") != "vllm":
                pytest.skip("TEST_ENGINE=vllm runs these against a real vLLM")
            patch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
        yield settings_for(kind)


@pytest.fixture
def light(tmp_path: Path) -> Iterator[Daemon]:
    """A daemon on a light model with two versions published; the second is live."""
    with with_versions(tmp_path) as daemon:
        daemon.start()
        daemon.wait_live(daemon.versions[1])
        yield daemon
