"""What a backup says of itself, which may come from anywhere: read with care."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from ttrl.adapters import WEIGHTS

FORMAT = 1
MANIFEST = "manifest.json"
LONGEST_WORD = 80

STRICT = ConfigDict(extra="forbid", strict=True)
Size = Annotated[int, Field(ge=0, lt=2**63)]
Moment = Annotated[float, Field(ge=0, lt=253_402_300_800)]
"""Unix seconds, before the year 10000, which no calendar here has."""


class BackupError(Exception):
    """A backup cannot be made or used; the message says why and what to do."""


@dataclass(frozen=True)
class Member:
    """One file of a backup: bytes, and their SHA-256."""

    __pydantic_config__ = STRICT

    size: Size
    sha256: str


@dataclass(frozen=True)
class Made:
    """What every format's manifest says: which it is, and by which version it was made."""

    format: int
    ttrl: str


@dataclass(frozen=True)
class Manifest(Made):
    """What a backup holds. `at` is the moment of the store in Unix seconds, `revision` that of its
    schema; `left_out` says of versions that are in the store and not in the backup why."""

    __pydantic_config__ = STRICT

    at: Moment
    revision: str
    members: dict[str, Member]
    left_out: dict[str, str]

    @property
    def versions(self) -> int:
        """How many versions it has."""
        return sum(name.endswith(f"/{WEIGHTS}") for name in self.members)

    @property
    def size(self) -> int:
        """Bytes of all its members."""
        return sum(member.size for member in self.members.values())


_MADE, _MANIFEST = TypeAdapter(Made), TypeAdapter(Manifest)


def read_manifest(text: bytes) -> Manifest:
    """Raises BackupError, whatever the text is."""
    try:
        made = _MADE.validate_json(text)
        if made.format != FORMAT:
            raise BackupError(
                f"the backup has format {made.format}, and this ttrl knows {FORMAT}; use the "
                f"version that made it, {made.ttrl[:LONGEST_WORD]}, or a newer one"
            )
        return _MANIFEST.validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))[:LONGEST_WORD] or "all of it"
        raise BackupError(
            f"the backup's {MANIFEST} cannot be read: {where}: {first['msg']}"
        ) from None
