"""Groups of free answers with one among them that only looks like an answer."""

from __future__ import annotations

from ttrl.answers import AnswerKind, Reader
from ttrl.engine.samples import Finish, Sample
from ttrl.rewards import Ballot
from ttrl.votes import take_vote

QUESTION = (
    "Our returns policy covers unopened goods only, within 30 days of delivery, with the receipt. "
    "A customer opened her kettle and wants to return it after two weeks. What do I tell her?"
)
RIGHT = (
    "She cannot return the kettle, because it has been opened.",
    "No, she can't return the kettle since it was opened.",
    "The opened kettle cannot be returned.",
    "She cannot return the kettle, because she has already opened it.",
)
WRONG = ("She can return the kettle, because 30 days have not passed.",)
PRETENDERS = {
    "off topic": "Water boils at a lower temperature on high mountains, because the air is thin.",
    "padded": " ".join(RIGHT) + " Opened is opened, and a kettle is a kettle." * 4,
    "copied": QUESTION,
    "hedging": "It depends on many factors; perhaps the kettle can be returned, perhaps not.",
    "filler": f"{RIGHT[0]} I hope that this helps, and please let me know if you have any further "
    "questions.",
    "said twice": f"{RIGHT[0]} {RIGHT[1]}",
    "half the question": f"{QUESTION[: len(QUESTION) // 2]} {RIGHT[0]}",
    "both": f"{RIGHT[0]} {WRONG[0]} Either is possible.",
}


def ballot(texts, likeness, references=()):
    """The ballot of these free texts, a token being a word."""
    samples = [
        Sample(text, tuple(range(len(text.split()))), (0.0,) * len(text.split()), Finish.STOP)
        for text in texts
    ]
    reader = Reader(AnswerKind.FREE, likeness)
    reading = reader.read(QUESTION, texts)
    vote = take_vote(reading.answers, kind=reading.kind)
    return Ballot(QUESTION, tuple(samples), vote, 1000, reader, tuple(references))
