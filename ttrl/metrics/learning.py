"""Runs: their votes, their updates, and when the next one is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ttrl.metrics.series import SHARES, Maker
from ttrl.store.runs import RunState
from ttrl.votes import VoteOutcome


class Voting:
    """What the samples say."""

    def __init__(self, make: Maker) -> None:
        self.votes = make.counter(
            "ttrl_votes_total",
            "Votes, by whether they have a label or why not.",
            "outcome",
            each=VoteOutcome,
        )
        self.shares = make.histogram(
            "ttrl_vote_share_ratio", "Share of the majority answer in each vote.", buckets=SHARES
        )
        self.samples = make.counter("ttrl_samples_total", "Answers drawn for runs.")
        self.saved = make.counter(
            "ttrl_samples_saved_total",
            "Answers that were not drawn because the vote was decided without.",
        )
        self.tokens = make.counter("ttrl_sampled_tokens_total", "Tokens drawn for runs.")
        self.entropy = make.newest(
            "ttrl_vote_entropy_nats", "Mean entropy of the votes in the newest step."
        )
        self.informative = make.newest(
            "ttrl_groups_informative_ratio",
            "Share of the newest step's questions that could teach; the others have no signal.",
        )
        self.flipped = make.newest(
            "ttrl_vote_flipped_ratio",
            "Share of the questions asked again in the newest step that have another label.",
        )
        self.alike = make.newest(
            "ttrl_vote_alike_ratio",
            "Share of the pairs of the newest step's questions that got the same label.",
        )
        self.unreadable = make.newest(
            "ttrl_samples_unreadable_ratio",
            "Share of the newest step's answers that were cut off or cannot be read.",
        )
        self.length = make.newest(
            "ttrl_samples_length_tokens", "Mean length of the newest step's answers."
        )
        self.in_flight_limit = make.newest(
            "ttrl_sampling_in_flight_limit",
            "Requests that a run may have in the engine at once; 0 while it pauses.",
        )
        self.paused_seconds = make.counter(
            "ttrl_sampling_paused_seconds_total",
            "Time that runs asked for nothing because many waited, counted when a pause ends.",
        )

    def count(self, numbers: Mapping[str, Any]) -> None:
        """What a step drew, or the draw of one that there was nothing to learn for."""
        self.samples.inc(numbers["step_samples"])
        self.saved.inc(numbers["step_saved"])
        self.tokens.inc(numbers["step_tokens"])
        for outcome, count in numbers["outcomes"].items():
            self.votes.labels(outcome).inc(count)
        for share in numbers["shares"]:
            self.shares.observe(share)

    def show(self, numbers: Mapping[str, Any]) -> None:
        """How that looked."""
        self.entropy.set(numbers["vote_entropy"])
        self.informative.set(numbers["informative"])
        self.alike.set(numbers["alike"])
        self.unreadable.set(numbers["unreadable"])
        self.length.set(numbers["length"])
        self.in_flight_limit.set(numbers["in_flight_limit"])
        again = numbers["asked_again"]
        self.flipped.set(numbers["flipped"] / again if again else None)


class Updating:
    """The policy update."""

    def __init__(self, make: Maker) -> None:
        self.steps = make.counter("ttrl_update_steps_total", "Optimizer steps.")
        self.reward = make.newest(
            "ttrl_update_reward_ratio",
            "Mean majority reward of the newest step: the share of its answers that are their "
            "question's majority. Other rewards are not in it: among several each has mean 0.",
        )
        self.token_entropy = make.newest(
            "ttrl_update_token_entropy_nats", "Mean entropy of the next token in the newest step."
        )
        self.kl = make.newest(
            "ttrl_update_kl_nats", "Estimated divergence a token from where the run started."
        )
        self.masked = make.newest(
            "ttrl_update_masked_ratio",
            "Share of the trained tokens that count for nothing because engine and trainer differ.",
        )
        self.mismatch = make.newest(
            "ttrl_update_logprob_mismatch_nats",
            "Mean difference between the engine's and the trainer's log-probabilities.",
        )

    def show(self, numbers: Mapping[str, Any]) -> None:
        """What the newest step was like."""
        self.reward.set(numbers["share"])
        self.token_entropy.set(numbers["token_entropy"])
        self.kl.set(numbers["kl"])
        self.masked.set(numbers["masked"])
        self.mismatch.set(numbers["mismatch"])


class Scheduling:
    """Runs, and the clock that starts them."""

    def __init__(self, make: Maker) -> None:
        ends = [state for state in RunState if state.ended]
        self.runs = make.counter("ttrl_runs_total", "Runs that ended, by how.", "state", each=ends)
        self.active = make.gauge("ttrl_run_active", "1 while a run is under way.")
        self.step = make.newest("ttrl_run_steps", "Optimizer steps of the newest run.")
        self.last_run = make.newest("ttrl_last_run_timestamp_seconds", "When the last run ended.")
        self.left_out = make.counter(
            "ttrl_questions_left_out_total",
            "Questions that a cap kept out of an update, once for each run, by cap.",
            "reason",
        )
        self.paused = make.gauge("ttrl_learning_paused", "1 while learning is paused.")
        self.next_run = make.newest(
            "ttrl_next_run_timestamp_seconds", "When the next scheduled run is due."
        )
        self.ticks_missed = make.counter(
            "ttrl_schedule_ticks_missed_total",
            "Looks at the schedule, one every five seconds, that were not made in time.",
        )
