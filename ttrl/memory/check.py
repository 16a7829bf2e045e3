"""The door to the plan: what is configured, on the card that there is."""

from __future__ import annotations

import logging

from ttrl.config import Config, EngineKind
from ttrl.engine.card import first_card
from ttrl.memory.asked import Card, ask, share_is_given
from ttrl.memory.judge import Fit, Outcome, judge, with_largest_share
from ttrl.memory.plan import plan
from ttrl.memory.shape import CannotPlan, find, read

UNPLANNED_SHARE = 0.6
"""Of the card, for an engine of which nothing is known: vLLM's own default leaves the trainer
nothing, which has the weights once more, but no cache."""

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
    wanted = plan(card, shape, asked, ours=config.engine.url is None)
    return judge(wanted if share_is_given(config.engine.flags) else with_largest_share(wanted))


def plannable(config: Config) -> bool:
    """Whether there is a plan to make. The embedded engine is for trying and testing."""
    embedded = config.engine.kind is EngineKind.EMBEDDED and config.engine.url is None
    return bool(config.model.name) and not embedded


def fit_to_card(config: Config) -> Config:
    """Before engine or trainer start: the configuration with vLLM's share of the card, if nobody
    gave one. As it is where there is no card. Raises MemoryRefused."""
    card = first_card() if config.engine.memory_plan and plannable(config) else None
    if card is None:
        return config
    fit = planned(config, card)
    if fit.too_small:
        raise MemoryRefused(f"{fit}\n(engine.memory_plan=false starts it all the same.)")
    log.info("%s", fit.sentence)
    if config.engine.url is not None or share_is_given(config.engine.flags):
        return config
    share = f"--gpu-memory-utilization={fit.utilization or UNPLANNED_SHARE}"
    log.info("vLLM is started with %s; give it yourself to have another", share)
    flags = (share, *config.engine.flags)
    return config.model_copy(update={"engine": config.engine.model_copy(update={"flags": flags})})
