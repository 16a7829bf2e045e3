"""What a run sets out with: the version that it goes on from, and its questions."""

from __future__ import annotations

from ttrl import adapters, lineage
from ttrl.base import identify
from ttrl.config import Config
from ttrl.lineage import Descent, Plan, descend
from ttrl.selection import LOOKED_AT, Selection, choose
from ttrl.store import Store


def descent(config: Config, store: Store) -> Descent:
    """Where a run would start now. Raises AdapterDamaged, OSError."""
    update = config.update
    plan = Plan(
        identify(config.model.name), update.lora_rank, update.modules, update.lineage_updates
    )
    name = store.adapters.serving().adapter
    if name is None:
        return descend(None, [], plan)
    live = adapters.verify(config.state_dir / "adapters" / name)
    return descend(live, lineage.stack(store.adapters.all(), name), plan)


def selection(config: Config, store: Store, start: Descent) -> Selection:
    """The recorded questions that a run would learn from now."""
    limits = config.selection
    candidates = store.questions.new(
        LOOKED_AT * limits.max_questions, only=config.record.only_keys, again=start.again
    )
    return choose(candidates, limits, sole_client=store.questions.sole_client())


def tell(store: Store, run_id: int, selected: Selection) -> None:
    """Write down what was left out, and why."""
    store.questions.wait({question.id: why for question, why in selected.left_out})
    numbers = {"chosen": len(selected.chosen), "left_out": selected.counts}
    store.runs.observe(run_id, "selection", numbers)
