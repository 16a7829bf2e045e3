"""Where a candidate's weights end up, and what is written down of them."""

from __future__ import annotations

import json
import secrets
import time
from pathlib import Path

from ttrl import adapters
from ttrl.adapters import Manifest
from ttrl.base import identify
from ttrl.config import Config
from ttrl.lineage import Descent
from ttrl.store import Store
from ttrl.store.adapters import AdapterRow, AdapterState


def publish(
    config: Config,
    store: Store,
    run_id: int,
    descent: Descent,
    source: Path,
    state: AdapterState,
    reason: str,
) -> AdapterRow:
    """Put the candidate's weights in their final place, and say what they are; nothing serves them
    before the row is in the store."""
    parent = descent.parent
    lineage = parent.lineage if parent else secrets.token_hex(3)
    base = identify(config.model.name)
    number, digest = store.adapters.next_number(lineage), adapters.digest_of(source)
    manifest = Manifest(
        name=adapters.version_name(lineage, number, digest),
        lineage=lineage,
        number=number,
        digest=digest,
        base_model=base.name,
        parent=parent.name if parent else None,
        run_id=run_id,
        rank=config.update.lora_rank,
        target_modules=_target_modules(source),
        created=time.time(),
        modules=config.update.modules,
        weights=base.weights,
        text=base.text,
    )
    store.runs.intend(run_id, manifest.name)
    adapters.publish(source, config.state_dir / "adapters", manifest)
    return AdapterRow(
        name=manifest.name,
        lineage=lineage,
        number=number,
        digest=digest,
        parent=manifest.parent,
        base_model=manifest.base_model,
        run_id=run_id,
        rank=manifest.rank,
        state=state,
        reason=reason,
        created=manifest.created,
    )


def _target_modules(source: Path) -> tuple[str, ...]:
    targets = json.loads((source / adapters.CONFIG).read_text())["target_modules"]
    return tuple(sorted([targets] if isinstance(targets, str) else targets))
