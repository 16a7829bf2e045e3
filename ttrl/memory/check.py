"""The door to the plan: what is configured, on the card that there is."""

from __future__ import annotations

import logging

from ttrl.config import Config, EngineKind
from ttrl.engine.card import first_card
from ttrl.memory.asked import Card, ask
from ttrl.memory.judge import Fit, Outcome, judge
from ttrl.memory.plan import plan
from ttrl.memory.shape import CannotPlan, find, read

log = logging.getLogger(__name__)


class MemoryRefused(Exception):
    """Engine and trainer do not fit on the card; the message says by how much, and what would."""


def planned(config: Config, card: Card) -> Fit:
    """The judgement on a card. An engine that is somebody else's has taken its part already."""
    try:
        shape = read(find(config.model.name))
        asked = ask(config, shape, card)
    except CannotPlan as why:
        return Fit(Outcome.UNKNOWN, f"Whether it fits on {card.name} cannot be told: {why}.")
    return judge(plan(card, shape, asked, ours=config.engine.url is None))


def plannable(config: Config) -> bool:
    """Whether there is a plan to make. The embedded engine is for trying and testing."""
    embedded = config.engine.kind is EngineKind.EMBEDDED and config.engine.url is None
    return bool(config.model.name) and not embedded


def refuse_what_cannot_fit(config: Config) -> None:
    """Before engine or trainer start. Says nothing where there is no card. Raises MemoryRefused."""
    if not config.engine.memory_plan or not plannable(config):
        return
    card = first_card()
    if card is None:
        return
    fit = planned(config, card)
    if fit.outcome in (Outcome.ENGINE_TOO_SMALL, Outcome.TRAINER_TOO_SMALL):
        raise MemoryRefused(f"{fit}\n(engine.memory_plan=false starts it all the same.)")
    log.info("%s", fit.sentence)
