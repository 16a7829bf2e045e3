"""A reward that fails in the worst way: its exception quotes what users and models said."""

from __future__ import annotations

from typing import Never

from ttrl.rewards import Ballot


def quote(ballot: Ballot) -> Never:
    raise RuntimeError(f"cannot judge {ballot}") from ValueError(str(ballot))
