"""`ttrl adapters`."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from jobs.selection import WORDS, Begins
from serve import exporting, operations
from serve.cli import Group
from serve.cli.adapt import CODES, carry_out
from serve.cli.common import (
    PATH,
    Resolve,
    look_store,
    model_option,
    open_store,
    require,
    resolve_options,
    run_config,
    settle,
    standard_options,
)
from serve.cli.output import (
    fail,
    json_option,
    list_rows,
    print_json,
    progress,
    show_fields,
    tell,
    wants_json,
)
from serve.gateway.live import BASE
from serve.views import Branch, branches, verdicts
from ttrl.config import Config
from ttrl.config.section import clock
from ttrl.files import whole_directory
from ttrl.store import Store
from ttrl.store.questions import QuestionState
from ttrl.versions import AdapterDamaged, place, read_foreign, verify
from ttrl.words import counted

NONE = "There are no versions yet."


@click.group(cls=Group)
def adapters() -> None:
    """Adapters: every version, which one serves, and which one should."""


@adapters.command("list")
@standard_options
def list_(config: Config) -> None:
    """Every version, newest first."""
    with look_store(config) as store:
        roles = store.adapters.roles()
        rows = [{**vars(row), "role": roles.get(row.name, "")} for row in store.adapters.all()]
    list_rows(rows, "name", "role", "state", ("run", "run_id"), "reason", empty=NONE)


@adapters.command()
@click.argument("name")
@standard_options
def show(config: Config, name: str) -> None:
    """Show one version: its parent, its training questions, its verdict, and whether its files
    are intact."""
    path, damage = config.state_dir / "adapters" / name, None
    with look_store(config) as store:
        version = store.adapters.get(name)
        try:
            verify(place(path.parent, name))
        except AdapterDamaged as error:
            damage = str(error)
        run_id = version.run_id
        fields = {
            **vars(version),
            "role": store.adapters.roles().get(name, ""),
            "questions": store.adapters.question_ids(name),
            "quarantined": _quarantined(store, name),
            "to_label": sum(pair.run_id == run_id for pair in store.comparisons.waiting()),
            "begins": store.runs.get(run_id).begins if run_id else None,
            "verdicts": verdicts(store, run_id) if run_id else [],
            "path": str(path),
            "files": damage or "whole",
        }
    show_fields(fields)


@adapters.command()
@click.argument("name")
@standard_options
def promote(config: Config, name: str) -> None:
    """Make a version live, whatever its verdict. `base` is the base model."""
    with open_store(config) as store:
        chosen = operations.promote(config, store, name)
        _settle(config, store, chosen)


@adapters.command()
@click.option("--reason", default="rolled back by hand", show_default=True)
@standard_options
def rollback(config: Config, reason: str) -> None:
    """Go back to the previous version. The current one is not promoted again automatically, and
    the questions that only it was trained on are quarantined."""
    with open_store(config) as store:
        _settle(config, store, operations.roll_back(store, reason))


@adapters.command()
@standard_options
def tree(config: Config) -> None:
    """Show the base models, their lineages, and the versions of each."""
    with look_store(config) as store:
        versions = list(branches(store))
    if wants_json():
        print_json(versions)
    elif not versions:
        click.echo(NONE)
    else:
        Console().print(*_trees(versions), sep="\n")


@adapters.command()
@click.argument("name")
@click.argument("directory", type=PATH)
@click.option("--merged", is_flag=True, help="Merge it into its base model: a model of its own.")
@click.option(
    "--dtype",
    type=click.Choice(["bfloat16", "float16", "float32"]),
    help="Of the merged weights; the base model's if not given.",
)
@standard_options
def export(config: Config, name: str, directory: Path, merged: bool, dtype: str | None) -> None:
    """Copy a version, verified, to a new DIRECTORY, as PEFT and vLLM read it, with a model card.

    With --merged it needs no base model beside it, and is seen to answer as the version did.
    """
    if dtype and not merged:
        fail("--dtype is for --merged: an adapter is copied as it is", code=2)
    if merged:
        require("merging", "train", "torch", "transformers", "peft")
    with look_store(config) as store:
        source = place(config.state_dir / "adapters", name)
        manifest, merge = verify(source, store.adapters.get(name).digest), None
        with whole_directory(directory.absolute()) as part:
            if merged:
                with progress(f"merging {name} into {manifest.base_model}"):
                    pinned = store.adapters.pinned(name)
                    merge = exporting.merge(manifest, source, part, dtype or "auto", pinned)
            else:
                shutil.copytree(source, part, dirs_exist_ok=True)
            card = exporting.card(config, store, manifest, merge)
            (part / "README.md").write_text(card, encoding="utf-8")
    done = f"merged into its base model ({merge.words})" if merge else "copied"
    dtypes = {"dtype": merge.dtype, "proof": merge.evidence.proof} if merge else {}
    tell(f"{name} was {done}: {directory}.", name=name, directory=directory, **dtypes)


@adapters.command("import")
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
@model_option
@json_option
@resolve_options
def import_(resolve: Resolve, directory: Path) -> None:
    """Have the gate judge a LoRA from elsewhere: PEFT's two files in DIRECTORY, for the same base
    model. As after a training run, it is published or held, or never kept.

    The run is the daemon's, which must be able to read DIRECTORY, if one is up.
    """
    config, _ = run_config(resolve())
    require("importing", "train", "torch", "transformers", "peft")
    if config.model.name:
        read_foreign(directory, config.model.name)
    with open_store(config, create=True) as store:
        run = carry_out(config, store, {"import": str(directory.resolve())})
    raise SystemExit(CODES.get(run.state, 1))


def _settle(config: Config, store: Store, changed: str | None) -> None:
    """Say what became of the questions of the version that was changed, and wait for the daemon."""
    if changed is not None and (count := _quarantined(store, changed)):
        click.echo(
            f"Quarantined {counted(count, 'question')} that it was trained on; "
            f"`ttrl questions release --adapter {changed}` releases them.",
            err=True,
        )
    wanted = store.adapters.wanted().adapter
    live = settle(config, store, wanted)
    if wants_json():
        print_json({"wanted": wanted or BASE, "live": live})


def _quarantined(store: Store, name: str) -> int:
    return len(store.adapters.question_ids(name, QuestionState.QUARANTINED))


def _trees(versions: Sequence[Branch]) -> list[Tree]:
    """One for each base model; parents come before their children."""
    bases: dict[str, Tree] = {}
    nodes: dict[tuple[str, ...], Tree] = {}
    for version in versions:
        base, lineage = version.base_model, version.lineage
        bases.setdefault(base, Tree(Text(base)))
        if ("lineage", base, lineage) not in nodes:
            why = f": {WORDS[Begins(version.begins)]}" if version.begins else ""
            nodes["lineage", base, lineage] = bases[base].add(Text(f"lineage {lineage}{why}"))
        state = version.role or version.state.replace("_", " ")
        parts = (version.name, state, version.verdict, f"update {version.depth}")
        words = ", ".join([*filter(None, parts), clock(version.created)])
        parent = nodes.get((base, version.parent or ""), nodes["lineage", base, lineage])
        nodes[base, version.name] = parent.add(Text(words))
    return list(bases.values())
