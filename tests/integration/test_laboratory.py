"""The laboratory on a small scale: it learns, it measures, and it goes on where it ended."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.integration, pytest.mark.long, pytest.mark.timeout(600)]


def learning(*words):
    command = [sys.executable, "-m", "benchmarks.learning", "--smoke", *words]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=580, cwd=Path(__file__).parents[2]
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), done.stderr


def test_the_smoke_table(tmp_path):
    out = tmp_path / "table.json"
    found, said = learning("--out", str(out))
    assert (found["shipped_from_collapse"], found["runs_collapse"]) == (0, 1)
    assert found["initially_right"] > 0, f"what was learned from easy questions ships; {said}"
    assert found["above_majority"]["mixture"] == "easy"
    assert found["seconds"] > 0
    kept = json.loads(out.read_text())
    rows = {(row["mixture"], row["arm"]): row for row in kept["rows"]}
    assert len(rows) == len(kept["cells"]) == 6
    greedy = {arm: rows["easy", arm]["held_out_greedy"][0] for arm in ("none", "plain", "ours")}
    assert greedy["ours"] > greedy["none"] + 0.3
    assert greedy["plain"] > greedy["none"] + 0.3
    pass_at_1 = {arm: rows["constant", arm]["easy_pass_at_1"][0] for arm in ("none", "plain")}
    assert pass_at_1["plain"] < pass_at_1["none"], "it collapses where nothing judges it"
    assert not rows["constant", "ours"]["shipped"]
    again, said = learning("--out", str(out))
    assert again == found, "no cell is done twice"
    assert "minutes to go" not in said
