"""What goes on from what: every version with its place in the tree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ttrl.lineage import stack
from ttrl.store import Store

Branch = Mapping[str, Any]


def branches(store: Store) -> Iterator[Branch]:
    """Every version, oldest first, with its depth: the updates stacked, its own included."""
    versions = store.adapters.all()
    roles = store.adapters.roles()
    for row in reversed(versions):
        run = store.runs.get(row.run_id) if row.run_id else None
        verdicts = store.runs.verdicts(row.run_id) if row.run_id else []
        yield {
            "name": row.name,
            "base_model": row.base_model,
            "lineage": row.lineage,
            "begins": run.begins if run else None,
            "parent": row.parent,
            "depth": len(stack(versions, row.name)),
            "role": roles.get(row.name, ""),
            "state": row.state,
            "verdict": verdicts[-1]["verdict"] if verdicts else None,
            "created": row.created,
        }
