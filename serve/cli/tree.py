"""`ttrl adapters tree`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import click
from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from serve.branches import Branch, branches
from serve.cli.common import Resolve, config_options, json_option, open_store, print_json
from ttrl.lineage import WORDS, Begins
from ttrl.times import clock

GONE = {"tainted": "red", "retired": "dim"}
STYLES = {"live": "green", "held": "yellow", "rolled_back": "red", **GONE}


@click.command()
@json_option
@config_options
def tree(resolve: Resolve, as_json: bool) -> None:
    """What goes on from what: the base models, their lineages, and the versions of each."""
    with open_store(resolve().config) as store:
        found = list(branches(store))
    if as_json:
        print_json(found)
    elif not found:
        click.echo("Nothing has been learned yet.")
    else:
        Console().print(*_trees(found), sep="\n")


def _trees(found: Sequence[Branch]) -> Iterator[Tree]:
    for base in dict.fromkeys(branch["base_model"] for branch in found):
        whole = Tree(Text(base, style="bold"))
        lineages: dict[str, Tree] = {}
        nodes: dict[str, Tree] = {}
        for branch in found:
            if branch["base_model"] != base:
                continue
            if branch["lineage"] not in lineages:
                lineages[branch["lineage"]] = whole.add(Text(_lineage(branch)))
            onto = nodes.get(branch["parent"], lineages[branch["lineage"]])
            style = STYLES.get(branch["role"] or branch["state"], "")
            nodes[branch["name"]] = onto.add(Text(_version(branch), style=style))
        yield whole


def _lineage(first: Branch) -> str:
    why = f": {WORDS[Begins(first['begins'])]}" if first["begins"] else ""
    return f"lineage {first['lineage']}{why}"


def _version(branch: Branch) -> str:
    state = branch["role"] or branch["state"].replace("_", " ")
    told = (branch["name"], state, branch["verdict"], f"update {branch['depth']}")
    return ", ".join([*filter(None, told), clock(branch["created"])])
