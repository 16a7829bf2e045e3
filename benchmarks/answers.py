"""Are answers counted as what they say? `python -m benchmarks.answers [FILE.jsonl]`.

Each line of the file is a question with samples: `kind`, `question`, `samples`, and `classes`, a
number for each sample (equal where they say the same) or null where nothing can be read. Without a
file: ordinary wordings and near misses, odder ones, and what data sets ask, written by people who
had not seen the rules. Pairs of one question's samples are counted: precision is the share of the
pairs counted as one that say the same, recall the share of those that say the same that are counted
as one. `readable_right` is the share of the samples that are read exactly if there is something to
read.

What is wrong is listed on standard error; the last line on standard output is JSON.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path

import click

from ttrl.answers import Reader

DATA = sorted(Path(__file__).with_name("data").glob("answers*.jsonl"))


def pairs(answers: Sequence[object], classes: Sequence[int | None]) -> Counter[str]:
    """Count the pairs of samples by whether they say the same and whether they are counted so."""
    found: Counter[str] = Counter()
    for a, b in combinations(range(len(answers)), 2):
        same = classes[a] is not None and classes[a] == classes[b]
        joined = answers[a] is not None and answers[a] == answers[b]
        found["right" if same and joined else "missed" if same else "wrong"] += same or joined
    return found


def mistakes(group: dict[str, object], answers: Sequence[object]) -> Iterator[str]:
    yield f"{group['kind']}: {group['question']!r}"
    for sample, answer, meant in zip(group["samples"], answers, group["classes"], strict=True):  # type: ignore[call-overload]
        yield f"  {meant!s:>4}  {answer!r:24}  {sample!r}"


@click.command()
@click.argument("files", nargs=-1, type=click.Path(exists=True, path_type=Path))
@click.option("--all", "everything", is_flag=True, help="List groups without a mistake as well.")
def main(files: Sequence[Path], everything: bool) -> None:
    """Read each group of FILES as samples of one question."""
    files = files or DATA
    groups = [
        json.loads(line)
        for file in files
        for line in file.read_text(encoding="utf-8").splitlines()
        if line.strip()
    ]
    total: Counter[str] = Counter()
    began = time.monotonic()
    for group in groups:
        reading = Reader().read(group["question"], group["samples"])
        found = pairs(reading.answers, group["classes"])
        readable = [
            (answer is None) == (meant is None)
            for answer, meant in zip(reading.answers, group["classes"], strict=True)
        ]
        total += found
        total["readable"] += sum(readable)
        total["samples"] += len(readable)
        if everything or found["missed"] or found["wrong"] or not all(readable):
            click.echo("\n".join(mistakes(group, reading.answers)), err=True)
    result = {
        "precision": total["right"] / max(total["right"] + total["wrong"], 1),
        "recall": total["right"] / max(total["right"] + total["missed"], 1),
        "readable_right": total["readable"] / max(total["samples"], 1),
        "groups": len(groups),
        "seconds": round(time.monotonic() - began, 2),
    }
    click.echo(json.dumps(result))


if __name__ == "__main__":
    main()
