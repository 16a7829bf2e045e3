"""The benchmarks count as they say."""

from __future__ import annotations

import pytest

from benchmarks import meaning, rewards, votes
from benchmarks.votes import Asked
from ttrl.config import Config
from ttrl.config.loading import override
from ttrl.meaning import Letters


def test_rules_stop_where_they_say():
    decided, divided = ["5"] * 64, ["5", "6"] * 32
    rule = votes.adaptive(64, 4, 0.9)
    assert (rule(decided), rule(divided)) == (8, 64)
    every = votes.rules(64)
    assert every["all"](decided) == 64
    assert every["16"](decided) == 16


def test_what_a_rule_saves_is_counted():
    asked = [Asked(("5",) * 64, "5"), Asked(("6",) * 64, "5")]
    rows = {name: votes.measure(asked, stop) for name, stop in votes.rules(64).items()}
    assert (rows["all"].accuracy, rows["all"].samples) == (0.5, 64)
    found = votes.summary({"v": rows}, 64)
    assert found == {"samples_saved": 0.875, "label_accuracy_loss": 0.0}


def test_pairs_are_counted_by_what_was_wrong():
    item = meaning.Item(
        "How long?",
        "en",
        ("You may return it within 30 days.", "You may return it within thirty days."),
        (("You may return it within 40 days.", "number"),),
    )
    other = meaning.Item("What?", "en", ("Bananas ripen quickly in summer.",), ())
    found = meaning.count([item, other], Letters())
    assert (found["right"], found["missed"], found["wrong"], found["far"]) == (1, 0, 0, 0)
    alone = meaning.count([item, other], Letters(), marks=False)
    assert (alone["wrong"], alone["wrong number"]) == (2, 2)
    assert meaning.scores(alone)["precision"] == pytest.approx(1 / 3, abs=1e-3)


@pytest.mark.parametrize("switch", rewards.SWITCHES)
def test_each_switch_is_a_setting(switch):
    assert override(Config(), rewards.SWITCHES[switch])
