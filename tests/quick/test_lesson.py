"""What may come of a lesson: only weights that the guard trusts are chosen from."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.candidate import Candidate
from jobs.lesson import Distrusted, Lesson
from ttrl.config import Config
from ttrl.guard import Action, Rule, Ruling


class Engine:
    """Takes any adapter at once."""

    def load_adapter(self, name: str, directory: Path) -> None:
        assert directory.is_dir()

    def unload_adapter(self, name: str) -> None:
        pass


@pytest.fixture
def lesson(tmp_path):
    """After six steps, of which every other one was kept; the latest choice is always the best."""
    candidate = Candidate(Engine(), tmp_path, 1, "base", keep={2, 4, 6})
    for step in range(1, 7):
        candidate.deploy(Path.mkdir, step)
    return Lesson(Config(), None, None, 1, [], candidate, None, lambda steps, take: max(steps))


@pytest.mark.parametrize(
    ("ruling", "step"),
    [(Ruling(Action.GO_ON, trusted=6), 6), (Ruling(Action.HOLD, 5, Rule.KL, "far away"), 4)],
)
def test_the_last_trusted_step_is_the_last_to_choose_from(lesson, ruling, step):
    lesson.ruling = ruling
    assert lesson.settle().name.endswith(f"-{step}")


@pytest.mark.parametrize(
    "ruling",
    [Ruling(Action.HOLD, 1, Rule.KL, "far away"), Ruling(Action.ABORT, 0, Rule.MISMATCH, "others")],
)
def test_where_no_kept_step_is_trusted_there_is_no_result(lesson, ruling):
    lesson.ruling = ruling
    with pytest.raises(Distrusted, match=ruling.reason):
        lesson.settle()
