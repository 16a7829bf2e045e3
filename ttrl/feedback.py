"""What users say of answers, and what it may decide: what a request may hold, which corrections
make a label, which client says far more than is usual, and what scores say of a version.

Nothing here reads a correction: its canonical answer comes from `ttrl.answers`.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import NormalDist, quantiles
from typing import Any

DEFAULT_METRIC = "default"
MAX_COMMENT, MAX_TAGS, MAX_TAG = 2_000, 16, 64
THUMBS = {"up": 1.0, "down": 0.0}
HOUR_SECONDS, DAY_SECONDS = 3600.0, 86_400.0
FEW = 10
"""So much feedback in an hour is never a burst."""
LEAST_HOURS, LEAST_CLIENTS = 8, 4
"""Without so many others there is nothing usual to compare an hour with. Of simulated hours of 20
clients, each with a steady, skewed or bursty rate of its own, less than one in 150 is then taken
for a burst (tests/quick/test_feedback.py)."""
VOICES = 16
"""Clients whose corrections of one question are compared, the newest."""
PSEUDO = 4
"""Scores that are added for the interval, half of them 1: few equal ones have no spread (Agresti
and Coull, "Approximate is better than exact", 1998)."""
Z = NormalDist().inv_cdf(0.975)

Hours = Mapping[tuple[str | None, int], int]
"""How much feedback each client gave in each hour (since 1970) in which it gave any."""


class State(StrEnum):
    """What became of feedback."""

    NEW = "new"  # a correction that was not looked at yet
    SCORED = "scored"  # it has no correction: its score counts for the version
    WAITING = "waiting"  # too few keys say so: the operator may accept it
    LABEL = "label"  # it made its question a labelled probe
    DISPUTED = "disputed"  # clients correct the question in different ways
    OLDER = "older"  # newer corrections of the same question count
    UNREADABLE = "unreadable"  # nothing in it can be compared
    BURST = "burst"  # its client said far more than is usual in that hour
    TRAINED = "trained"  # the question, or a near-duplicate, was learned from before
    LABELLED = "labelled"  # the question has a label by somebody else
    NO_QUESTION = "no_question"  # the question is not recorded


@dataclass(frozen=True)
class Receipt:
    """What is kept of an answer so that its client can say something of it: who it was for (None
    without keys), and the version that gave it, None for the base model."""

    hash: str
    client: str | None
    version: str | None


def receipt_hash(answer_id: str, client: str | None) -> str:
    """Return the name of an answer in the store: nobody else's feedback can have it, whatever id
    a client chose for its request."""
    return hashlib.sha256(f"{client or ''}\n{answer_id}".encode()).hexdigest()


class Invalid(ValueError):
    """A field has a value that it may not have; the message repeats none of it."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"'{field}' {message}.")
        self.field = field


@dataclass(frozen=True)
class Given:
    """Feedback on an answer, as it is kept: `score` from 0 to 1, a thumb is one or the other."""

    score: float | None = None
    correction: str | None = None
    comment: str | None = None
    metric: str = DEFAULT_METRIC
    tags: tuple[str, ...] = ()


KINDS = ("correction", "score", "thumb", "comment")
"""The fields of which feedback has one at least; its kind is the first of these that it has."""


def parse(body: Mapping[str, Any], *, max_chars: int) -> tuple[str, str, Given]:
    """Return the id of the answer, the kind of feedback and the feedback in a request. null is a
    field left out. Raises Invalid."""

    def text(most: int) -> tuple[Callable[[Any], bool], str]:
        return (
            lambda v: isinstance(v, str) and 0 < len(v) <= most and not v.isspace(),
            f"must be a text of 1 to {most:,} characters",
        )

    checks: dict[str, tuple[Callable[[Any], bool], str]] = {
        "id": text(256),
        "score": (
            lambda v: isinstance(v, bool | int | float) and 0 <= v <= 1,
            "must be true, false or a number from 0 to 1",
        ),
        "thumb": (lambda v: v in tuple(THUMBS), "must be 'up' or 'down'"),
        "correction": text(max_chars),
        "comment": text(MAX_COMMENT),
        "metric": (
            lambda v: isinstance(v, str) and re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", v) is not None,
            "must be a name of 1 to 64 letters, digits and _.-",
        ),
        "tags": (
            lambda v: (
                isinstance(v, list)
                and len(v) <= MAX_TAGS
                and all(isinstance(tag, str) and 0 < len(tag) <= MAX_TAG for tag in v)
            ),
            f"must be a list of at most {MAX_TAGS} texts of 1 to {MAX_TAG} characters",
        ),
    }
    given = {name: value for name, value in body.items() if value is not None}
    if given.keys() - checks.keys():
        raise Invalid("*", f"is not all known: the fields are {', '.join(checks)}")
    for name, (allows, what) in checks.items():
        if name in given and not allows(given[name]):
            raise Invalid(name, what)
    if "id" not in given:
        raise Invalid("id", "is required: the id of the answer")
    if "score" in given and "thumb" in given:
        raise Invalid("thumb", "cannot be given together with 'score'")
    kind = next((name for name in KINDS if name in given), None)
    if kind is None:
        raise Invalid("score", f"is missing, and so are the others of {', '.join(KINDS)}")
    score = THUMBS[given["thumb"]] if "thumb" in given else given.get("score")
    return given["id"], kind, Given(
        None if score is None else float(score),
        given.get("correction"),
        given.get("comment"),
        given.get("metric", DEFAULT_METRIC),
        tuple(given.get("tags", ())),
    )  # fmt: skip


class Allowance:
    """How much feedback each client may still give in this hour."""

    def __init__(self, an_hour: int) -> None:
        self._most, self._hour = an_hour, 0
        self._taken: dict[str | None, int] = {}

    def wait(self, client: str | None, now: float) -> float:
        """Take one at `now` (Unix seconds) and return 0, or return in how many seconds there is
        one again."""
        if (hour := int(now // HOUR_SECONDS)) != self._hour:
            self._hour, self._taken = hour, {}
        taken = self._taken.get(client, 0)
        if taken >= self._most:
            return (hour + 1) * HOUR_SECONDS - now
        self._taken[client] = taken + 1
        return 0.0


def bursts(hours: Hours) -> set[tuple[str | None, int]]:
    """Return the hours in which a client said far more than in its own hours before, or than other
    clients in their busiest. Each other client counts once, so that one that says much makes much
    no more usual."""
    of: dict[str | None, dict[int, int]] = defaultdict(dict)
    for (client, hour), count in hours.items():
        of[client][hour] = count
    busiest = {client: max(counts.values()) for client, counts in of.items()}
    found = set()
    for (client, hour), count in hours.items():
        if count > FEW:
            before = [n for earlier, n in of[client].items() if earlier < hour]
            others = [n for other, n in busiest.items() if other != client]
            if (len(before) >= LEAST_HOURS and count > _outer_fence(before)) or (
                len(others) >= LEAST_CLIENTS and count > _outer_fence(others)
            ):
                found.add((client, hour))
    return found


def _outer_fence(counts: Sequence[int]) -> float:
    """Return Tukey's outer fence ("Exploratory Data Analysis", 1977), of square roots: so the
    spread of counts is the same whatever their mean (Bartlett 1936)."""
    low, _, high = quantiles(map(math.sqrt, counts), n=4, method="inclusive")
    return (high + 3 * (high - low)) ** 2


@dataclass(frozen=True)
class Correction:
    """What a client (None without keys) says of a question, since a time (Unix seconds)."""

    id: int
    client: str | None
    text: str
    at: float


def voices(corrections: Iterable[tuple[int, str | None]]) -> list[int]:
    """Return the ids of the corrections of one question that count: of all that there are, newest
    first with their clients, the newest of each client, and not more than can be compared."""
    newest: dict[str | None, int] = {}
    for key, client in corrections:
        newest.setdefault(client, key)
    return list(newest.values())[:VOICES]


def screen(
    corrections: Sequence[Correction],
    answers: Sequence[str | None],
    *,
    agree: int,
    closed: State | None = None,
) -> tuple[str | None, dict[int, State]]:
    """Return the label that the corrections of one question, one of each client, make, if they do,
    and what becomes of each. `answers` are their canonical answers, None where nothing can be read;
    `closed` is why the question gets no label whatever they say.

    They make a label if all say the same and come from at least `agree` keys: without keys
    everybody is one client, which makes none.
    """
    if closed is not None:
        return None, dict.fromkeys((each.id for each in corrections), closed)
    said = {each: answer for each, answer in zip(corrections, answers, strict=True) if answer}
    label, state = None, State.WAITING
    if len(set(said.values())) > 1:
        state = State.DISPUTED
    elif sum(each.client is not None for each in said) >= agree:
        label, state = next(iter(said.values())), State.LABEL
    return label, {each.id: state if each in said else State.UNREADABLE for each in corrections}


@dataclass(frozen=True)
class Share:
    """The mean score of a version's answers with its 95% interval, and on how many answers, of how
    many clients, it rests."""

    value: float
    low: float
    high: float
    answers: int
    clients: int


def share(answers: int, total: float, squares: float, clients: int) -> Share:
    """Estimate it from the sum of at least one score and that of their squares."""
    count = answers + PSEUDO
    centre = (total + PSEUDO / 2) / count
    spread = max(0.0, (squares + PSEUDO / 2) / count - centre**2)
    reach = Z * math.sqrt(spread / count)
    value, low, high = total / answers, max(0.0, centre - reach), min(1.0, centre + reach)
    return Share(min(max(value, low), high), low, high, answers, clients)
