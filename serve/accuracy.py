"""How good versions are, as far as labels tell, in words; `numbers` are a measurement's
(ttrl.quality)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ttrl.estimate import LEAST, Withheld

Numbers = Mapping[str, Any]


def share(found: Numbers, digits: int = 0) -> str:
    """A share of right answers with its interval."""
    return f"{found['value']:.{digits}%} ({interval(found, digits)})"


def interval(found: Numbers, digits: int = 0) -> str:
    """Its ends alone."""
    return f"{found['low']:.{digits}%} to {found['high']:.{digits}%}"


def on_probes(numbers: Numbers) -> str | None:
    """Right answers to the labelled probes; measurements of older releases have no interval."""
    if numbers["pass_at_1"] is None:
        return None
    known = numbers.get("right")
    return share(known) if known else f"{numbers['pass_at_1']:.0%}"


def withheld(numbers: Numbers) -> str:
    """Why nothing is said of the traffic."""
    match numbers.get("withheld"):
        case Withheld.APART:
            return (
                "it agrees with itself otherwise on the labelled questions than on the traffic, "
                "so that they do not speak for it"
            )
        case Withheld.FEW:
            return (
                f"that takes {LEAST} labels that speak for the traffic, and there are "
                f"{numbers['speaking']} (`ttrl label` asks for them)"
            )
    return "the next measurement says why"


def beside_base(live: Numbers | None, base: Numbers | None) -> int | None:
    """Whether the live version answers more (1) or fewer (-1) of the labelled probes rightly than
    the base model, or too alike to tell (0); None: nobody knows."""
    ours, theirs = (numbers.get("right") if numbers else None for numbers in (live, base))
    if not ours or not theirs:
        return None
    return int(ours["low"] > theirs["high"]) - int(ours["high"] < theirs["low"])


BESIDE = {1: "it is better", 0: "too close to tell them apart", -1: "it is worse"}


def compared(live: Numbers | None, base: Numbers | None) -> str:
    """The same with its numbers."""
    found = beside_base(live, base)
    if found is None or live is None or base is None:
        return "Whether it is better than the base model is not known: that takes labelled probes."
    return (
        f"It answers {on_probes(live)} of the labelled probes rightly, the base model "
        f"{on_probes(base)}: {BESIDE[found]}."
    )
