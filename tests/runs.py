"""What a run leaves: its row, the numbers of a step, a measurement of quality."""

from __future__ import annotations

from ttrl.store.runs import Run, RunState, Trigger

RUN = Run(
    3, Trigger.SCHEDULE, RunState.HELD, "sharper", 1.0, 1.0, 2.0, 2.0, 7, {}, None, None, "ttrl-1",
    1, 1, 1, 1,
)  # fmt: skip


STEP = {
    "step": 1, "share": 0.5, "vote_entropy": 1.0, "informative": 0.5, "step_samples": 32,
    "step_saved": 8, "in_flight_limit": 2.5, "paused_seconds": 3.0, "asked_again": 8, "flipped": 2,
    "alike": 0.25, "unreadable": 0.1, "cut": 0.05, "length": 12.0, "token_entropy": 0.3, "kl": None,
    "mismatch": 0.01, "effective": 1.0, "step_tokens": 400, "reward": 0.5,
    "outcomes": {"label": 6, "tie": 2}, "shares": [0.5, 0.75, 0.25, 1.0],
}  # fmt: skip


QUALITY = {
    "questions": 70, "labelled": 30, "agreement": 0.7, "consistency": 0.6, "readable": 1.0,
    "refused": 0.0, "tokens": 12.0, "seconds": 0.4, "pass_at_1": 0.5, "pass_at_k": 0.9,
    "majority_right": 0.6, "right": {"value": 0.5, "low": 0.3, "high": 0.7, "labels": 30},
    "estimate": {"value": 0.55, "low": 0.4, "high": 0.7, "labels": 25, "unlabelled": 40},
    "tags": {"sums": {"value": 0.5}},
}  # fmt: skip


BARE = QUALITY | {"pass_at_1": None, "right": None, "estimate": None, "tags": {}}
