"""Nothing of ours loads what could run code as it is loaded."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = [file for name in ("ttrl", "jobs", "serve") for file in (ROOT / name).rglob("*.py")]
UNPICKLE = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
CALLS = {"torch.load", "numpy.load", "np.load", "yaml.load", "yaml.unsafe_load", "yaml.full_load"}


def loaders(source: str) -> set[str]:
    """What of the above a module imports, calls or switches on."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                found |= {each.name.partition(".")[0] for each in names} & UNPICKLE
            case ast.ImportFrom(module=str(module)):
                found |= {module.partition(".")[0]} & UNPICKLE
            case ast.Attribute(attr="load" | "unsafe_load" | "full_load"):
                found |= {ast.unparse(node)} & CALLS
            case ast.keyword(
                arg="trust_remote_code" | "resume_from_checkpoint" as name, value=value
            ) if ast.unparse(value) != "False":
                found.add(name)
    return found


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import pickle", {"pickle"}),
        ("from joblib.x import load", {"joblib"}),
        ("torch.load(path, weights_only=True)", {"torch.load"}),
        ("f(trust_remote_code=True)", {"trust_remote_code"}),
        ("f(trust_remote_code=trusted)", {"trust_remote_code"}),
        ("f(trust_remote_code=False)", set()),
        ("json.load(file); load_file(path)", set()),
    ],
)
def test_what_would_be_found(source: str, found: set[str]) -> None:
    assert loaders(source) == found


@pytest.mark.integration
def test_there_is_none() -> None:
    assert len(FILES) > 100
    assert {str(file): found for file in FILES if (found := loaders(file.read_text()))} == {}
