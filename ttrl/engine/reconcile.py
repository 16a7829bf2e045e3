"""What to do in the engine so that it serves what the store says: a pure function."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

OURS = "ttrl-"
CANDIDATE = "ttrl-cand-"


@dataclass(frozen=True)
class Load:
    """Load a version into the engine."""

    version: str


@dataclass(frozen=True)
class Prove:
    """Check that the engine answers with this version's weights under its name."""

    version: str


@dataclass(frozen=True)
class Flip:
    """Let a version, None for the base model, answer from the next request on."""

    version: str | None


@dataclass(frozen=True)
class Unload:
    """Take a version that nobody needs out of the engine."""

    version: str


Action = Load | Prove | Flip | Unload


@dataclass(frozen=True)
class Situation:
    """What the store says, what the engine lists, and what the gateway does."""

    wanted: str | None
    previous: str | None
    live: str | None
    """The version that new requests go to now; None is the base model."""
    loaded: AbstractSet[str] = frozenset()
    proven: AbstractSet[str] = frozenset()
    """Versions that the engine was seen to serve, not too long ago."""
    broken: AbstractSet[str] = frozenset()
    """Versions that could not be loaded or proven; not tried again by themselves."""
    leases: AbstractSet[str] = frozenset()
    """Name prefixes of the candidates of runs that live."""
    in_flight: Mapping[str, int] = field(default_factory=dict)


def plan(now: Situation) -> list[Action]:
    """The next actions, in order; what follows from their success is planned when it is known.
    Users never wait for a load: until the wanted version is there and proven, what is live goes on
    answering, or the previous version, or the base model."""
    actions: list[Action] = []
    live = now.live
    if live is not None and (live not in now.loaded or live in now.broken):
        live = _best_ready(now)  # the engine has forgotten it, or answers with other weights
        actions.append(Flip(live))
    target = _target(now)
    actions += [Load(version) for version in _missing(now, target)]
    actions += [Prove(version) for version in _unproven(now, target)]
    if live != target and _ready(now, target):
        actions.append(Flip(target))
    actions += [
        Unload(version) for version in sorted(now.loaded) if _unneeded(now, version, target)
    ]
    return actions


def _target(now: Situation) -> str | None:
    """What should answer when all that can be loaded is loaded."""
    choices = (now.wanted, now.previous)
    usable = (version for version in choices if version is None or version not in now.broken)
    return next(usable, None)


def _ready(now: Situation, version: str | None) -> bool:
    """Whether it may answer at once."""
    return version is None or (
        version in now.loaded and version in now.proven and version not in now.broken
    )


def _best_ready(now: Situation) -> str | None:
    return next(version for version in (now.wanted, now.previous, None) if _ready(now, version))


def _missing(now: Situation, target: str | None) -> list[str]:
    """The target first; then the previous version, kept loaded for an instant roll-back."""
    needed = dict.fromkeys((target, now.previous))
    return [
        version
        for version in needed
        if version is not None and version not in now.loaded and version not in now.broken
    ]


def _unproven(now: Situation, target: str | None) -> list[str]:
    """In the same order."""
    return [
        version
        for version in dict.fromkeys((target, now.previous))
        if version is not None and version in now.loaded and version not in now.proven | now.broken
    ]


def _unneeded(now: Situation, version: str, target: str | None) -> bool:
    """Ours, neither live nor soon to be, nobody's candidate, and its last request has ended."""
    needed = {target, now.wanted, now.previous, now.live}
    leased = any(version.startswith(prefix) for prefix in now.leases)
    ours = version.startswith(OURS)
    return ours and version not in needed and not leased and not now.in_flight.get(version)
