"""`ttrl adapters`; versions for use elsewhere, merged into the base model, with a model card.

The card is made of the evidence: counts, figures and names of versions. It quotes no user and no
answer.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path

import click
import yaml

from jobs.selection import BEGINS, stack
from serve import operations
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
    show_value,
    tell,
    wants_json,
)
from serve.cli.runs import CODES, carry_out
from serve.gateway.live import BASE
from serve.views import Branch, branches, share, verdicts
from ttrl import ReportedError
from ttrl.config import Config
from ttrl.config.loading import Resolved, Source
from ttrl.config.section import clock, utc
from ttrl.engine.proof import Evidence, Pinned, Proof, prove
from ttrl.evaluation.drift import Drift
from ttrl.evaluation.estimates import Quality
from ttrl.files import whole_directory
from ttrl.store import Store
from ttrl.store.questions import QuestionState
from ttrl.versions import (
    AdapterDamaged,
    Manifest,
    ModelNotFound,
    find,
    identify,
    place,
    read_foreign,
    verify,
)
from ttrl.words import counted

NONE = "There are no versions yet."
SETTINGS = ("vote.", "update.", "selection.", "gate.")
"""Those that shape a version."""
LIBRARIES = ("ttrl", "torch", "transformers", "peft", "trl", "vllm")
PROOFS = {
    Proof.PROVEN: "answers like the version",
    Proof.INDISTINCT: "answers like the version, which can hardly be told from its base or parent",
    Proof.NOTHING_PINNED: "not compared with the version: no sequences of its training are kept",
}


@click.group()
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
    show_value(versions, _tree(versions) if versions else [NONE])


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
                    merge = merge_into_base(manifest, source, part, dtype or "auto", pinned)
            else:
                shutil.copytree(source, part, dirs_exist_ok=True)
            card = model_card(config, store, manifest, merge)
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


def _tree(versions: Sequence[Branch]) -> Iterator[str]:
    base = lineage = None
    for version in versions:
        if version.base_model != base:
            yield version.base_model
        if (version.base_model, version.lineage) != (base, lineage):
            why = f": {BEGINS[version.begins]}" if version.begins else ""
            yield f"  lineage {version.lineage}{why}"
        base, lineage = version.base_model, version.lineage
        state = version.role or version.state.replace("_", " ")
        parts = (version.name, state, version.verdict, f"update {version.depth}")
        words = ", ".join([*filter(None, parts), clock(version.created)])
        yield f"{'  ' * version.depth}  {words}"


# For use elsewhere


class MergeFailed(ReportedError):
    """A version cannot be merged into its base model; says why."""


@dataclass(frozen=True)
class Merge:
    """The type of the merged weights, and how they answer beside the version."""

    dtype: str
    evidence: Evidence

    @property
    def words(self) -> str:
        apart = f", {self.evidence.distance:.2g} nats per token apart" * bool(self.evidence.towards)
        return f"{self.dtype}; {PROOFS[self.evidence.proof]}{apart}"


def merge_into_base(
    manifest: Manifest, source: Path, directory: Path, dtype: str, pinned: Sequence[Pinned]
) -> Merge:
    """Save the version merged into its base model, and compare what that makes of the `pinned`
    sequences with what the trainer computed. Raises MergeFailed."""
    try:
        find(manifest.base_model)
    except ModelNotFound as error:
        raise MergeFailed(f"cannot merge: {error}") from error
    if not identify(manifest.base_model).same_weights(manifest.base):
        raise MergeFailed(
            f"the weights of {manifest.base_model} have changed since {manifest.name} was trained"
        )
    asked = {
        "base": manifest.base_model,
        "adapter": str(source),
        "directory": str(directory),
        "dtype": dtype,
        "pins": [asdict(each.pin) for each in pinned],
    }
    command = [sys.executable, "-P", "-m", "ttrl.training.lora"]
    done = subprocess.run(  # which imports torch
        command, input=json.dumps(asked), capture_output=True, text=True, check=False
    )
    if done.returncode:
        last = (done.stderr.strip() or "no words").splitlines()[-1]
        killed = "its process was killed, perhaps because memory ran out"
        raise MergeFailed(f"cannot merge: {killed if done.returncode < 0 else last}")
    found = json.loads(done.stdout.splitlines()[-1])
    rounded = [replace(each, dtype=found["dtype"]) for each in pinned]
    merged = Merge(found["dtype"], prove(rounded, found["served"]))
    if not merged.evidence.proof.may_serve:
        raise MergeFailed(
            f"the merged weights do not answer like {manifest.name} ({merged.evidence.words()}); "
            f"{merged.dtype} may be too coarse for them: try --dtype float32"
        )
    return merged


def model_card(
    config: Config, store: Store, manifest: Manifest, merged: Merge | None = None
) -> str:
    """Return a model card as the Hugging Face hub reads it."""
    base, called = manifest.base_model, _called(manifest.base_model)
    front = {
        **({"base_model": base} if called == base else {}),
        "base_model_relation": "finetune" if merged else "adapter",
        "library_name": "transformers" if merged else "peft",
        "pipeline_tag": "text-generation",
        "tags": ["ttrl", "lora", "test-time-training"],
    }
    form = f"merged into its weights ({merged.words})" if merged else "to be loaded beside it"
    sections = {
        "Versions": _versions(store, manifest.name),
        "Evaluation": _evaluation(store, manifest),
        "Settings": _settings(config),
        "Libraries": _table(("library", "version"), _libraries()),
        "What is not known": _unknown(store, manifest, merged),
    }
    head = f"---\n{yaml.safe_dump(front, sort_keys=False)}---\n\n# {manifest.name}\n\n"
    intro = (
        f"A LoRA (rank {manifest.rank}) for {called}, {form}. From ttrl, which trains on the "
        f"questions that a model is asked, without labels, and evaluates versions before they "
        f"serve. Digest of the adapter: `{manifest.digest}`"
    )
    digests = f"; of the base model: `{manifest.weights}`" if manifest.weights else ""
    text = "".join(f"\n## {title}\n\n" + "\n".join(of) + "\n" for title, of in sections.items())
    return f"{head}{intro}{digests}.\n{text}"


def _called(model: str) -> str:
    """A model's name, but not where it lies on this machine."""
    path = Path(model)
    return path.name if path.is_absolute() or path.is_dir() else model


def _versions(store: Store, name: str) -> Iterator[str]:
    rows = {row.name: row for row in store.adapters.all()}
    cells = []
    for each in filter(rows.get, stack(rows.values(), name)):
        row = rows[each]
        run = store.runs.get(row.run_id) if row.run_id else None
        judged = store.runs.verdicts(run.id) if run else []
        begins = f"base: {BEGINS[run.begins]}" if run and run.begins else "base"
        counts = (run.id, run.steps, run.samples, run.tokens) if run else ("-",) * 4
        learned = len(store.adapters.question_ids(each))
        verdict = judged[-1].verdict if judged else "-"
        state = row.state.replace("_", " ")
        cells.append(
            (each, row.parent or begins, utc(row.created), learned, *counts, verdict, state)
        )
    yield from _table(
        ("version", "trained from", "published", "questions learned from", "run", "steps",
         "samples", "tokens sampled", "verdict", "state"), cells,
    )  # fmt: skip


def _evaluation(store: Store, manifest: Manifest) -> Iterator[str]:
    for verdict in store.runs.verdicts(manifest.run_id):
        found, against = verdict.evidence, _called(verdict.against)
        yield (
            f"**{found.verdict}** against {against}, on {counted(found.probes, 'probe')}, "
            f"{found.labelled} of them labelled ({utc(verdict.at)}): {found.reason}.\n"
        )
        yield from _table(
            ("outcome", "rule and figures"), ((c.outcome, c.words) for c in found.checks)
        )
        yield ""
    for who, version in (("This version", manifest.name), ("The base model", None)):
        measured = store.measurements.newest(Quality, version)
        if measured and (right := measured.found.right):
            labelled = counted(right.labels, "labelled probe")
            yield f"- {who} answers {share(right, 1)} of {labelled} correctly."
        if measured and (traffic := measured.found.estimate):
            by = f", by {counted(traffic.labels, 'label')}"
            yield f"- {who} answers about {share(traffic, 1)} of the traffic correctly{by}."
    drift = store.measurements.newest(Drift, manifest.name)
    if drift and (distance := drift.found.from_base) is not None:
        yield f"- Its KL divergence from the base model is {distance:.3g} nats per token."


def _settings(config: Config) -> Iterator[str]:
    yield "Those of the installation when this was written that are not the defaults:\n"
    changed = [
        (path, value)
        for path, value, source in Resolved.running(config).rows()
        if source is Source.DAEMON and path.startswith(SETTINGS)
        if not (isinstance(value, str) and os.sep in value)  # a file on this machine
    ]
    yield from _table(("setting", "value"), changed)


def _libraries() -> Iterator[tuple[str, str]]:
    for name in LIBRARIES:
        try:
            yield name, metadata.version(name)
        except metadata.PackageNotFoundError:
            yield name, "not installed here"


def _unknown(store: Store, manifest: Manifest, merged: Merge | None) -> Iterator[str]:
    yield "- The license, which follows from the base model's."
    yield "- How it answers anything but questions like those it was asked."
    yield "- The settings and libraries of its runs, which may have been others than the above."
    judged = store.runs.verdicts(manifest.run_id)
    if not judged:
        yield "- How it compares with the base model: no verdict is kept."
    elif not any(verdict.evidence.labelled for verdict in judged):
        yield "- Whether it is correct more often: there were no labels."
    if merged and not merged.evidence.towards:
        yield "- Whether the merged weights answer like the version: nothing is kept to compare on."


def _table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    lines = [[str(cell).replace("|", r"\|").replace("\n", " ") for cell in row] for row in rows]
    if not lines:
        yield "None."
        return
    for line in (headings, ["---"] * len(headings), *lines):
        yield f"| {' | '.join(line)} |"
