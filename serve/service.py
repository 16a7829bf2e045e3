"""The unit files for systemd: what is in them, and putting them in place."""

from __future__ import annotations

import os
import re
import sysconfig
from dataclasses import dataclass
from enum import StrEnum
from importlib.resources import files
from pathlib import Path

_PACKAGE = Path(str(files("serve")))
UNITS = next(p for p in (_PACKAGE / "units", _PACKAGE.parent / "systemd") if p.is_dir())
"""Where the wheel has them, or in the tree."""
TTRL, VLLM = "/opt/ttrl/bin/ttrl", "/opt/vllm/bin/vllm"
"""The programs as the files in the package have them."""
HIDDEN = {
    "ProtectHome": ("/home", "/root", "/run/user"),
    "PrivateTmp": ("/tmp", "/var/tmp"),  # noqa: S108 - named, not used
}
"""Where the units see nothing, by the setting that makes it so."""


class Standing(StrEnum):
    """What is in a unit's place."""

    NOTHING = "nothing"
    SAME = "the same"
    ANOTHER = "another"


@dataclass(frozen=True)
class Unit:
    """One unit file, for a place of this machine."""

    path: Path
    text: str

    def standing(self) -> Standing:
        """Raises OSError."""
        try:
            there = self.path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return Standing.NOTHING
        return Standing.SAME if there == self.text else Standing.ANOTHER

    def write(self) -> None:
        """Whole or not at all. Raises OSError."""
        staging = self.path.with_name(f".{self.path.name}.new")
        staging.write_text(self.text, encoding="utf-8")
        staging.chmod(0o644)
        staging.replace(self.path)


def units(directory: Path, ttrl: Path, vllm: Path | None = None) -> list[Unit]:
    """The daemon's, and vLLM's if its program is named."""
    programs = {"ttrl.service": (TTRL, ttrl)}
    if vllm is not None:
        programs["ttrl-vllm.service"] = (VLLM, vllm)
    return [
        Unit(directory / name, (UNITS / name).read_text(encoding="utf-8").replace(said, _word(is_)))
        for name, (said, is_) in programs.items()
    ]


def _word(program: Path) -> str:
    """One word of a command line of systemd's, for which % begins what it puts in itself."""
    text = str(program).replace("%", "%%")
    return text if re.fullmatch(r"[\w/.+@:,=~%-]+", text) else f'"{text}"'


def writable(program: Path) -> bool:
    """Whether systemd takes a program of that name, however it is quoted."""
    return str(program).isprintable() and not set("'\"\\").intersection(str(program))


def own_program() -> Path:
    """The `ttrl` of the interpreter that runs this."""
    return Path(sysconfig.get_path("scripts")) / "ttrl"


def hidden(program: Path) -> tuple[Path, str] | None:
    """What the units would not see of what it takes to run a program, itself or its interpreter,
    and the setting that hides it. Raises OSError."""
    with program.open("rb") as file:
        first = file.readline(1024)
    needed = [program]
    if first.startswith(b"#!"):
        needed += [Path(os.fsdecode(word)) for word in first[2:].split()[:1]]
    for path in (*needed, *(path.resolve() for path in needed)):
        for setting, directories in HIDDEN.items():
            if any(path.is_relative_to(directory) for directory in directories):
                return path, setting
    return None
