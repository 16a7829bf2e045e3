"""A LoRA from elsewhere goes through the gate, and what does not fit never reaches the engine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.integration.alone import SMALL
from tests.integration.daemon import Daemon, record_questions
from tests.versions import reconfigured
from ttrl.evaluation.drift import Drift
from ttrl.store.adapters import AdapterState
from ttrl.store.runs import RunState

pytestmark = [pytest.mark.integration, pytest.mark.timeout(400)]


def test_it_is_judged_and_served_with_proof(tmp_path: Path, random_adapters: list[Path]) -> None:
    state = record_questions(tmp_path / "state", 40)
    # One whose tensors have another rank, and one that is near the base model.
    unfit, near = (
        reconfigured(random_adapters[0], tmp_path / name, setting)
        for name, setting in (("unfit", {"r": 8}), ("near", {"lora_alpha": 2}))
    )

    with Daemon(state, *SMALL) as daemon:
        before = daemon.ask("What is 123 plus 456?")
        refused = daemon.run("adapters", "import", str(unfit))
        assert refused.returncode == 1
        assert "does not fit" in refused.stdout + refused.stderr
        assert daemon.ask("What is 123 plus 456?") == before

        done = daemon.run("adapters", "import", str(near), "--json")
        assert done.returncode == 4, done.stdout + done.stderr
        run = json.loads(done.stdout)
        assert run["state"] == RunState.HELD, run["reason"]
        assert "imported, not trained here" in run["reason"]
        with daemon.store() as store:
            verdicts = store.runs.verdicts(run["id"])
            (verdict,) = verdicts
            assert verdict.evidence.probes >= 8, "what is asked here may be held out as well"
            name = run["adapter"]
            row = store.adapters.get(name)
            assert (row.state, row.parent, row.rank) == (AdapterState.HELD, None, 16)
            assert not store.adapters.question_ids(name)
            assert len(store.adapters.pinned(name)) == 8
            drift = store.measurements.newest(Drift, name)
            assert drift
            assert drift.found.from_base
        daemon.ttrl("adapters", "promote", name)
        daemon.wait_live(name)
        assert "trained elsewhere" in daemon.ttrl("adapters", "show", name)
