"""Every command can speak to programs: one JSON value on standard output."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from serve.cli import COMMANDS, main
from tests.command import ttrl as command
from tests.versions import publish

IN_WORDS = {"serve": "runs until it is stopped", "runs report": "writes a page",
            "questions export": "writes JSON lines", "feedback export": "writes JSON lines",
            "config init": "writes YAML",
            "logs": "prints lines as they are"}  # fmt: skip
PROGRAM = shutil.which("true") or "/bin/true"
PROBE = {"prompt": "What is 2 + 2?", "answers": ["4"]}


def commands(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    if isinstance(command, click.Group):
        for word, each in command.commands.items():
            yield from commands(each, f"{name} {word}")
    else:
        yield name, command


def test_every_command_has_json():
    context = click.Context(main)
    found = [each for name in COMMANDS for each in commands(main.get_command(context, name), name)]
    lack = {name for name, command in found if not any("--json" in p.opts for p in command.params)}
    assert lack == IN_WORDS.keys()


@pytest.fixture
def ttrl(tmp_path, empty_store):
    shutil.copy(empty_store, tmp_path)

    def run(*words: str, code: int = 0) -> dict[str, object]:
        done = command(*words, "--json", "--state-dir", tmp_path, code=code)
        return json.loads(done.stdout)

    return run


def test_learning_is_paused_and_resumed(ttrl):
    assert (ttrl("pause"), ttrl("resume")) == ({"paused": True}, {"paused": False})


def test_probes_and_questions_come_and_go(ttrl, tmp_path):
    file = tmp_path / "file"
    file.write_text(json.dumps(PROBE))
    added = {"read": 1, "new": 1, "probes": 1, "clusters": 1, "like_probe": 0}
    assert ttrl("probes", "add", str(file)) == added
    assert ttrl("probes", "remove", "--all", "--yes") == {"forgotten": 1}
    file.write_text("\n".join(json.dumps({"prompt": f"What is {n}?"}) for n in range(3)))
    assert ttrl("questions", "import", str(file)) == {"read": 3, "new": 3}
    assert ttrl("questions", "delete", "1") == {"forgotten": 1}


def test_a_version_is_promoted_and_rolled_back(ttrl, tmp_path):
    (version,) = publish(tmp_path)
    assert ttrl("adapters", "rollback") == {"wanted": "base", "live": False}
    assert ttrl("adapters", "promote", version) == {"wanted": version, "live": False}
    there = tmp_path / "copy"
    copied = {"name": version, "directory": str(there)}
    assert ttrl("adapters", "export", version, str(there)) == copied
    assert f"# {version}" in (there / "README.md").read_text()


def test_the_configuration_is_good(ttrl):
    assert ttrl("config", "check") == {"good": True, "memory_plan": None}


def test_units_that_are_there_already_are_said_to_be(tmp_path):
    def install(*more: str) -> dict[str, dict[str, object]]:
        words = ["service", "install", "--json", "--directory", str(tmp_path)]
        return json.loads(CliRunner().invoke(main, [*words, "--ttrl", PROGRAM, *more]).stdout)

    unit = tmp_path / "ttrl.service"
    planned = install("--print")["units"]
    assert not unit.exists()
    assert install() == {"written": {str(unit): True}}
    assert install() == {"written": {str(unit): False}}
    assert planned == {str(unit): unit.read_text()}


def test_answers_are_shown_as_they_are_counted(ttrl, tmp_path):
    file = tmp_path / "samples"
    samples = ["17 x 23 = **391**", *["It is 391."] * 3, "**381**", "I don't know."]
    file.write_text(json.dumps({"question": "What is 17 * 23?", "samples": samples}))
    (row,) = ttrl("answers", str(file))
    assert (row["label"], row["outcome"]) == ("391", "label")
    assert row["answers"] == {"391": samples[:4], "381": samples[4:5]}
    assert row["unreadable"] == samples[5:]
    assert row["layers"] == ["bold", *["whole_text"] * 3, "bold", "declined"]


def test_further_phrases_are_read(ttrl, tmp_path):
    file, phrases = tmp_path / "samples", tmp_path / "phrases.yaml"
    samples = ["Matokeo ni 7 kwa sababu 2 + 5 na 9 ni kubwa.", "7"]
    file.write_text(json.dumps({"question": "2 + 5?", "samples": samples}))
    given = ("answers", str(file), "--set", f"vote.phrases={phrases}")
    assert ttrl(*given[:2])[0]["unreadable"] == samples[:1]
    phrases.write_text("nouns: [matokeo]\ncopulas: [ni]\nremarks: [kwa sababu]\n")
    assert ttrl(*given)[0]["answers"] == {"7": samples}


@pytest.mark.parametrize("text", ["verbs: [ni]", "nouns: 7", "- nouns", "nouns: [[[a]]]", "a: ["])
def test_phrases_of_another_form_are_refused(tmp_path, text):
    file, phrases = tmp_path / "samples", tmp_path / "phrases.yaml"
    file.write_text(json.dumps({"question": "2 + 5?", "samples": ["7"]}))
    phrases.write_text(text)
    asked = ["answers", str(file), "--set", f"vote.phrases={phrases}"]
    done = CliRunner().invoke(main, [*asked, "--state-dir", str(tmp_path)])
    assert done.exit_code == 1
    assert done.output.startswith(f"Error: {phrases}")
