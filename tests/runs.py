"""What a run leaves: its row, what a step showed, a verdict, a measurement of quality."""

from __future__ import annotations

from dataclasses import replace

from ttrl.answers.layers import Layer
from ttrl.evaluation.estimates import Estimate, Quality
from ttrl.evaluation.gate import Change, Judgement, Verdict
from ttrl.events import Step
from ttrl.store.runs import Run, RunState, Trigger
from ttrl.votes import VoteOutcome

RUN = Run(
    3, Trigger.SCHEDULE, RunState.HELD, "sharper", 1.0, 1.0, 2.0, 2.0, 7, {}, None, None, "ttrl-1",
    1, 1, 1, 1,
)  # fmt: skip


STEP = Step(
    step=1, share=0.5, vote_entropy=1.0, asked_again=8, flipped=2, alike=0.25, no_signal=0.5,
    unreadable=0.1, cut=0.05, length=12.0, token_entropy=0.3, kl=None, mismatch=0.01, effective=1.0,
    steps=9, seconds=2.0, layers={Layer.BOX: 24, Layer.CUT_OFF: 8}, step_saved=8, step_tokens=400,
    outcomes={VoteOutcome.LABEL: 6, VoteOutcome.TIE: 2}, shares=(0.5, 0.75, 0.25, 1.0),
    in_flight_limit=2.5, paused_seconds=3.0,
)  # fmt: skip


QUALITY = Quality(
    questions=70, labelled=30, agreement=0.7, consistency=0.6, readable=1.0, refused=0.0,
    tokens=12.0, seconds=0.4, pass_at_1=0.5, right=Estimate(0.5, 0.35, 0.65, 30, 0), pass_at_k=0.9,
    majority_right=0.6, estimate=Estimate(0.55, 0.4, 0.7, 25, 40), speaking=25, undecided=0.0,
    withheld=None, tags={"sums": Estimate(0.5, 0.3, 0.7, 20, 0)},
)  # fmt: skip


BARE = replace(QUALITY, pass_at_1=None, right=None, estimate=None, tags={})


def judgement(verdict: Verdict = Verdict.UNPROVEN, **quoted: str) -> Judgement:
    """A verdict that quotes answers of the live version to questions, by their hashes."""
    worst = tuple(Change(key, answer, None, 1.0, 0.0) for key, answer in quoted.items())
    return Judgement(verdict, "so", None, (), worst, probes=2)
