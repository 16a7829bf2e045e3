"""A real Prometheus, and its tool, where the machine has them."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

from tests.services import needs

ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / "configs"
needs_prometheus = needs("prometheus")


def promtool(*words: str, given: bytes | None = None) -> None:
    done = subprocess.run(["promtool", *words], input=given, capture_output=True, timeout=280)
    assert done.returncode == 0, (done.stdout + done.stderr).decode()


class Prometheus:
    def __init__(self, url: str) -> None:
        self.url = url

    def get(self, path: str, **more: str) -> Any:
        answer = httpx2.get(f"{self.url}/api/v1/{path}", params=more, trust_env=False)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    def ask(self, expression: str) -> list[dict[str, Any]]:
        """What an expression is now."""
        found: list[dict[str, Any]] = self.get("query", query=expression)["result"]
        return found

    def ready(self) -> bool:
        try:
            return httpx2.get(f"{self.url}/-/ready", trust_env=False).is_success
        except httpx2.TransportError:
            return False


@contextmanager
def scraping(target: str, directory: Path, port: int) -> Iterator[Prometheus]:
    """One that scrapes a daemon at host:port every second, with our rules, evaluated as often."""
    settings = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(CONFIGS / "prometheus" / "rules.yml")],
        "scrape_configs": [{"job_name": "ttrl", "static_configs": [{"targets": [target]}]}],
    }
    file = directory / "prometheus.json"  # JSON is YAML
    file.write_text(json.dumps(settings))
    found = Prometheus(f"http://127.0.0.1:{port}")
    with (directory / "prometheus.log").open("wb") as log:
        command = [
            "prometheus", f"--config.file={file}", f"--storage.tsdb.path={directory / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ]  # fmt: skip
        child = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + 30
            while not found.ready():
                assert child.poll() is None, (directory / "prometheus.log").read_text()
                assert time.monotonic() < deadline, "Prometheus does not start"
                time.sleep(0.1)
            yield found
        finally:
            child.terminate()
            child.wait(30)
