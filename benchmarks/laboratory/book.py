"""What has been measured so far, in a file that is written after each cell."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.laboratory.measures import Answered
from benchmarks.laboratory.mixtures import Size


@dataclass(frozen=True)
class Scores:
    """What one version answers to the questions that were learned from, and to held-out ones."""

    trained: Answered
    held_out: Answered


@dataclass(frozen=True)
class Cell:
    """What came of one arm on one mixture with one seed. `scores` has the base twice where nothing
    is learned, nothing where the base serves in the end, else the version that serves. `samples`
    and `seconds` are what the arm took; `measuring` are the seconds of asking afterwards;
    `answer_seconds` those of one answer, of the base and of what serves."""

    mixture: str
    arm: str
    seed: int
    shipped: bool
    why: str
    steps: int
    samples: int
    seconds: float
    measuring: float
    answer_seconds: tuple[float, float]
    scores: tuple[Scores, ...]

    @property
    def key(self) -> tuple[str, str, int]:
        """What the cell is about."""
        return self.mixture, self.arm, self.seed

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> Cell:
        """What was written with `asdict`."""
        scores = tuple(
            Scores(Answered.from_json(each["trained"]), Answered.from_json(each["held_out"]))
            for each in row["scores"]
        )
        return cls(**row | {"scores": scores, "answer_seconds": tuple(row["answer_seconds"])})


class OtherSize(ValueError):
    """The file's cells were measured with other sizes, so that they cannot stand beside these."""


@dataclass
class Book:
    """The cells of one table, all of one size."""

    size: Size
    file: Path | None = None
    cells: dict[tuple[str, str, int], Cell] = field(default_factory=dict)

    @classmethod
    def open(cls, size: Size, file: Path | None) -> Book:
        """Go on with a file, if it is there. Raises OtherSize."""
        book = cls(size, file)
        if file is not None and file.exists():
            found = json.loads(file.read_text())
            if found["size"] != asdict(size):
                raise OtherSize(f"{file} has cells of another size: {found['size']}")
            book.cells = {cell.key: cell for cell in map(Cell.from_json, found["cells"])}
        return book

    def __iter__(self) -> Iterator[Cell]:
        return iter(self.cells.values())

    def add(self, cell: Cell) -> None:
        """Keep a cell."""
        self.cells[cell.key] = cell
        self.write()

    def write(self, **more: Any) -> None:
        """The whole file or none of it, with what follows from the cells."""
        if self.file is None:
            return
        page = {"size": asdict(self.size), **more, "cells": [asdict(cell) for cell in self]}
        beside = self.file.with_suffix(".part")
        beside.write_text(json.dumps(page, separators=(",", ":")))
        os.replace(beside, self.file)
