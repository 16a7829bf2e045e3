"""Faults in child processes: kill -9 or a full disk before or after a call of a named function.

tests/injected/sitecustomize.py, which the children import, carries them out. A fault holds for what
is started from then on (`inject`), or for processes that are up already (`switchable`, `arm`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pytest

from ttrl.store import migrations

INJECTED = Path(__file__).parent / "injected"
FAULT = "TEST_TTRL_FAULT"
FUNCTIONS = "TEST_TTRL_FAULT_FUNCTIONS"
MIGRATIONS = "TEST_TTRL_MIGRATIONS"
"""Names a directory of migrations that children use in place of ttrl's."""


@dataclass(frozen=True)
class Fault:
    """What goes wrong `before` or `after` the nth call of `target` (`module:Class.function`), of
    those made `inside` another function if one is named, in processes with `program` in their
    command line."""

    when: str
    target: str
    inside: str = ""
    nth: int = 1
    program: str = ""
    kind: str = "kill"


def before(target: str, *, nth: int = 1, program: str = "") -> Fault:
    return Fault("before", target, nth=nth, program=program)


def after(target: str, *, nth: int = 1, program: str = "") -> Fault:
    return Fault("after", target, nth=nth, program=program)


def uncommitted(inside: str) -> Fault:
    """Everything is written that a function writes, in a transaction that is not committed."""
    return Fault("before", "sqlalchemy.engine.default:DefaultDialect.do_commit", inside)


RUN = "jobs.run"
"""In the command line of a run's process."""
QUESTIONS, VOTES = "ttrl.store.questions:QuestionTable", "ttrl.store.runs:VoteTable"
RUNS, VERSIONS = "ttrl.store.runs:RunTable", "ttrl.store.adapters:AdapterTable"
FORGETTING, DATABASE = "ttrl.store.forgetting:Forgetting", "ttrl.store.database:Database"
ENGINE, LIVE = "ttrl.engine.client:EngineClient", "serve.gateway.live:Live"

RECORDING = {
    "recording": uncommitted(f"{QUESTIONS}.record"),
    "recorded": after(f"{QUESTIONS}.record"),
}
STARTING = {
    "queued": after(f"{RUNS}.create"),
    "spawned": after("serve.daemon.process:spawn"),
}
"""A run has a row and no process, or a process that has not come to its row yet."""
RUNNING = {
    "claimed": after(f"{RUNS}.start"),
    "selected": before(f"{RUNS}.enter", nth=1),
    "saved": before(f"{ENGINE}.load_adapter", program=RUN),
    "deployed": after(f"{ENGINE}.load_adapter", program=RUN),
    "sampled": before(f"{VOTES}.add"),
    "voting": uncommitted(f"{VOTES}.add"),
    "voted": after(f"{VOTES}.add"),
    "stepped": after("ttrl.events:observe", nth=2),
    "judged": before(f"{RUNS}.enter", nth=3),
    "staged": Fault("before", "pathlib:Path.rename", inside="ttrl.versions:publish", program=RUN),
    "placed": after("ttrl.versions:publish"),
    "publishing": uncommitted(f"{VERSIONS}.publish"),
    "published": after(f"{VERSIONS}.publish"),
    "ended": after(f"{RUNS}.end", program=RUN),
}
"""A run's stages. It enters updating, judging and publishing; `saved` candidates are on disk and
not in the engine, `staged` versions on disk and not in their place, `placed` ones without a row."""
SWAPPING = {
    "loading": before(f"{ENGINE}.load_adapter"),
    "loaded": after(f"{ENGINE}.load_adapter"),
    "proven": before(f"{LIVE}.flip"),
    "flipped": after(f"{LIVE}.flip"),
    "served": after(f"{VERSIONS}.served"),
    "unloaded": after(f"{ENGINE}.unload_adapter"),
}
"""Stages of the next swap of a daemon that is up already; a version is unloaded when the second
after it is live."""
ROLLING_BACK = {
    "rolling_back": uncommitted(f"{VERSIONS}.roll_back"),
    "rolled_back": after(f"{VERSIONS}.roll_back"),
}
PURGING = {
    "purging": uncommitted(f"{FORGETTING}.purge"),
    "purged": after(f"{FORGETTING}.purge", nth=2),
    "scores_dropped": after("shutil:rmtree"),
    "dropped": after("shutil:rmtree", nth=2),
}
"""The first purge only says what would go; the judge's scores go before the rows, and the last
older store to be dropped is a directory."""
PRUNING = before("shutil:rmtree")
"""A version's files have another name, and are still there."""
MIGRATING = {
    "migrating": uncommitted(f"{DATABASE}.migrate"),
    "migrated": after(f"{DATABASE}.migrate"),
}


def inject(monkeypatch: pytest.MonkeyPatch, fault: Fault) -> None:
    """Let it happen in what is started from now on."""
    _use_injected(monkeypatch)
    monkeypatch.setenv(FAULT, json.dumps(asdict(fault)))


def spare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing happen in what is started from now on."""
    monkeypatch.delenv(FAULT)


def switchable(file: Path, faults: Iterable[Fault]) -> dict[str, str]:
    """Return the environment of processes in which any of these happens once `file` says so."""
    functions = {name for fault in faults for name in (fault.target, fault.inside) if name}
    return {
        "PYTHONPATH": str(INJECTED),
        FAULT: str(file),
        FUNCTIONS: json.dumps(sorted(functions)),
    }


def arm(file: Path, fault: Fault | None) -> None:
    """Let it happen, or nothing, from now on in the processes whose fault `file` says."""
    new = file.with_suffix(".new")
    new.write_text(json.dumps(asdict(fault)) if fault else "")
    new.replace(file)  # nobody reads half of it


def full_disk(fault: Fault) -> Fault:
    """From there on no file can be written, in place of kill -9."""
    return replace(fault, kind="full")


def use_migrations(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let this process and what it starts from now on migrate by these."""
    _use_injected(monkeypatch)
    monkeypatch.setattr(migrations, "DIRECTORY", folder)
    monkeypatch.setenv(MIGRATIONS, str(folder))


def _use_injected(monkeypatch: pytest.MonkeyPatch) -> None:
    known = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    others = [each for each in known if each and each != str(INJECTED)]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(INJECTED), *others]))
