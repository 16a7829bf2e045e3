"""The version that a run starts from, and the questions that it trains on.

Updates stack, and so do their errors; the gate lets none go farther from the base than
`gate.kl_base`. Before that is used up, every other run starts from the base again and trains once
more on what its ancestors were trained on; the runs between go on stacking, in case that what took
many updates cannot be had in one."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from jobs.probes import apart
from ttrl import versions
from ttrl.config import Config, SelectionOrder, UpdateConfig
from ttrl.evaluation.drift import Drift
from ttrl.sampling.selection import LOOKED_AT, History, Selection, by_signal, choose
from ttrl.store import Store
from ttrl.store.adapters import GONE, AdapterRow, AdapterState
from ttrl.store.questions import QuestionState, StoredQuestion
from ttrl.versions import AdapterDamaged, Base, Manifest, identify

REMEMBERED = 50_000
"""The newest votes, by which signals are estimated: of 39 runs of the default size, in a second."""
TAUGHT = (QuestionState.LEARNED_FROM, QuestionState.NO_SIGNAL)
"""Questions in these states come again only by their estimated signal, or as anchors."""


BEGINS = {
    "no_parent": "there is no adapter to continue from",
    "base_changed": "the base model has changed",
    "text_changed": "the tokenizer or chat template has changed",
    "rank_changed": "update.lora_rank has changed",
    "modules_changed": "update.target_modules have changed",
    "tainted": "the live version was trained on purged questions",
    "imported": "it was trained elsewhere and imported",
    "lineage_full": "the live version is too far from the base model (update.lineage_distance)",
}
"""Why a run begins a new lineage."""


@dataclass(frozen=True)
class Descent:
    """Either a parent, and the versions `stacked` up to it; or why a new lineage begins, and the
    versions whose questions it trains on `again`."""

    parent: Manifest | None
    begins: str | None = None
    again: tuple[str, ...] = ()
    stacked: tuple[str, ...] = ()

    @property
    def updates(self) -> int:
        """How many updates' worth of questions and steps the run gets: as many as it replaces."""
        return max(1, len(self.again))

    @property
    def words(self) -> str:
        """Why there is no parent, in a sentence; empty where there is one."""
        return f"a new lineage: {BEGINS[self.begins]}" if self.begins else ""


def descend(
    live: Manifest | None, stacked: Sequence[str], base: Base, update: UpdateConfig, *, full: bool
) -> Descent:
    """Return where to start, when `live` is the last of the `stacked` updates."""
    begins = None
    if live is None:
        begins = "no_parent"
    elif not live.base.same_weights(base):
        begins = "base_changed"
    elif not live.base.same_text(base):
        begins = "text_changed"
    elif live.rank != update.lora_rank:
        begins = "rank_changed"
    elif live.modules not in (None, update.modules):
        begins = "modules_changed"
    elif full:
        begins = "lineage_full"
    if begins is None:
        return Descent(live, stacked=tuple(stacked))
    return Descent(None, begins, again=tuple(stacked))


def stack(versions: Iterable[AdapterRow], name: str) -> list[str]:
    """The version and those before it that it goes on from, itself first."""
    parents: Mapping[str | None, str | None] = {row.name: row.parent for row in versions}
    found, parent = [name], parents.get(name)
    while parent is not None:
        found.append(parent)
        parent = parents.get(parent)
    return found


def descent(config: Config, store: Store) -> Descent:
    """Where a run would start now. Raises AdapterDamaged, OSError."""
    base = identify(config.model.name)
    rows, name = store.adapters.all(), store.adapters.serving().adapter
    states = {row.name: row.state for row in rows}
    if name is not None and states.get(name) is AdapterState.TAINTED:
        forebears = stack(rows, name)
        name = next((each for each in forebears if states.get(each) not in GONE), None)
        if name is None:
            return Descent(None, "tainted", again=tuple(forebears))
    live, root = None, config.state_dir / "adapters"
    if name is not None:
        live = versions.verify(versions.place(root, name))
    elif (wanted := store.adapters.wanted().adapter) is not None:
        # It was not loaded, as happens to what belongs to another base model.
        with suppress(AdapterDamaged):
            manifest = versions.read_manifest(versions.place(root, wanted))
            live = None if manifest.base.same_weights(base) else manifest
    full = live is not None and _full(config, store, live.name)
    stacked = stack(rows, live.name) if live else []
    return descend(live, stacked, base, config.update, full=full)


def _full(config: Config, store: Store, live: str) -> bool:
    """Return whether the next run leaves the lineage: it is far from the base, and the last run
    with a candidate did not begin there."""
    measured = store.measurements.newest(Drift, live)
    distance = measured.found.from_base if measured else None
    if distance is None or distance < config.update.lineage_distance * config.gate.kl_base:
        return False
    last = store.runs.last_judged()
    return last is None or last.begins != "lineage_full"


def select(
    config: Config, store: Store, descent: Descent, hashes: Sequence[str] | None = None
) -> tuple[Selection, list[int]]:
    """Return what a run would train on now: the questions of these hashes, or recorded ones; and
    the ids of those that it leaves out because they are like a probe."""
    by_votes = config.selection.order is SelectionOrder.SIGNAL
    past = history(config, store) if by_votes else None
    if hashes is not None:
        found = store.questions.named(hashes)
    else:
        found = _candidates(config, store, descent, past)
    probes = apart(store, config.gate, [row.question for row in found])
    like = {row.id for row in found if probes.like(row.question)}
    selected = Selection(tuple(row for row in found if row.id not in like))
    if hashes is None:
        room = config.selection.max_questions * descent.updates
        limits = config.selection.model_copy(update={"max_questions": room})
        selected = choose(selected.chosen, limits, sole_client=store.questions.sole_client())
    if past is not None:  # first what is expected to have the largest majority
        estimates = {question.id: past.estimate(question) for question in selected.chosen}
        chosen = sorted(selected.chosen, key=lambda question: -estimates[question.id].share)
        selected = replace(selected, chosen=tuple(chosen), estimates=estimates)
    return selected, sorted(like)


def history(config: Config, store: Store) -> History:
    return History(store.votes.recent(REMEMBERED), config.vote.samples)


def _candidates(
    config: Config, store: Store, descent: Descent, past: History | None
) -> list[StoredQuestion]:
    """The recorded questions to choose from, anchors first; none where there would only be
    anchors. With a history of votes, the most signal first, and what taught may come again."""
    limits = config.selection
    most = LOOKED_AT * limits.max_questions * descent.updates
    found = store.questions.new(
        most,
        only=config.record.only_keys,
        again=descent.again,
        tries=limits.tries,
        parent=descent.parent.name if descent.parent else None,
    )
    if past is not None:
        live_run = descent.parent.run_id if descent.parent else 0
        due = store.questions.among(past.due(live_run)[:most], config.record.only_keys)
        offered = {row.id for row in found}
        found += [row for row in due if row.state in TAUGHT and row.id not in offered]
        draws = random.Random(f"{config.update.seed} {past.runs[-1:]}")
        found = by_signal(found, {row.id: past.estimate(row).draw(draws) for row in found})
    if not found:
        return []
    # Anchors are drawn of all that was learned from, anew for each version to start from.
    learned = {
        key
        for name in descent.stacked
        for key in store.adapters.question_ids(name, QuestionState.LEARNED_FROM)
    }
    order = random.Random(f"{config.update.seed} {descent.stacked}")
    places = round(limits.anchors * limits.max_questions)
    anchors = order.sample(sorted(learned), min(places, len(learned)))
    again = store.questions.among(anchors, config.record.only_keys)
    return [*again, *(row for row in found if row.id not in anchors)]
