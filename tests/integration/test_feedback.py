"""A real daemon with keys: what clients say of its answers becomes a labelled probe, and goes."""

from __future__ import annotations

import json
from contextlib import ExitStack

import httpx2
import openai
import pytest

from serve.state import owner_of
from tests.integration.daemon import LIGHT, MODEL, Daemon, wait_until
from ttrl.evaluation.probes import ProbeOrigin

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

ASKED = [{"role": "user", "content": "What is 417 plus 286?"}]


def test_corrections_of_two_keys_become_a_probe_until_one_is_purged(tmp_path):
    settings = (f"gateway.keys={tmp_path}/keys.yaml", "feedback.enabled=true")
    daemon = Daemon(tmp_path / "state", *settings, start=False, environ=LIGHT)
    keys = [json.loads(daemon.ttrl("keys", "add", who, "--json"))["key"] for who in ("one", "two")]
    with daemon, ExitStack() as stack:
        daemon.start()
        base = f"{daemon.url}/v1"
        one, two = (
            stack.enter_context(openai.OpenAI(base_url=base, api_key=key, max_retries=0))
            for key in keys
        )

        def chat(client: openai.OpenAI) -> str:
            return client.chat.completions.create(model=MODEL, messages=ASKED).id

        def stream(client: openai.OpenAI) -> str:
            pieces = client.chat.completions.create(model=MODEL, messages=ASKED, stream=True)
            (answer,) = {piece.id for piece in pieces}
            return answer

        def say(client: openai.OpenAI, **body: object) -> str:
            said = client.post("/feedback", body=body, cast_to=dict[str, str])
            return said["status"]

        answer = chat(one)
        assert say(one, id=answer, thumb="up") == "new"
        assert say(one, id=answer, thumb="up") == "unchanged"
        assert say(one, id=answer, thumb="down", correction="It is 703.") == "replaced"
        with pytest.raises(openai.NotFoundError, match="no answer with this id"):
            say(two, id=answer, thumb="up")
        with pytest.raises(openai.UnprocessableEntityError, match="'thumb' must be"):
            say(one, id=answer, thumb="left")
        with daemon.store() as store:
            wait_until(lambda: store.feedback.counts() == {"waiting": 1}, "it was looked at")
            assert say(two, id=stream(two), correction="703") == "new"
            (probe,) = wait_until(store.probes.labelled, "it is a probe")
            assert (probe.accepted, probe.origin) == (("703",), ProbeOrigin.FEEDBACK)
            assert "score 0%" in daemon.ttrl("status")
            admin = owner_of(daemon.state_dir).admin
            counted = 'ttrl_feedback_total{kind="thumb",outcome="new"} 1.0'
            assert counted in httpx2.get(f"{admin}/metrics", trust_env=False).text
            daemon.ttrl("questions", "purge", "--key", "two", "--yes")
            assert store.probes.labelled() == []
            assert store.feedback.counts() == {}
        with pytest.raises(openai.NotFoundError):
            say(one, id=answer, thumb="up")
        assert "It is" not in daemon.log
