"""What an answer is worth for what the others say."""

from __future__ import annotations

from ttrl.rewards.ballot import Ballot


def majority(ballot: Ballot) -> list[float]:
    """1 where the answer is the label, else 0 (Zuo et al., TTRL, arXiv 2504.16084)."""
    return [float(agrees) for agrees in ballot.agreeing]


def soft_majority(ballot: Ballot) -> list[float]:
    """The share of the samples that give the same answer, 0 for one that cannot be read: what a
    narrow majority is unsure of, it teaches less surely. What only looks like a free text that
    answers loses by ttrl.meaning.honesty. All 0 without a label."""
    if ballot.vote.label is None:
        return [0.0] * len(ballot.samples)
    votes = dict(ballot.vote.counts)
    return [
        honest * votes.get(answer, 0) / len(ballot.samples) if answer else 0.0
        for answer, honest in zip(ballot.vote.answers, ballot.honesty, strict=True)
    ]
