"""A backup that was taken from a working daemon brings back what it served."""

from __future__ import annotations

import json
import os
import shlex
import threading

import openai
import pytest

from tests.integration.daemon import LIGHT, Daemon, publish_random, wait_until
from tests.integration.light import weights
from ttrl.backup import contents

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]

PROMPT = "What is 417 plus 286?"


def bad(daemon, code):
    """What `ttrl doctor` finds that is a warning or worse, but for the test's own directory."""
    findings = json.loads(daemon.ttrl("doctor", "--json", code=code))
    return {
        each["check"]: each
        for each in findings
        if each["outcome"] in ("warning", "broken") and each["check"] != "state directory"
    }


@pytest.mark.fault(
    "the store is lost while the daemon serves, and a backup is there",
    sees="nothing while backups are made; after the restore the same answers by the same version",
    keeps="questions and versions as of the backup",
)
def test_a_daemon_is_restored_from_a_backup_made_under_traffic(tmp_path):
    backup = tmp_path / "backup.tar"
    sources = weights(tmp_path)
    with Daemon(tmp_path / "state", start=False, environ=LIGHT) as daemon:
        (first,) = publish_random(daemon.state_dir, sources[:1])
        daemon.start()
        daemon.wait_live(first)
        expected = daemon.ask(PROMPT)
        assert expected[1] == first
        done, answered, failures = threading.Event(), [], []

        def keep_asking():
            while not done.is_set():
                try:
                    answered.append(daemon.ask(f"What is {len(answered)} plus 286?"))
                except openai.OpenAIError as error:
                    failures.append(error)

        asker = threading.Thread(target=keep_asking)
        asker.start()
        try:
            wait_until(lambda: len(answered) > 5, "traffic flows")
            with daemon.store() as store:
                wait_until(lambda: store.questions.times_asked() > 1, "it is recorded")
            said = json.loads(daemon.ttrl("backup", str(backup), "--json"))
            (later,) = publish_random(daemon.state_dir, sources[1:], first=2)
            daemon.wait_live(later)
            assert bad(daemon, code=0) == {}
        finally:
            done.set()
            asker.join(30)
        assert failures == []
        assert (said["versions"], said["left_out"]) == (1, {})

        daemon.kill()
        with (daemon.state_dir / "store.sqlite").open("r+b") as file:
            file.seek(4096)
            file.write(os.urandom(64 * 1024))
        found = bad(daemon, code=1)["store"]
        command = next(part for part in found["mend"].split("`") if part.startswith("ttrl restore"))
        assert str(backup) in command
        daemon.ttrl(*shlex.split(command)[1:])

        daemon.start()
        daemon.wait_live(first)
        assert daemon.ask(PROMPT) == expected
        with daemon.store() as store:
            asked = {row.question.text for row in store.questions.page(1000)}
            assert {PROMPT, "What is 0 plus 286?"} <= asked
            assert [row.name for row in store.adapters.all()] == [first]
        assert daemon.metric("ttrl_live_adapter_is_wanted") == 1
        assert bad(daemon, code=0) == {}
        (aside,) = daemon.state_dir.glob("replaced-*")
        assert (aside / "adapters" / later).is_dir()
        assert contents(backup).versions == 1
