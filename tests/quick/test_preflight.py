"""An engine that lacks something is refused with the flag to add."""

from __future__ import annotations

import pytest

from ttrl.engine.client import EngineRefused, ModelCard
from ttrl.engine.process import EngineUnfit, check_external
from ttrl.versions import WEIGHTS

LATER = "Call to add_lora method failed: Worker failed with error '"


class Engine:
    """Serves `root`, and answers a load with `refusal`. What vLLM 0.32 says was read off it."""

    url = "http://engine"

    def __init__(self, refusal=None, root="/models/m"):
        self.refusal = refusal
        self.root = root
        self.unloaded = []

    def base_model(self):
        return ModelCard("m", None, self.root, 4096)

    def load_adapter(self, name, path):
        assert (path / WEIGHTS).read_bytes()[8:] == b"{}", "no weights"
        if self.refusal:
            raise EngineRefused(*self.refusal)

    def unload_adapter(self, name):
        self.unloaded.append(name)


@pytest.mark.parametrize(
    ("engine", "message"),
    [
        (
            Engine((500, f"{LATER}LoRA is not enabled. Use --enable-lora")),
            "start it with --enable-l",
        ),
        (
            Engine((500, f"{LATER}LoRA rank 16 is greater than max_lora_rank 8.'")),
            "max-lora-rank 16",
        ),
        (Engine((404, "No adapter found for <path>")), "it cannot read"),
        (Engine((404, "no reason given")), "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True"),
        (Engine(root="/models/other"), "serves /models/other, not /models/m"),
    ],
)
def test_what_it_lacks_is_said(tmp_path, engine, message):
    with pytest.raises(EngineUnfit, match=message):
        check_external(engine, model="/models/m", rank=16, root=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "engine", [Engine(), Engine((500, f"{LATER}'")), Engine((400, "it has no weights"))]
)
def test_one_that_has_all_is_taken(tmp_path, engine):
    check_external(engine, model="/models/x/../m", rank=16, root=tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert len(engine.unloaded) == (engine.refusal is None)
