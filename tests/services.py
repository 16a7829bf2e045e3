"""The programs that some tests start, from Debian's packages.

A test skips where one is missing. With TEST_REQUIRE_SERVICES=1, as in CI, none may be: then no test
runs at all.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

PROGRAMS = {
    "postgresql": ("initdb", "pg_ctl"),
    "prometheus": ("prometheus", "promtool"),
    "chromium": ("chromium",),
    "systemd": ("systemd-analyze",),
    "bubblewrap": ("bwrap",),
}
"""Of each package, what is started."""
REQUIRED = os.environ.get("TEST_REQUIRE_SERVICES") == "1"


def find(program: str) -> Path | None:
    """Where it is; Debian keeps PostgreSQL's programs out of PATH."""
    if found := shutil.which(program):
        return Path(found).resolve()
    return max(Path("/usr/lib/postgresql").glob(f"*/bin/{program}"), default=None)


def missing() -> list[str]:
    """The packages without which tests are skipped."""
    return [name for name, programs in PROGRAMS.items() if not all(map(find, programs))]


def needs(package: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(
        package in missing(),
        reason=f"{package} is not installed (`make setup-services`, or Debian's package)",
    )
