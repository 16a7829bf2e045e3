"""What takes long to read, or ends the process that reads, costs its own answer only."""

from __future__ import annotations

import pytest

from ttrl.answers import Reader
from ttrl.answers.bounded import BoundedReader
from ttrl.answers.layers import Layer
from ttrl.config import AnswerKind
from ttrl.meaning import Judge

pytestmark = pytest.mark.integration

QUESTION = "Why is the sky blue?"
SENTENCES = [
    "Because short waves of light are scattered more by the air than long ones are.",
    "The air scatters short waves of light more than it scatters long ones, hence the colour.",
    "It mirrors the colour of the oceans, which cover most of the planet.",
]


@pytest.fixture
def reader():
    reader = BoundedReader()
    yield reader
    reader.stop()


@pytest.mark.fault(
    "reading sampled answers takes long, or ends the process that reads",
    sees="nothing: answers are read in a process of their own, which is replaced",
    keeps="everything; the answers are not read (`failed`), and the question has no label",
)
def test_what_takes_long_to_read_is_not_read_and_the_next_one_is(reader, caplog):
    asked = "What is 2 + 3?", ["\\boxed{5}", "The answer is 5."]
    assert reader.read(*asked) == Reader().read(*asked)
    reader._worker.process.kill()  # as the kernel does when the time is over
    assert set(reader.read(*asked).layers) == {Layer.FAILED}
    assert "the time or the memory for it is used up" in caplog.text
    assert reader.read(*asked).answers == ("5", "5")


def test_what_raises_is_named_by_its_kind_alone(reader):
    assert reader._ask("somebody's words") == "AttributeError"


def test_it_reads_and_compares_as_the_reader_of_this_process_does(reader):
    assert reader.read(QUESTION, SENTENCES) == Reader().read(QUESTION, SENTENCES)
    for kind, text, right in (
        (AnswerKind.FREE, SENTENCES[0], SENTENCES[1:]),
        (AnswerKind.MATH, "It is \\(\\frac{1}{2}\\).", ["0.5"]),
    ):
        close = reader.close(text, right, QUESTION, kind)
        assert close == Reader().close(text, right, QUESTION, kind) > 0


class Generous(Judge):
    """Holds everything for the same."""

    words = "generous"

    def follows(self, question, pairs):
        return [True] * len(pairs)


def test_a_judge_is_asked_in_this_process():
    bounded = BoundedReader(AnswerKind.FREE, judge=Generous(100))
    judged = bounded.read(QUESTION, SENTENCES)
    bounded.stop()
    assert judged == Reader(AnswerKind.FREE, judge=Generous(100)).read(QUESTION, SENTENCES)
    assert len(set(judged.answers)) == 1
