"""The versions: files and rows that belong together, and whether the wanted one can serve."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from serve.doctor.finding import Finding, broken, note, ok, warning
from ttrl.adapters import AdapterDamaged, verify_as
from ttrl.base import Base, identify
from ttrl.config import Config
from ttrl.store import Store
from ttrl.store.adapters import GONE, AdapterRow
from ttrl.store.database import ADAPTERS


def check(config: Config, store: Store) -> Iterator[Finding]:
    """Every version of the store on the disk, and every directory in the store."""
    root, every = config.state_dir / ADAPTERS, store.adapters.all()
    rows = [row for row in every if row.state not in GONE]
    put_back = f"put it back from a backup (`tar xf FILE -C {config.state_dir} adapters/NAME`)"
    wanted, previous = store.adapters.wanted().adapter, store.adapters.previous()
    base = identify(config.model.name) if config.model.name else None
    wrong = {row.name: said for row in rows if (said := _wrong(root, row, base))}
    for name, said in wrong.items():
        if name == wanted:
            yield broken(
                "versions",
                f"the wanted one cannot serve: {said}",
                f"{put_back}, or `ttrl adapters promote` another; a rollback would quarantine what "
                "it learned from",
            )
        elif name == previous:
            yield warning("versions", f"a roll-back would find nothing: {said}", put_back)
        else:
            yield note("versions", said, f"{put_back}, if you miss it")
    if wanted is not None and wanted not in {row.name for row in rows}:
        said = f"{wanted} should serve, and is no version here, or one whose files went"
        yield broken("versions", said, "`ttrl adapters promote` another, or base")
    elif not wrong:
        yield ok("versions", f"{len(rows)}, all whole; wanted is {wanted or 'the base model'}")
    if strange := strangers(root, [row.name for row in every], store.runs.active() is not None):
        yield note(
            "versions",
            f"not in the store: {', '.join(strange)}; nothing serves them, as after a run that died"
            " in the last moment, or after a restore",
            f"delete them from {root} if nobody misses them",
        )


def strangers(root: Path, known: Sequence[str], under_way: bool) -> list[str]:
    """Directories without a row. A run that publishes is about to write one."""
    found = {path.name for path in root.glob("[!.]*")}
    return [] if under_way else sorted(found - set(known))


def serving(store: Store) -> Finding:
    """Whether a running daemon serves what is wanted."""
    wanted, now = store.adapters.wanted().adapter, store.adapters.serving()
    if now.adapter == wanted:
        return ok("serving", f"{wanted or 'the base model'}, as wanted")
    return broken(
        "serving",
        f"{now.adapter or 'the base model'} serves, not {wanted or 'the base model'}: {now.reason}",
        "mend that, then `ttrl adapters promote NAME`; or `ttrl adapters rollback`",
    )


def _wrong(root: Path, row: AdapterRow, base: Base | None) -> str | None:
    try:
        manifest = verify_as(root / row.name, row.digest)
    except AdapterDamaged as error:
        return str(error)
    if base is not None and not manifest.base.same_weights(base):
        return f"{row.name} was made for another base model, {manifest.base_model}"
    return None
