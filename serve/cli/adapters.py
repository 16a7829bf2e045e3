"""`ttrl adapters`."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from rich.text import Text

from serve.cli.common import (
    Resolve,
    config_options,
    counted,
    echo_fields,
    fail,
    json_option,
    one_line,
    open_store,
    print_json,
    print_table,
    settle,
    tell,
)
from serve.cli.tree import tree
from serve.status import verdicts
from ttrl.adapters import AdapterDamaged, verify
from ttrl.config import Config
from ttrl.store import Store
from ttrl.store.adapters import GONE, AdapterGone, AdapterRow, Author
from ttrl.store.questions import QuestionState


@click.group()
def adapters() -> None:
    """Adapters: every version, which one serves, and which one should."""


adapters.add_command(tree)


@adapters.command("list")
@json_option
@config_options
def list_(resolve: Resolve, as_json: bool) -> None:
    """Every version, newest first."""
    config = resolve().config
    with open_store(config) as store:
        found = [_row(store, row) for row in store.adapters.all()]
    if as_json:
        print_json(found)
        return
    if not found:
        click.echo("Nothing has been learned yet.")
        return
    print_table(("name", "role", "state", "run", "reason"), map(_cells, found))


@adapters.command()
@click.argument("name")
@json_option
@config_options
def show(resolve: Resolve, name: str, as_json: bool) -> None:
    """One version: where it comes from, what it learned from, what the gate said, whether its
    files are whole."""
    config = resolve().config
    with open_store(config) as store:
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
@json_option
@config_options
def promote(resolve: Resolve, name: str, as_json: bool) -> None:
    """Let a version serve, whatever the gate said. `base` is the base model."""
    config = resolve().config
    with open_store(config) as store:
        chosen = None if name == "base" else _get(store, name).name
        if chosen is not None and (damage := _files(config, chosen)) != "whole":
            state = store.adapters.get(chosen).state
            fail(f"{chosen} is {state}: its files are gone" if state in GONE else damage)
        if chosen != store.adapters.wanted().adapter:
            try:
                store.adapters.want(chosen, author=Author.OPERATOR, reason="promoted by hand")
            except AdapterGone as error:
                fail(str(error))
        if chosen is not None and (count := _quarantined(store, chosen)):
            click.echo(
                f"{counted(count, 'question')} that it learned from stay quarantined; "
                f"`ttrl questions release --adapter {chosen}` lets runs have them back.",
                err=True,
            )
        _settle(config, store, as_json)


@adapters.command()
@click.option("--reason", default="rolled back by hand", show_default=True)
@json_option
@config_options
def rollback(resolve: Resolve, reason: str, as_json: bool) -> None:
    """Go back to the version before. The present one is not promoted again by itself, and what it
    alone learned from is quarantined."""
    config = resolve().config
    with open_store(config) as store:
        present = store.adapters.wanted().adapter
        if present is None:
            fail("the base model serves: there is nothing to roll back")
        store.adapters.roll_back(author=Author.OPERATOR, reason=reason)
        if count := _quarantined(store, present):
            click.echo(
                f"{counted(count, 'question')} that it learned from are quarantined; see "
                "`ttrl questions list --state quarantined`.",
                err=True,
            )
        _settle(config, store, as_json)


@adapters.command()
@click.argument("name")
@click.argument("directory", type=click.Path(path_type=Path))
@json_option
@config_options
def export(resolve: Resolve, name: str, directory: Path, as_json: bool) -> None:
    """Copy a version, verified, to a new DIRECTORY, as PEFT and vLLM read it."""
    config = resolve().config
    with open_store(config) as store:
        _get(store, name)
    if (damage := _files(config, name)) != "whole":
        fail(damage)
    try:
        shutil.copytree(config.state_dir / "adapters" / name, directory)
    except FileExistsError:
        fail(f"{directory} is already there; choose a new directory")
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
