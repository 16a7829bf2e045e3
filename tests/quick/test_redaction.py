"""What is taken out of questions before they are stored, and what must stay in them."""

from __future__ import annotations

import asyncio

import pytest

from serve.gateway.recorder import Recorder
from tests.house import Tally
from tests.recording import until, writing
from ttrl.config.loading import ConfigError, load
from ttrl.config.serving import ENTITIES, PATTERNS
from ttrl.questions.question import Unlearnable, from_prompt, from_request
from ttrl.redaction import RedactionFailed, Redactor

# spaCy and its model take their time to be loaded.
pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def redactor():
    with Redactor(PATTERNS) as found:
        yield found


TOLD = {
    "Write to jane.doe+x@example.co.uk, or jörg@müller.de!": "Write to <EMAIL_ADDRESS>, or "
    "<EMAIL_ADDRESS>!",
    "mein chef ist max@intern.corp": "mein chef ist <EMAIL_ADDRESS>",
    "bob@intern, root@db-server-01 and zoë@localhost": "<EMAIL_ADDRESS>, <EMAIL_ADDRESS> and "
    "<EMAIL_ADDRESS>",
    "邮箱 li@example.cn。": "邮箱 <EMAIL_ADDRESS>。",
    "+49 151 23456789, 0151 23456789": "<PHONE_NUMBER>, <PHONE_NUMBER>",
    "(212) 555-0123 or 212-555-0123": "<PHONE_NUMBER> or <PHONE_NUMBER>",
    "Rufen Sie 030/901820 an, ou appelez le 06 12 34 56 78": "Rufen Sie <PHONE_NUMBER> an, ou "
    "appelez le <PHONE_NUMBER>",
    "phone (212) 555-0123 8+9?": "phone <PHONE_NUMBER> 8+9?",
    "我的电话是13812345678": "我的电话是<PHONE_NUMBER>",
    "call me at 2125550123": "call me at <PHONE_NUMBER>",
    "IBAN DE89 3704 0044 0532 0130 00, GB29NWBK60161331926819": "IBAN <IBAN_CODE>, <IBAN_CODE>",
    "card 4111 1111 1111 1111 or 5500005555555559": "card <CREDIT_CARD> or <CREDIT_CARD>",
    "from 192.168.17.4 and 2001:db8::8a2e:370:7334": "from <IP_ADDRESS> and <IP_ADDRESS>",
    "ssn 536-22-1234": "ssn <US_SSN>",
    "00:1B:44:11:3A:B7": "<MAC_ADDRESS>",
    "1BoatSLRHtKNngkdXEeobR76b53LETtpyT": "<CRYPTO>",
    # Known costs: what looks like an address or a number of somebody's is taken for one.
    "10.0.0.1/8 has how many hosts?": "<IP_ADDRESS> has how many hosts?",
    "What is 212 555 0123 - 4?": "What is <PHONE_NUMBER> - 4?",
    "030/901820 8+1?": "<PHONE_NUMBER>+1?",
    "Divide 4111111111111111 by 3": "Divide <CREDIT_CARD> by 3",
}

KEPT = [
    "What is 417 plus 286?",
    "In 1984 and 2026, what is 3.14159 times 1,234,567.89?",
    "A price of $1,299.99 or 12345678, and 1.299,99 €",
    "Compute 123456789 + 987654321, and 2125550123 + 4",
    "x = 1234567890123456; 2^31 - 1 = 2147483647",
    "299792458 m/s; 6.02214076e23; 1,412,000,000 people in 2021",
    "What comes next: 1, 1, 2, 3, 5, 8, 13, 21, 34? And 600 700 800? 2 4 8 16 32 64 128 256",
    "7*8*9 = 504; 2023-2024 = -1; 100-200-300; [[123,456,7890],[11,22,33]]",
    "2024-05-06 at 10:30, 12/11/2023",
    "numpy: C = A @ B, x1@w2 and XY@ZW; @property",
    "Solve 3x+5=20 with f(x) = x.is.it; \\boxed{42} <b>a@b</b> @home",
    "Who was Napoleon, and where is Paris?",
    "",
    "😀 \N{ZERO WIDTH JOINER} \ud800",
]


@pytest.mark.parametrize(("text", "stored"), TOLD.items())
def test_what_tells_who_somebody_is(redactor, text, stored):
    assert redactor.texts([text]) == [stored]
    assert redactor.texts([stored]) == [stored], "once is enough"


@pytest.mark.parametrize("text", KEPT)
def test_what_is_asked_stays(redactor, text):
    assert redactor.texts([text]) == [text]


def test_every_text_of_a_request(redactor):
    mail = "a@example.org"
    asked = {
        "messages": [
            {"role": "system", "content": f"For {mail}.", "name": mail},
            {"role": "user", "content": [{"type": "text", "text": each} for each in (mail, "b")]},
        ],
        "documents": [{"title": mail, "role": mail}],
        "tools": [{"type": "function", "function": {"name": "f", "description": mail, mail: 1}}],
        "tool_choice": "auto",
        "chat_template": "{{ 'a@example.org' }}",
        "stop": [mail, "###"],
        "temperature": 0.5,
    }  # fmt: skip
    question = from_request(asked, max_chars=1000)
    found = redactor.question(question)
    gone = "<EMAIL_ADDRESS>"
    assert found.body == {
        "messages": [
            {"role": "system", "content": f"For {gone}.", "name": gone},
            {"role": "user", "content": [{"type": "text", "text": each} for each in (gone, "b")]},
        ],
        "documents": [{"title": gone, "role": gone}],
        "tools": [{"type": "function", "function": {"name": "f", "description": gone, gone: 1}}],
        "tool_choice": "auto",
        "chat_template": asked["chat_template"],  # a program is no text
    }  # fmt: skip
    assert found.sampling == {"temperature": 0.5, "stop": [gone, "###"]}
    assert found.hash != question.hash
    assert found == redactor.question(found)
    assert redactor.question(from_prompt("What is 2 + 2?")) == from_prompt("What is 2 + 2?")


def test_names_are_the_models_business(tmp_path):
    import spacy  # late: it loads torch

    pipeline = spacy.blank("en")
    pipeline.add_pipe("entity_ruler").add_patterns([{"label": "PERSON", "pattern": "Ada Lovelace"}])
    pipeline.to_disk(tmp_path / "model")
    with Redactor((*PATTERNS, "PERSON"), str(tmp_path / "model")) as redactor:
        assert redactor.texts(["I am Ada Lovelace, a@b.org"]) == ["I am <PERSON>, <EMAIL_ADDRESS>"]


def test_a_model_that_is_none_is_said_at_once():
    with Redactor(PATTERNS, "no-such-model") as redactor, pytest.raises(RedactionFailed) as failed:
        redactor.texts([])
    assert "no-such-model" in str(failed.value)


def test_what_takes_too_long_fails_and_the_next_text_has_a_process_again():
    long = "1 2 3 4 5 6 7 8 9 10 " * 45_000
    assert len(long) < 1_000_000, "spaCy refuses what is longer at once"
    with Redactor(PATTERNS, seconds=2) as redactor:
        assert redactor.texts(["2 + 2"]) == ["2 + 2"]
        worker = redactor.worker.process
        with pytest.raises(RedactionFailed):
            redactor.texts([long])
        assert worker.returncode is not None, "it ended"
        assert redactor.texts(["2 + 2"]) == ["2 + 2"]


@pytest.mark.fault(
    "a client sends questions that take long to redact",
    sees="nothing",
    keeps="what others ask; for a while nothing of that client's that is nearly as long",
)
@pytest.mark.parametrize("fails", [True, False])
def test_a_client_whose_questions_take_long_to_redact_rests(fails):
    """Without keys everybody is one client: short questions go on."""
    long, half, short = "l" * 30_000, "h" * 20_000, "s" * 10_000
    now, asked, tally = [0.0], [], Tally()

    def redact(question):
        asked.append(question.text)
        if question.text in (long, half):
            now[0] += 5.0
            if fails:
                raise RedactionFailed("a text could not be redacted")
        return question

    async def scenario():
        recorder = Recorder(
            list, interval=0, metrics=tally.metrics, redact=redact, clock=lambda: now[0]
        )
        async with writing(recorder):
            for who, text, after in [
                ("a", long, 0.0), ("a", half, 0.0), ("a", short, 0.0), ("b", half, 0.0),
                (None, long, 0.0), (None, long, 0.0), (None, short, 0.0), (None, long, 61.0),
            ]:  # fmt: skip
                now[0] += after
                recorder.offer(from_prompt(text), who)
                await until(lambda: not recorder.pending)

    asyncio.run(scenario())
    assert asked == [long, short, half, long, short, long]
    assert tally.skips == {Unlearnable.NOT_REDACTED: 2 + 4 * fails}


@pytest.mark.fault(
    "questions cannot be redacted, and are to be",
    sees="nothing",
    keeps="none of these questions: what cannot be redacted is not stored",
)
def test_what_cannot_be_redacted_is_dropped_and_counted(caplog):

    written, tally = [], Tally()

    def redact(question):
        if "bad" in question.text:
            raise RedactionFailed("a text could not be redacted")
        return from_prompt("redacted")

    async def scenario():
        recorder = Recorder(written.extend, interval=0, metrics=tally.metrics, redact=redact)
        async with writing(recorder):
            for text in ("good", "bad 1", "bad 2", "good"):
                recorder.offer(from_prompt(text))
            await until(lambda: not recorder.pending)

    asyncio.run(scenario())
    assert [item.question.text for item in written] == ["redacted"] * 2
    assert tally.skips[Unlearnable.NOT_REDACTED] == 2
    assert "bad" not in caplog.text
    assert "dropping" in caplog.text


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({}, ()),
        ({"redact": True}, PATTERNS),
        ({"redact": ["URL"]}, ("URL",)),
        ({"redact": True, "redact_model": "m"}, (*PATTERNS, "PERSON")),
        ({"redact": False, "redact_model": "m"}, ()),
    ],
)
def test_what_is_redacted_is_one_line_of_the_configuration(settings, found):
    given = {f"record.{name}": value for name, value in settings.items()}
    assert load(None, environ={}, overrides=given).config.record.entities == found


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["EMAIL"], "unknown entities EMAIL; known: EMAIL_ADDRESS"),
        (["PERSON"], "PERSON can only be found by a model"),
    ],
)
def test_what_cannot_be_redacted_is_refused(given, said):
    with pytest.raises(ConfigError, match=said):
        load(None, environ={}, overrides={"record.redact": given})


def test_without_the_extra_it_is_refused_with_what_to_install(monkeypatch):
    monkeypatch.setattr("ttrl.config.serving.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install 'presidio-analyzer>="):
        load(None, environ={}, overrides={"record.redact": True})
    assert ENTITIES
