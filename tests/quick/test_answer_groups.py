"""Ordinary wordings of answers, and near misses, are counted as what they say."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from benchmarks.answers import pairs
from ttrl.answers import Reader

GROUPS = Path(__file__).parents[2] / "benchmarks" / "data" / "answers.jsonl"


def test_wordings_that_were_written_without_the_rules_in_sight():
    total: Counter[str] = Counter()
    for line in GROUPS.read_text(encoding="utf-8").splitlines():
        group = json.loads(line)
        total += pairs(Reader().read(group["question"], group["samples"]).answers, group["classes"])
    assert total["right"] / (total["right"] + total["wrong"]) >= 0.99
    assert total["right"] / (total["right"] + total["missed"]) >= 0.93
