"""A version for use elsewhere: merged into its base model, and a model card made of the evidence.

The card quotes no user and no answer: it has counts, figures and names of versions.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path

import yaml

from jobs.selection import WORDS, Begins, stack
from serve.views import share
from ttrl import ReportedError
from ttrl.config import Config
from ttrl.config.loading import Resolved, Source
from ttrl.config.section import utc
from ttrl.engine.proof import Evidence, Pinned, Proof, prove
from ttrl.evaluation.drift import Drift
from ttrl.evaluation.estimates import Quality
from ttrl.store import Store
from ttrl.versions import Manifest, ModelNotFound, find, identify
from ttrl.words import counted

SETTINGS = ("vote.", "update.", "selection.", "gate.")
"""Those that shape a version."""
LIBRARIES = ("ttrl", "torch", "transformers", "peft", "trl", "vllm")
PROOFS = {
    Proof.PROVEN: "answers like the version",
    Proof.INDISTINCT: "answers like the version, which can hardly be told from its base or parent",
    Proof.NOTHING_PINNED: "not compared with the version: no sequences of its training are kept",
}


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


def merge(
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


def card(config: Config, store: Store, manifest: Manifest, merged: Merge | None = None) -> str:
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
        begins = f"base: {WORDS[Begins(run.begins)]}" if run and run.begins else "base"
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
    """A table in Markdown, whose cells are names and figures."""
    lines = [[str(cell).replace("|", r"\|").replace("\n", " ") for cell in row] for row in rows]
    if not lines:
        yield "None."
        return
    for line in (headings, ["---"] * len(headings), *lines):
        yield f"| {' | '.join(line)} |"
