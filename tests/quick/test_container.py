"""The container's files: what they copy, run and set is there."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest
import yaml

from serve.cli import COMMANDS
from ttrl.config.loading import load

ROOT = Path(__file__).parents[2]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


def instructions() -> list[tuple[str, str]]:
    """Of the Containerfile: each with what follows it, in one line."""
    lines = (line for line in (ROOT / "Containerfile").read_text().splitlines() if line[:1] != "#")
    whole = "\n".join(lines).replace("\\\n", " ")
    return [tuple(line.split(maxsplit=1)) for line in whole.splitlines() if line]


def of(name: str) -> list[str]:
    return [rest for instruction, rest in instructions() if instruction == name]


def test_what_is_copied_is_there_and_sent_to_the_builder():
    sent = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in sent
    stages = {rest.split()[-1] for rest in of("FROM")}
    for rest in of("COPY"):
        *sources, _ = rest.split()
        if sources[0].startswith("--from="):
            assert sources[0].removeprefix("--from=") in stages
            continue
        for source in sources:
            assert (ROOT / source).exists(), source
            assert f"!{source}" in sent


def test_all_that_the_wheel_is_made_of_is_copied():
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    copied = {source for rest in of("COPY") for source in rest.split()[:-1]}
    assert {*wheel["targets"]["wheel"]["only-include"], "README.md", "LICENSE"} <= copied


def test_extras_that_are_installed_exist():
    named = re.findall(r"'\.\[(.+?)\]'", "\n".join(of("RUN")))
    assert len(named) == 2
    assert {extra for names in named for extra in names.split(",")} <= EXTRAS.keys()


def test_it_runs_as_nobody_special_and_says_whether_it_lives():
    assert of("USER")[-1] == "ttrl"
    (health,), (entry,), (command,) = of("HEALTHCHECK"), of("ENTRYPOINT"), of("CMD")
    *_, program = json.loads(health.partition("CMD ")[2])
    compile(program, "HEALTHCHECK", "exec")
    assert "/healthz" in program
    assert json.loads(entry) == ["ttrl"]
    assert json.loads(command)[0] in COMMANDS


@pytest.fixture
def service():
    return yaml.safe_load((ROOT / "compose.yml").read_text())["services"]["ttrl"]


def test_the_service_is_built_and_configured_from_what_is_there(service, tmp_path):
    stages = {rest.split()[-1] for rest in of("FROM")}
    assert (ROOT / service["build"]["dockerfile"]).is_file()
    assert service["build"]["target"] in stages
    config, *_ = service["volumes"][0].split(":")
    environ = {name: str(value) for name, value in service["environment"].items()}
    environ["CREDENTIALS_DIRECTORY"] = str(tmp_path)
    for secret in service["secrets"]:
        (tmp_path / secret).write_text("0123456789abcdef0123456789abcdef\n")
    found = load(ROOT / config, environ=environ).config
    assert found.gateway.host == found.admin.host == "0.0.0.0"
    assert found.admin.key == "0123456789abcdef0123456789abcdef"
    inside = {port.split(":")[-1] for port in service["ports"]}
    assert inside == set(of("EXPOSE")[0].split())
    assert inside == {str(found.gateway.port), str(found.admin.port)}
    assert str(found.state_dir) in {volume.split(":")[1] for volume in service["volumes"]}
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
