"""What a run sets out with: the version that it goes on from, and its questions."""

from __future__ import annotations

import random
from collections.abc import Sequence

from ttrl import adapters, lineage
from ttrl.adapters import AdapterDamaged, Manifest
from ttrl.base import Base, identify
from ttrl.config import Config
from ttrl.lineage import Begins, Descent, Plan, descend
from ttrl.selection import LOOKED_AT, Selection, choose
from ttrl.store import Store
from ttrl.store.adapters import GONE, AdapterState
from ttrl.store.questions import QuestionState, StoredQuestion


def descent(config: Config, store: Store) -> Descent:
    """Where a run would start now. Raises AdapterDamaged, OSError."""
    update = config.update
    plan = Plan(
        identify(config.model.name), update.lora_rank, update.modules, update.lineage_updates
    )
    rows, name = store.adapters.all(), store.adapters.serving().adapter
    states = {row.name: row.state for row in rows}
    if name is not None and states.get(name) is AdapterState.TAINTED:
        forebears = lineage.stack(rows, name)
        name = next((each for each in forebears if states.get(each) not in GONE), None)
        if name is None:
            return Descent(None, Begins.TAINTED, again=tuple(forebears))
    live = _live(config, store, plan.base, name)
    return descend(live, lineage.stack(rows, live.name) if live else [], plan)


def _live(config: Config, store: Store, base: Base, name: str | None) -> Manifest | None:
    """What serves; or what would, if it were not another base model's."""
    root = config.state_dir / "adapters"
    if name is not None:
        return adapters.verify(root / name)
    wanted = store.adapters.wanted().adapter
    if wanted is None:
        return None
    try:
        manifest = adapters.read_manifest(root / wanted)
    except AdapterDamaged:
        return None
    return None if manifest.base.same_weights(base) else manifest


def candidates(config: Config, store: Store, descent: Descent) -> list[StoredQuestion]:
    """The recorded questions that a run would choose from now, anchors first; none where there
    would only be anchors."""
    limits, only = config.selection, config.record.only_keys
    found = store.questions.new(
        LOOKED_AT * limits.max_questions, only=only, again=descent.again, tries=limits.tries
    )
    return [*anchors(config, store, descent), *found] if found else []


def anchors(config: Config, store: Store, descent: Descent) -> list[StoredQuestion]:
    """Of all that the versions before learned from; others for each version to go on from."""
    places = round(config.selection.anchors * config.selection.max_questions)
    learned = {
        key
        for name in descent.stacked
        for key in store.adapters.question_ids(name, QuestionState.LEARNED_FROM)
    }
    order = random.Random(f"{config.update.seed} {descent.stacked}")
    drawn = order.sample(sorted(learned), min(places, len(learned)))
    return store.questions.among(drawn)


def select(config: Config, store: Store, found: Sequence[StoredQuestion]) -> Selection:
    """Those of them that it would learn from."""
    return choose(found, config.selection, sole_client=store.questions.sole_client())


def tell(store: Store, run_id: int, selected: Selection) -> None:
    """Write down what was left out, and why."""
    store.questions.wait({question.id: why for question, why in selected.left_out})
    numbers = {"chosen": len(selected.chosen), "left_out": selected.counts}
    store.runs.observe(run_id, "selection", numbers)
