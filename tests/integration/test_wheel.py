"""The wheel has all that the installed program needs: it is used outside the tree, without it."""

from __future__ import annotations

import json
import os
import site
import subprocess
import sys
import venv
from pathlib import Path

import httpx2
import pytest

from serve.state import owner_of
from tests.integration.daemon import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A `ttrl` installed from the wheel into an environment of its own, with this one's libraries
    but not its ttrl: paths in a .pth file are searched after what is installed, and .pth files
    there, by which an editable install is found, are not read."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    venv.create(folder / "env", symlinks=True)
    (wheel,) = folder.glob("*.whl")
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "env"), "--no-input", "install"]
    subprocess.run([*pip, "--no-deps", "--no-index", str(wheel)], check=True, capture_output=True)
    (packages,) = (folder / "env" / "lib").glob("*/site-packages")
    (packages / "libraries.pth").write_text("\n".join(site.getsitepackages()))
    return folder / "env" / "bin"


@pytest.fixture
def ttrl(installed, tmp_path):
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "COLUMNS": "200"}

    def start(*words, program="ttrl"):
        return subprocess.Popen(
            [installed / program, *words], cwd=tmp_path, env=environ, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    return start


def said(child):
    output, _ = child.communicate(timeout=60)
    assert child.returncode == 0, output
    return output


def test_it_is_the_installed_one(ttrl, installed):
    where = "import ttrl, jobs, serve; print(ttrl.__file__, jobs.__file__, serve.__file__)"
    found = said(ttrl("-P", "-c", where, program="python")).split()
    assert all(Path(path).is_relative_to(installed.parent) for path in found), found


def test_its_commands(ttrl, installed):
    assert "service" in said(ttrl("--help"))
    assert "The configuration is valid" in said(ttrl("config", "check", "--set", "recipe=choice"))
    assert f"ExecStart={installed}/ttrl serve" in said(ttrl("service", "install", "--print"))


def test_it_serves(ttrl, tmp_path):
    """With the demo's model and settings, the store's migrations and the page's templates."""
    state = tmp_path / "state"
    program = "from serve.cli.demo import SETTINGS, model_dir as m; print(m()); print(SETTINGS)"
    model, settings = said(ttrl("-P", "-c", program, program="python")).split()
    asked = [{"role": "user", "content": "What is 417 plus 286?"}]
    daemon = ttrl("serve", "--config", settings, "--model", model, "--state-dir", str(state))
    try:
        owner = wait_until(lambda: (o := owner_of(state)) and o.url and o, "it listens")
        with httpx2.Client(base_url=owner.url, trust_env=False, timeout=60) as client:
            wait_until(lambda: client.get("/readyz").is_success, "its engine is up")
            body = {
                "model": "ttrl-demo",
                "max_tokens": 48,
                "messages": asked,
            }
            answer = client.post("/v1/chat/completions", json=body)
            assert answer.json()["choices"][0]["message"]["content"]
            page = client.get(f"{owner.page}/login")
            assert page.is_success
            assert "<html" in page.text
    finally:
        daemon.terminate()
        output, _ = daemon.communicate(timeout=60)
    assert daemon.returncode == 0, output
    recorded = json.loads(said(ttrl("questions", "list", "--json", "--state-dir", str(state))))
    assert [row["body"]["messages"] for row in recorded] == [asked]
