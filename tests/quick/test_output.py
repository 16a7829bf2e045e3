"""What commands print: how far they are, numbers with their nouns, and tables."""

from __future__ import annotations

import io
import re
import time

import click
import pytest
from click.testing import CliRunner
from rich.console import Console

from serve.cli import main, output
from serve.cli.output import how_far, print_table, progress
from serve.cli.runs import so_far
from tests.standin import DEADLINE
from tests.stores import recorded
from ttrl.events import Probed
from ttrl.store.questions import QuestionState
from ttrl.store.runs import RunState, Trigger
from ttrl.words import counted, lasting


def test_numbers_agree_with_their_nouns():
    assert [counted(count, "step") for count in (0, 1, 2)] == ["0 steps", "1 step", "2 steps"]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (3599, "1 h"),
        (3600, "1 h"),
        (12000, "3 h 20 min"),
    ],
)
def test_times(seconds, words):
    assert lasting(seconds) == words


@pytest.mark.parametrize(
    ("done", "of", "line"),
    [
        (0, None, "asking: 0 after 2 min"),
        (0, 40, "asking: 0 of 40 after 2 min"),
        (10, 40, "asking: 10 of 40 after 2 min, about 6 min left"),
        (40, 40, "asking: 40 of 40 after 2 min, about 0 s left"),
    ],
)
def test_how_far_a_command_is(done, of, line):
    assert how_far("asking", done, of, 120) == line


def test_where_a_run_is(store):
    run = store.runs.create(Trigger.OPERATOR, {})
    store.runs.start(run.id, parent=None)
    began = store.runs.get(run.id).started

    def line(state, samples=0, steps=None, probed=None):
        store.runs.note(run.id, state=state, steps=2)
        return so_far(store.runs.get(run.id), samples, steps, probed, began + 90, began + 120)

    assert line(RunState.SELECTING) == "run 1: selecting, 2 min after it began"
    assert line(RunState.UPDATING).endswith("; 0 samples so far")
    far = line(RunState.UPDATING, 64, 10)
    assert far == "run 1, steps: 2 of 10 after 2 min, about 8 min left; 64 samples so far"
    probes = line(RunState.JUDGING, probed=Probed(3, 4))
    assert probes == "run 1, answers to probes: 3 of 4 after 30 s, about 10 s left"


def test_progress_is_a_line_now_and_then_where_there_is_no_terminal(monkeypatch, capsys):
    """Also while nothing moves."""
    monkeypatch.setattr(output, "QUIET_SECONDS", 0.01)
    until, said = time.monotonic() + DEADLINE, ""
    with progress("asking") as move:
        move(completed=1, total=2)
        while said.count("asking: 1 of 2 after ") < 2:
            assert time.monotonic() < until, said
            said += capsys.readouterr().err
    monkeypatch.setattr(output, "QUIET_SECONDS", 60.0)
    with progress("asking") as move:
        move(completed=1, total=2)
    assert capsys.readouterr().err == ""


@pytest.fixture
def screen(monkeypatch):
    """What a terminal of so many columns shows while something is done, as lines."""

    def show(width, work):
        written = io.StringIO()
        terminal = Console(file=written, force_terminal=True, no_color=True, width=width)
        monkeypatch.setattr(output, "Console", lambda: terminal)
        work()
        return click.unstyle(written.getvalue()).splitlines()

    return show


def test_no_text_takes_the_room_of_names(screen):
    row = ("7", "a text in many words " * 20, "ttrl-cand-12-1f3a5b7c-40", "and another " * 20)
    lines = screen(80, lambda: print_table(("id", "answer", "version", "question"), [row]))
    assert [len(lines), max(map(len, lines))] == [2, 80]
    assert re.fullmatch(r" 7 +a text in .*… +ttrl-cand-12-1f3a5b7c-40 +and another .*… *", lines[1])


@pytest.mark.parametrize("width", [80, 100])
def test_a_reason_is_read_to_its_end(store, tmp_path, screen, width):
    reason = "not proven better yet: 49 labels, about 291 needed; agreement fell from 81% to 62%"
    run = store.runs.create(Trigger.OPERATOR, {})
    store.runs.start(run.id, parent=None)
    store.runs.note(run.id, steps=40)
    store.runs.end(run.id, RunState.HELD, reason, adapter="ttrl-cand-12-1f3a5b-40")
    (question_id,) = recorded(store, "and a long question " * 10)
    store.questions.mark(question_id, QuestionState.QUARANTINED, reason)
    for command in ("runs", "questions"):
        options = [command, "list", "--state-dir", str(tmp_path)]
        lines = screen(width, lambda: CliRunner().invoke(main, options, catch_exceptions=False))  # noqa: B023
        assert max(map(len, lines)) <= width
        words = " ".join(lines).split()
        assert [word for word in reason.split() if word not in words] == []
