"""A version on disk is whole, or it is refused with a reason."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re

import pytest

from tests.versions import write_lora
from ttrl import versions
from ttrl.versions import AdapterDamaged, AdapterUnfit, Base, Manifest


@pytest.fixture
def published(tmp_path):
    source = write_lora(tmp_path / "source")
    digest = versions.digest_of(source)
    name = versions.version_name("abc", 1, digest)
    manifest = Manifest(name, "abc", 1, digest, "base", None, 7, 16, ("q_proj",), 1.0)
    return versions.publish(source, tmp_path / "adapters", manifest), manifest


def test_what_was_published_verifies(published):
    directory, manifest = published
    assert versions.verify(directory) == manifest
    assert directory.name == f"ttrl-abc-1-{manifest.digest[:8]}"


def test_a_manifest_from_before_digests_of_the_base_is_read(published):
    directory, _ = published
    file = directory / versions.MANIFEST
    values = json.loads(file.read_text())
    for name in ("modules", "weights", "text"):
        del values[name]
    file.write_text(json.dumps(values))
    assert versions.verify(directory).base == Base("base")


def test_a_name_is_not_used_twice(published, tmp_path):
    directory, manifest = published
    with pytest.raises(FileExistsError, match="not reused"):
        versions.publish(tmp_path / "source", directory.parent, manifest)


def damage_weights(directory):
    path = directory / versions.WEIGHTS
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")


def cut_weights(directory):
    path = directory / versions.WEIGHTS
    path.write_bytes(path.read_bytes()[:-5])


def drop(name):
    return lambda directory: (directory / name).unlink()


def replace_manifest(text):
    return lambda directory: (directory / versions.MANIFEST).write_text(text)


def link_weights(directory):
    path = directory / versions.WEIGHTS
    elsewhere = directory.parent.parent / "elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (damage_weights, "have changed"),
        (cut_weights, "have changed"),
        (drop(versions.WEIGHTS), "adapter_model.safetensors is missing"),
        (drop(versions.CONFIG), "adapter_config.json is missing"),
        (drop(versions.MANIFEST), "manifest.json is missing"),
        (replace_manifest("{"), "cannot read"),
        (replace_manifest('{"name": 1}'), "cannot read"),
        (link_weights, "is missing"),
        (lambda directory: (directory / "adapter_model.bin").touch(), "unexpected files"),
        (lambda directory: directory.rename(directory.with_name("other")), "no such directory"),
    ],
)
def test_a_damaged_version_is_refused(published, harm, message):
    directory, _ = published
    harm(directory)
    with pytest.raises(AdapterDamaged, match=message):
        versions.verify(directory)


def test_a_crash_while_publishing_leaves_only_what_sweep_removes(published, tmp_path):
    directory, _ = published
    write_lora(directory.parent / ".staging-ttrl-x")
    assert versions.sweep(directory.parent) == [".staging-ttrl-x"]
    assert [path.name for path in directory.parent.iterdir()] == [directory.name]


def test_removing_leaves_nothing(published):
    directory, _ = published
    versions.remove(directory.parent, directory.name)
    assert list(directory.parent.iterdir()) == []


@pytest.mark.fault(
    "a version's file cannot be read (EIO, EACCES)",
    sees="the wanted version, or the one before where that is the one",
    keeps="everything; the version counts as damaged, not the store as away",
)
def test_a_version_that_cannot_be_read_is_damaged(published, monkeypatch):
    def fail(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(hashlib, "file_digest", fail)
    with pytest.raises(AdapterDamaged, match="cannot be read: Input/output error"):
        versions.verify(published[0])


@pytest.mark.fault(
    "a doctored store has versions whose names lead out of the state directory",
    sees="nothing",
    keeps="whatever they name",
)
@pytest.mark.parametrize("name", ["../precious", "..", ".", "", "/etc", "a/b", "a\0", ".staging-a"])
def test_a_name_that_leads_elsewhere_is_none(tmp_path, name):
    root, precious = tmp_path / "adapters", tmp_path / "precious"
    for folder in (root / "a" / "b", precious):
        folder.mkdir(parents=True)
    versions.discard(root, name)
    with pytest.raises(AdapterDamaged, match="is no name of a version"):
        versions.remove(root, name)
    assert precious.is_dir()
    assert (root / "a" / "b").is_dir()


PLAIN = {"peft_type": "LORA", "r": 16, "base_model_name_or_path": "Org/Model", "lora_alpha": 16}


@pytest.mark.parametrize(
    ("changed", "base", "reason"),
    [
        ({}, "Org/Model", ""),
        ({}, "/models/model", ""),
        ({"base_model_name_or_path": "/elsewhere/Model/"}, "Org/Model", ""),
        ({"loftq_config": {}, "modules_to_save": None, "use_dora": False}, "Org/Model", ""),
        ({}, "Org/Model-Instruct", "trained for Org/Model, and Org/Model-Instruct is served"),
        ({"base_model_name_or_path": None}, "Org/Model", r"\(not named\)"),
        ({"peft_type": "PROMPT_TUNING"}, "Org/Model", "not a LoRA"),
        ({"use_dora": True}, "Org/Model", "use_dora"),
        ({"rank_pattern": {"q": 8}, "modules_to_save": ["x"]}, "Org/Model", "_save, rank_pattern"),
        ({"r": 0}, "Org/Model", "no rank"),
        ({"r": True}, "Org/Model", "no rank"),
        ({"r": "16"}, "Org/Model", "no rank"),
    ],
)
def test_what_is_no_plain_lora_of_the_base_model_is_not_imported(changed, base, reason):
    found = versions.unfit({**PLAIN, **changed}, base)
    assert re.search(reason, found) if reason else not found


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (drop(versions.WEIGHTS), "adapter_model.safetensors is missing"),
        (link_weights, "adapter_model.safetensors is missing"),
        (lambda directory: (directory / versions.CONFIG).write_text("{"), "cannot read"),
        (lambda directory: (directory / versions.CONFIG).write_text("[]"), "not a LoRA"),
    ],
)
def test_an_adapter_without_its_two_files_is_not_imported(tmp_path, harm, message):
    """Such as one that has its weights in a pickle."""
    (tmp_path / "in").mkdir()
    directory = write_lora(tmp_path / "in" / "lora")
    (directory / versions.CONFIG).write_text(json.dumps(PLAIN))
    (directory / "adapter_model.bin").touch()
    versions.read_foreign(directory, "Org/Model")
    harm(directory)
    with pytest.raises((AdapterDamaged, AdapterUnfit), match=message):
        versions.read_foreign(directory, "Org/Model")


def test_only_the_two_files_are_copied(tmp_path):
    source = write_lora(tmp_path / "source")
    (source / "adapter_model.bin").touch()
    versions.copy(source, tmp_path / "copy")
    assert {path.name for path in (tmp_path / "copy").iterdir()} == set(versions.FILES)
