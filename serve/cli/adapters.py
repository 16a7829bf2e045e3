"""`ttrl adapters`."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from jobs.selection import WORDS, Begins
from serve.cli import Group
from serve.cli.common import (
    Resolve,
    counted,
    echo_fields,
    fail,
    look_store,
    one_line,
    open_store,
    print_json,
    print_table,
    settle,
    standard_options,
    tell,
)
from serve.views import Branch, branches, verdicts
from ttrl.adapters.versions import AdapterDamaged, verify
from ttrl.config import Config
from ttrl.config.section import clock
from ttrl.store import Store
from ttrl.store.adapters import GONE, AdapterRow, Author
from ttrl.store.questions import QuestionState

STYLES = {
    "live": "green",
    "held": "yellow",
    "rolled_back": "red",
    "tainted": "red",
    "retired": "dim",
}


@click.group(cls=Group)
def adapters() -> None:
    """Adapters: every version, which one serves, and which one should."""


@adapters.command("list")
@standard_options
def list_(resolve: Resolve, as_json: bool) -> None:
    """Every version, newest first."""
    config = resolve().config
    with look_store(config) as store:
        found = [_row(store, row) for row in store.adapters.all()]
    if as_json:
        print_json(found)
        return
    if not found:
        click.echo("There are no versions yet.")
        return
    print_table(("name", "role", "state", "run", "reason"), map(_cells, found))


@adapters.command()
@click.argument("name")
@standard_options
def show(resolve: Resolve, name: str, as_json: bool) -> None:
    """Show one version: its parent, its training questions, its verdict, and whether its files
    are intact."""
    config = resolve().config
    with look_store(config) as store:
        row = _row(store, _get(store, name))
        row["questions"] = store.adapters.question_ids(name)
        row["quarantined"] = _quarantined(store, name)
        row["to_label"] = sum(p.run_id == row["run_id"] for p in store.comparisons.waiting())
        row["begins"] = store.runs.get(row["run_id"]).begins if row["run_id"] else None
        row["verdicts"] = verdicts(store, row["run_id"]) if row["run_id"] else []
    row["path"] = str(config.state_dir / "adapters" / name)
    row["files"] = _files(config, name)
    if as_json:
        print_json(row)
        return
    echo_fields(row)


@adapters.command()
@click.argument("name")
@standard_options
def promote(resolve: Resolve, name: str, as_json: bool) -> None:
    """Make a version live, whatever its verdict. `base` is the base model."""
    config = resolve().config
    with open_store(config) as store:
        chosen = None if name == "base" else _get(store, name).name
        if chosen is not None and (damage := _files(config, chosen)) != "whole":
            state = store.adapters.get(chosen).state
            fail(f"{chosen} is {state}: its files are gone" if state in GONE else damage)
        if chosen != store.adapters.wanted().adapter:
            store.adapters.want(chosen, author=Author.OPERATOR, reason="promoted by hand")
        if chosen is not None and (count := _quarantined(store, chosen)):
            click.echo(
                f"{counted(count, 'question')} that it was trained on stay quarantined; "
                f"`ttrl questions release --adapter {chosen}` releases them.",
                err=True,
            )
        _settle(config, store, as_json)


@adapters.command()
@click.option("--reason", default="rolled back by hand", show_default=True)
@standard_options
def rollback(resolve: Resolve, reason: str, as_json: bool) -> None:
    """Go back to the previous version. The current one is not promoted again automatically, and
    the questions that only it was trained on are quarantined."""
    config = resolve().config
    with open_store(config) as store:
        present = store.adapters.wanted().adapter
        if present is None:
            fail("the base model is live: there is nothing to roll back")
        store.adapters.roll_back(author=Author.OPERATOR, reason=reason)
        if count := _quarantined(store, present):
            click.echo(
                f"{counted(count, 'question')} that it was trained on are quarantined; see "
                "`ttrl questions list --state quarantined`.",
                err=True,
            )
        _settle(config, store, as_json)


@adapters.command()
@standard_options
def tree(resolve: Resolve, as_json: bool) -> None:
    """Show the base models, their lineages, and the versions of each."""
    with look_store(resolve().config) as store:
        found = list(branches(store))
    if as_json:
        print_json([asdict(branch) for branch in found])
    elif not found:
        click.echo("There are no versions yet.")
    else:
        Console().print(*_trees(found), sep="\n")


@adapters.command()
@click.argument("name")
@click.argument("directory", type=click.Path(path_type=Path))
@standard_options
def export(resolve: Resolve, name: str, directory: Path, as_json: bool) -> None:
    """Copy a version, verified, to a new DIRECTORY, as PEFT and vLLM read it."""
    config = resolve().config
    with look_store(config) as store:
        _get(store, name)
    if (damage := _files(config, name)) != "whole":
        fail(damage)
    try:
        shutil.copytree(config.state_dir / "adapters" / name, directory)
    except FileExistsError:
        fail(f"{directory} already exists; choose a new directory")
    except OSError as error:
        fail(f"cannot write {directory}: {error.strerror or error}")
    tell(as_json, f"{name} was copied to {directory}.", name=name, directory=directory)


def _settle(config: Config, store: Store, as_json: bool) -> None:
    wanted = store.adapters.wanted().adapter
    live = settle(config, store, wanted)
    if as_json:
        print_json({"wanted": wanted or "base", "live": live})


def _get(store: Store, name: str) -> AdapterRow:
    try:
        return store.adapters.get(name)
    except KeyError as error:
        fail(error.args[0])


def _row(store: Store, row: AdapterRow) -> dict[str, Any]:
    return {**vars(row), "role": store.adapters.roles().get(row.name, "")}


def _cells(row: Mapping[str, Any]) -> tuple[str | Text, ...]:
    texts = (str(row[key] or "") for key in ("name", "role", "state", "run_id"))
    return *texts, one_line(row["reason"])


def _quarantined(store: Store, name: str) -> int:
    return len(store.adapters.question_ids(name, QuestionState.QUARANTINED))


def _files(config: Config, name: str) -> str:
    try:
        verify(config.state_dir / "adapters" / name)
    except AdapterDamaged as error:
        return str(error)
    return "whole"


def _trees(found: Sequence[Branch]) -> Iterator[Tree]:
    for base in dict.fromkeys(branch.base_model for branch in found):
        whole = Tree(Text(base, style="bold"))
        lineages: dict[str, Tree] = {}
        nodes: dict[str | None, Tree] = {}
        for branch in found:
            if branch.base_model != base:
                continue
            if branch.lineage not in lineages:
                why = f": {WORDS[Begins(branch.begins)]}" if branch.begins else ""
                lineages[branch.lineage] = whole.add(Text(f"lineage {branch.lineage}{why}"))
            state = branch.role or branch.state.replace("_", " ")
            told = (branch.name, state, branch.verdict, f"update {branch.depth}")
            words = ", ".join([*filter(None, told), clock(branch.created)])
            onto = nodes.get(branch.parent, lineages[branch.lineage])
            style = STYLES.get(branch.role or branch.state, "")
            nodes[branch.name] = onto.add(Text(words, style=style))
        yield whole
