"""Versions with a row and files, without a model that they could be loaded into."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path

from ttrl import versions
from ttrl.store import Store
from ttrl.store.adapters import AdapterRow, AdapterState
from ttrl.versions import Manifest


def write_lora(directory: Path, payload: bytes = b"\x00" * 64) -> Path:
    """PEFT's two files, with one tensor."""
    directory.mkdir()
    header = {"a": {"dtype": "F32", "shape": [16], "data_offsets": [0, len(payload)]}}
    encoded = json.dumps(header).encode()
    (directory / versions.CONFIG).write_text('{"r": 16, "target_modules": ["q"]}')
    (directory / versions.WEIGHTS).write_bytes(struct.pack("<Q", len(encoded)) + encoded + payload)
    return directory


def reconfigured(source: Path, directory: Path, settings: dict[str, object]) -> Path:
    """A copy of an adapter with other settings of PEFT's."""
    shutil.copytree(source, directory)
    file = directory / versions.CONFIG
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))
    return directory


def publish(state_dir: Path, count: int = 1, *, first: int = 1) -> list[str]:
    """So many versions in the state directory's store, the last of them wanted."""
    names: list[str] = []
    with Store.open(state_dir) as store:
        for number in range(first, first + count):
            source = write_lora(state_dir / "source", number.to_bytes(8) * 8)
            digest, parent = versions.digest_of(source), names[-1] if names else None
            name = versions.version_name("test", number, digest)
            made = float(number)
            manifest = Manifest(name, "test", number, digest, "base", parent, 0, 16, ("q",), made)
            versions.publish(source, state_dir / "adapters", manifest)
            state = AdapterState.APPROVED
            row = AdapterRow(
                name, "test", number, digest, parent, "base", None, 16, state, "why", made
            )
            store.adapters.publish(row, [], author="test")
            names.append(name)
            for file in source.iterdir():
                file.unlink()
            source.rmdir()
    return names
