"""Where an update starts, and what tells base models apart."""

from __future__ import annotations

import random
import shutil
from dataclasses import replace

import pytest

from jobs.selection import Descent, descend, stack
from ttrl.config import UpdateConfig
from ttrl.store.adapters import AdapterRow, AdapterState
from ttrl.versions import Base, Manifest, identify

BASE = Base("org/model", "w" * 64, "t" * 64)
LIVE = Manifest(
    "b", "l", 2, "d" * 64, "org/model", "a", 2, 16, ("q_proj",), 1.0,
    "all-linear", BASE.weights, BASE.text,
)  # fmt: skip
OLD = replace(LIVE, modules=None, weights=None, text=None)


@pytest.mark.parametrize(
    ("live", "now", "begins"),
    [
        pytest.param(None, {}, "no_parent", id="nothing learned yet"),
        pytest.param(LIVE, {}, None, id="goes on"),
        pytest.param(LIVE, {"full": True}, "lineage_full", id="far from the base"),
        pytest.param(None, {"full": True}, "no_parent", id="the base is not far"),
        pytest.param(LIVE, {"lora_rank": 8}, "rank_changed", id="another rank"),
        pytest.param(LIVE, {"target_modules": ("q_proj",)}, "modules_changed", id="other modules"),
        pytest.param(
            LIVE, {"base": replace(BASE, weights="x")}, "base_changed", id="other weights"
        ),
        pytest.param(
            LIVE, {"base": replace(BASE, text="x")}, "text_changed", id="another template"
        ),
        pytest.param(LIVE, {"base": replace(BASE, name="/x")}, None, id="the model was moved"),
        pytest.param(LIVE, {"base": Base("x")}, "base_changed", id="unreadable, another name"),
        pytest.param(LIVE, {"base": Base("org/model")}, None, id="unreadable, same name"),
        pytest.param(OLD, {}, None, id="an old version, same name"),
        pytest.param(
            OLD, {"base": replace(BASE, name="x")}, "base_changed", id="an old one, another"
        ),
    ],
)
def test_where_a_run_starts(live, now, begins):
    now = {"base": BASE, "full": False} | now
    base, full = now.pop("base"), now.pop("full")
    update = UpdateConfig(**{"lora_rank": 16, "target_modules": "all-linear", **now})
    found = descend(live, ["b", "a"] if live else [], base, update, full=full)
    stacked = ("b", "a") if live else ()
    goes_on, again = Descent(live, stacked=stacked), Descent(None, begins, again=stacked)
    assert found == (goes_on if begins is None else again)
    assert bool(found.words) == (begins is not None)
    assert found.updates == (2 if live and begins else 1), "those that it replaces"


def test_only_what_a_version_goes_back_to_is_stacked():
    def row(name, parent, lineage="l"):
        state = AdapterState.APPROVED
        return AdapterRow(name, lineage, 1, "d", parent, "base", None, 16, state, None, 1.0)

    rows = [row("a", None), row("b", "a"), row("held", "b"), row("c", "b"), row("z", None, "m")]
    assert stack(rows, "c") == ["c", "b", "a"]
    assert stack(rows, "z") == ["z"]


FILES = {
    "config.json": b"{}",
    "model-00001-of-00002.safetensors": random.Random(1).randbytes(3 * 2**20),
    "model-00002-of-00002.safetensors": b"small",
    "tokenizer.json": b"{}",
    "chat_template.jinja": b"{{ messages }}",
    "README.md": b"read me",
}


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    return folder


def test_a_copy_is_the_same_model(model, tmp_path):
    first, copy = identify(str(model)), identify(str(shutil.copytree(model, tmp_path / "copy")))
    assert first.same_weights(copy)
    assert first.same_text(copy)
    assert first.weights
    assert first.weights != first.text


@pytest.mark.parametrize(
    ("file", "content", "weights", "text"),
    [
        ("config.json", b"{} ", False, True),
        ("model-00001-of-00002.safetensors", random.Random(2).randbytes(3 * 2**20), False, True),
        ("model-00002-of-00002.safetensors", b"Small", False, True),
        ("model-00002-of-00002.safetensors", None, False, True),
        ("tokenizer.json", b"[]", True, False),
        ("chat_template.jinja", None, True, False),
        ("README.md", b"read me again", True, True),
    ],
)
def test_what_makes_it_another(model, file, content, weights, text):
    before = identify(str(model))
    (model / file).unlink() if content is None else (model / file).write_bytes(content)
    after = identify(str(model))
    assert (before.same_weights(after), before.same_text(after)) == (weights, text)


def test_a_model_elsewhere_is_known_by_its_name(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    assert identify("nobody/has-this") == Base("nobody/has-this")
