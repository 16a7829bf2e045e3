"""Probes and pairs of answers for the gate and for the operator."""

from __future__ import annotations

import random

from tests.command import ttrl
from ttrl.config import GateConfig
from ttrl.evaluation.evidence import Answered, Probe, threshold_at
from ttrl.evaluation.probes import Pair, ProbeOrigin, Side

SETTINGS = GateConfig()


FIRST = threshold_at(0.0, [], SETTINGS)
"""That of a year's first gate."""
N = 16
"""Answers to each probe."""


def answered(rng, share, *, right, label, labelled, tokens=40.0, readable=1.0):
    """N answers of which about a share is the label and the rest is scattered."""
    given = [label if rng.random() < share else str(rng.randrange(10**6)) for _ in range(N)]
    given = [answer if rng.random() < readable else None for answer in given]
    accepted = tuple(answer == right for answer in given) if labelled else None
    return Answered(tuple(given), accepted, tokens)


def probes(count, live, candidate, *, base=None, seed=0, labelled=False, tags=(), **other):
    """Probes whose right answers differ. `live`, `candidate` and `base` are the shares of each
    version's answers that say the same thing; `wrong` makes this the wrong thing for a candidate,
    `same` says the same to all."""
    rng = random.Random(seed)
    made = []
    for number in range(count):
        right = f"{seed}-{number}"
        label = {"wrong": f"{right}!", "same": "0"}.get(other.get("says"), right)
        side = {"right": right, "labelled": labelled}
        ours = {key: other[key] for key in ("tokens", "readable") if key in other}
        before = answered(rng, live, label=right, **side)
        made.append(
            Probe(
                right,
                f"{right}:{other.get('cluster', number)}",
                base=before if base is None else answered(rng, base, label=right, **side),
                live=before,
                candidate=answered(rng, candidate, label=label, **side, **ours),
                tags=tags,
            )
        )
    return made


PAIR = Pair(1, ProbeOrigin.DISAGREEMENT, Side("so 4", "4"), Side("so 5", "5"))


def label_command(state_dir):
    """Runs `ttrl label` with these words on that state; what it printed."""
    there = ("--state-dir", state_dir)
    return lambda *words, **options: ttrl("label", *words, *there, columns=120, **options).output
