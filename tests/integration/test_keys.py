"""A daemon that asks for keys, without a page: who is answered, and what the operator still can."""

from __future__ import annotations

import json

import httpx2
import pytest

from serve.state import owner_of
from tests.integration.daemon import LIGHT, MODEL, Daemon, wait_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]


def test_keys_come_and_go_while_it_runs(tmp_path):
    settings = (f"gateway.keys={tmp_path}/keys.yaml", "admin.port=null")
    daemon = Daemon(tmp_path / "state", *settings, start=False, environ=LIGHT)
    shy, other = (
        json.loads(daemon.ttrl("keys", "add", name, *more, "--json"))["key"]
        for name, more in (("shy", ["--no-learn"]), ("other", []))
    )

    def ask(key, path="/v1/chat/completions", url=None):
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        body = {"model": MODEL, "max_tokens": 1, "messages": [{"role": "user", "content": "1+1?"}]}
        chat = path.endswith("completions")
        return httpx2.request(
            "POST" if chat else "GET",
            f"{url or daemon.url}{path}",
            json=body if chat else None,
            headers=headers,
            trust_env=False,
            timeout=60,
        ).status_code

    with daemon:
        daemon.start()
        assert [ask(key) for key in (shy, other, None, "wrong")] == [200, 200, 401, 401]
        admin = owner_of(daemon.state_dir).admin
        assert [ask(key, "/metrics") for key in (None, other)] == [401, 200]
        assert [ask(None, path, admin) for path in ("/metrics", "/")] == [200, 404]
        assert daemon.status()["page"] is None
        assert daemon.status()["running"]
        with daemon.store() as store:
            wait_until(lambda: store.questions.times_asked() == 1, "only one is recorded")
        daemon.ttrl("keys", "remove", "other")
        wait_until(lambda: ask(other) == 401, "it is refused")
        assert ask(shy) == 200

        def seen() -> str:
            return httpx2.get(f"{admin}/metrics", trust_env=False).text

        twice = 'ttrl_questions_skipped_total{reason="key_opted_out"} 2.0'
        wait_until(lambda: twice in seen(), "both are counted")
        assert "ttrl_keys_file_ok 1.0" in seen()
        for key in (shy, other):
            assert key not in daemon.log
            assert key not in seen()
