"""A real daemon on the real embedded engine, as `ttrl serve` starts it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.daemon import Daemon, settings_for
from tests.integration.light import with_versions
from ttrl.config import EngineKind
from ttrl.demo import model_dir


@pytest.fixture(scope="session")
def random_adapters(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two adapters of the demo's model that answer unlike it and unlike each other."""
    folder = tmp_path_factory.mktemp("adapters")
    program = (
        "import sys\nfrom pathlib import Path\nfrom tests.contract.models import make_adapter\n"
        "for seed in (1, 2):\n"
        "    make_adapter(Path(sys.argv[1]), Path(sys.argv[2]) / str(seed), seed=seed, rank=16)\n"
    )
    command = [sys.executable, "-c", program, str(model_dir()), str(folder)]
    subprocess.run(command, check=True, capture_output=True, cwd=Path(__file__).parents[2])
    return [folder / "1", folder / "2"]


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


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon for tests that leave it as it was."""
    with Daemon(tmp_path_factory.mktemp("shared") / "state") as started:
        yield started


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """A daemon with nothing learned yet."""
    with Daemon(tmp_path / "state") as started:
        yield started


@pytest.fixture
def light(tmp_path: Path) -> Iterator[Daemon]:
    """A daemon on a light model with two versions published; the second is live."""
    with with_versions(tmp_path) as daemon:
        daemon.start()
        daemon.wait_live(daemon.versions[1])
        yield daemon
