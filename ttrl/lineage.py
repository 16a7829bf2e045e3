"""Where an update starts: on the live version, or again from the base.

Updates stack, each from the version before it, and so does what each of them gets wrong. After so
many a run starts from the base again and learns once more what its forebears learned from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from ttrl.adapters import Manifest
from ttrl.base import Base
from ttrl.store.adapters import AdapterRow


class Begins(StrEnum):
    """Why a run begins a new lineage."""

    NO_PARENT = "no_parent"
    """The base model serves: there is no version to go on from."""
    BASE = "base_changed"
    """The live version belongs to another base model."""
    TEXT = "text_changed"
    """Tokenizer or chat template are others: the same words would be other tokens."""
    RANK = "rank_changed"
    """`update.lora_rank` is another."""
    MODULES = "modules_changed"
    """`update.target_modules` are others."""
    FULL = "lineage_full"
    """As many updates as `update.lineage_updates` allows are stacked already."""
    TAINTED = "tainted"
    """The live version learned from what was purged, and so did all that it goes on from."""


WORDS = {
    Begins.NO_PARENT: "no version to go on from",
    Begins.BASE: "the base model is another",
    Begins.TEXT: "the tokenizer or the chat template is another",
    Begins.RANK: "update.lora_rank is another",
    Begins.MODULES: "update.target_modules are others",
    Begins.TAINTED: "the live version learned from what was purged",
    Begins.FULL: "no more updates may be stacked (update.lineage_updates)",
}


@dataclass(frozen=True)
class Plan:
    """What a run would make, by its settings, and how many updates may be stacked."""

    base: Base
    rank: int
    modules: str
    updates: int


@dataclass(frozen=True)
class Descent:
    """Either a parent, and the versions that are `stacked` up to it; or why a new lineage begins,
    and the versions whose questions it learns from `again`."""

    parent: Manifest | None
    begins: Begins | None = None
    again: tuple[str, ...] = ()
    stacked: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """Why there is no parent, in a sentence; empty where there is one."""
        return f"a new lineage: {WORDS[self.begins]}" if self.begins else ""


def descend(live: Manifest | None, stacked: Sequence[str], plan: Plan) -> Descent:
    """Where to start, when `live` is the last of the updates that are `stacked`."""
    begins = _begins(live, len(stacked), plan)
    if begins is None:
        return Descent(live, stacked=tuple(stacked))
    return Descent(None, begins, again=tuple(stacked))


def _begins(live: Manifest | None, depth: int, plan: Plan) -> Begins | None:
    if live is None:
        return Begins.NO_PARENT
    if not live.base.same_weights(plan.base):
        return Begins.BASE
    if not live.base.same_text(plan.base):
        return Begins.TEXT
    if live.rank != plan.rank:
        return Begins.RANK
    if live.modules not in (None, plan.modules):
        return Begins.MODULES
    return Begins.FULL if depth >= plan.updates else None


def stack(versions: Iterable[AdapterRow], name: str) -> list[str]:
    """The version and those before it that it goes on from, itself first."""
    parents: Mapping[str | None, str | None] = {row.name: row.parent for row in versions}
    found, parent = [name], parents.get(name)
    while parent is not None:
        found.append(parent)
        parent = parents.get(parent)
    return found
