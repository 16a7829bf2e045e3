"""What checks say of answers, and what that is worth in a vote."""

from __future__ import annotations

import json
import logging
import re
import sqlite3
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.services import needs
from ttrl import verifiers
from ttrl.answers import Reader
from ttrl.answers.layers import Layer
from ttrl.config import VerifyConfig
from ttrl.engine.samples import Finish, Sample
from ttrl.evaluation.estimates import Reliability, each_estimated
from ttrl.questions.question import Question, from_prompt, from_request
from ttrl.rewards import REWARDS, Ballot
from ttrl.verifiers import executed
from ttrl.votes import VoteOutcome, take_vote

R, W, N = Layer.VERIFIED, Layer.REFUTED, Layer.SENTENCE


@pytest.mark.parametrize(
    ("answers", "layers", "settings", "outcome", "label"),
    [
        ("55557", "NNNNN", {}, VoteOutcome.LABEL, "5"),
        ("55557", "NNNNR", {}, VoteOutcome.LABEL, "7"),  # one is enough, however few
        ("55577", "WWWNN", {}, VoteOutcome.LABEL, "7"),
        ("55577", "WWNNW", {}, VoteOutcome.TIE, None),
        ("55567", "WWWWN", {}, VoteOutcome.BELOW_FLOOR, None),
        ("5555-", "WWWW-", {}, VoteOutcome.REFUTED, None),
        ("-----", "-----", {}, VoteOutcome.UNREADABLE, None),
        ("5----", "R----", {}, VoteOutcome.LABEL, "5"),
        ("55", "RR", {"ceiling": 0.9}, VoteOutcome.ABOVE_CEILING, None),
        ("55557", "NNNNR", {"verified_weight": 9, "floor": None}, VoteOutcome.LABEL, "7"),
        ("55557", "NNNNR", {"verified_weight": 1, "floor": None}, VoteOutcome.LABEL, "5"),
        ("55557", "NNNNR", {"verified_weight": 4, "floor": None}, VoteOutcome.TIE, None),
    ],
)
def test_what_a_finding_is_worth(answers, layers, settings, outcome, label):
    named = {"R": R, "W": W, "N": N, "-": Layer.NOTHING_FOUND}
    vote = take_vote(
        [None if each == "-" else each for each in answers],
        layers=[named[each] for each in layers],
        **{"floor": 0.4, **settings},
    )
    assert (vote.outcome, vote.label) == (outcome, label)


def test_wrong_answers_are_worth_nothing_even_if_they_give_the_label():
    """As where a wrong step leads to what is right by chance."""
    vote = take_vote(["5", "5", "6"], layers=[R, W, N])
    samples = tuple(Sample(each, (1,), (0.0,), Finish.STOP) for each in ("5", "5", "6"))
    ballot = Ballot("?", samples, vote, 100)
    for name in ("majority", "soft_majority", "consensus", "centrality"):
        first, second, third = REWARDS[name](ballot)
        assert first > 0 == second, name
        assert third <= first


def verified(question, texts, checks, *, references=(), **settings):
    verifier = verifiers.Verifier(
        {f"check{n}": (re.compile(""), each) for n, each in enumerate(checks)}
    )
    reading = Reader().read(question.text, texts)
    return verifier.verified(reading, question, texts, references), verifier


def saying(*findings):
    return lambda question, answers, read: findings


@pytest.mark.parametrize(
    ("findings", "layers", "answers"),
    [
        ([(None, None, None)], "...", "1 2 3"),
        ([(True, None, False)], "R.W", "1 2 3"),
        ([(True, None, True)], "R.R", "1 2 1"),  # all that is right is one answer
        ([(True, None, None), (False, True, None)], "WR.", "1 2 3"),  # wrong outranks right
        ([("rows", "rows", None)], "CC.", "rows rows 3"),
        ([(True, 1, None)], "...", "1 2 3"),  # 1 is no finding
        ([(True, None)], "...", "1 2 3"),  # nor are two of three
    ],
)
def test_findings_of_several_checks(findings, layers, answers):
    texts = ["1", "2", "3"]
    before = Reader().read("How many?", texts)
    reading, _ = verified(from_prompt("How many?"), texts, [saying(*each) for each in findings])
    named = {"R": R, "W": W, "C": Layer.COMES_TO}
    assert list(reading.layers) == [
        named.get(mark, layer) for mark, layer in zip(layers, before.layers, strict=True)
    ]
    assert list(reading.answers) == answers.split()


def test_what_an_answer_comes_to_is_right_if_a_reference_comes_to_it():
    def lengths(question, answers, read):
        return [str(len(each)) for each in answers]

    asked = from_prompt("Write a word.")
    reading, _ = verified(asked, ["ab", "cd", "xyz"], [lengths], references=["xx"])
    assert reading.layers == (R, R, W)


def test_a_check_that_fails_says_nothing_and_is_named(caplog):
    def failing(question, answers, read):
        raise RuntimeError(answers[0])

    with caplog.at_level(logging.WARNING):
        reading, verifier = verified(
            from_prompt("How many?"), ["1", "2"], [failing, saying(True, 0 > 1)]
        )
    assert reading.layers == (R, W)
    assert "RuntimeError" in verifier.remark()
    assert "(2 answers)" in verifier.remark()
    assert len(caplog.messages) == 1


def test_thoughts_are_not_checked_and_what_was_cut_off_is_not_either():
    seen = []

    def watching(question, answers, read):
        seen.extend(answers)
        return [None] * len(answers)

    verified(from_prompt("How many?"), ["<think>2 + 2 = 5</think>4", "<think>so", " "], [watching])
    assert seen == ["4"]


# Arithmetic


@pytest.mark.parametrize(
    ("answer", "finding"),
    [
        ("2 + 2 = 5", False),
        ("2 + 2 = 4", None),
        ("First: 12 * 4 = 48. 48 - 8 = 41", False),
        ("Then:\n48 - 8 = 41.\nSo 41.", False),
        ("$17 \\times 23 = 381$", False),
        ("\\[ 12 \\times 4 = 46 \\] apples", False),
        ("\\(12 \\cdot 4 = 46\\)", False),
        ("17 × 23 = **391**", None),
        ("17 × 23 = **381**", False),
        ("2**3 = 8; 2^3 = 8", None),
        ("2^3 = 9", False),
        ("12 / 4 = 4", False),
        ("5 = 6", None),  # no sum
        # rounded
        ("10 / 3 = 3.33", None),
        ("7 / 2 = 3", None),
        ("1000 * 1.05^3 = 1157.63", None),
        ("26.2 * 1.60934 = 42", None),
        # a part of something else
        ("x + 3 = 5", None),
        ("3 + 4 = 2x", None),
        ("20% of 50 + 3 = 13", None),
        ("Das ist 20% von 50 + 3 = 13", None),
        ("half of 4 + 6 = 5", None),
        ("twice 3 + 1 = 7", None),
        ("\\frac12 + 3 = 3.5", None),
        ("√9 + 1 = 4", None),
        ("f(2) + 3 = 7", None),
        ("3乘以4 + 1 = 13", None),
        ("5 + 4 = 2 (mod 7)", None),
        ("(1, 2) + (3, 4) = (4, 6)", None),
        ("3! + 1 = 7, 3 + 3! = 9", None),
        ("As a list: 3, 4 + 5 = 9", None),
        # with units, which change
        ("30 + 30 = 1 hour", None),
        ("0.5 + 0.25 = 75 Prozent", None),
        ("12 * 2 = 2 dozen", None),
        ("25 + 75 = 100%", None),
        # signs that mean something else
        ("- 12 * 4 = 48", None),
        ("2. -3 + 5 = 2", None),
        ("Step 1 - 12 * 4 = 48", None),
        ("2 + 3 = 5 * 4 = 20", None),
        ("1990-2000 = 10", None),
        ("2024-12-25 - 2024-12-20 = 5", None),
        ("10:30 - 9:00 = 1:30", None),
        ("1.000 + 500 = 1.500", None),
        ("2,375 × 8 = 19", None),
        ("1,5 + 1,5 = 3", None),
        (".5 + .5 = 1", None),
        # asked or denied
        ("12 * 4 = 46? No, it is 48.", None),
        ("It is not true that 2 + 2 = 5", None),
        # too large
        ("9**9**9**9 = 1", None),
        ("9^9^9^9 = 1", None),
        ("(" * 90 + "1" + ")" * 90 + " + 1 = 3", None),
        ("1" * 50 + " + 1 = 2", None),
        ("1 / 0 = 0", None),
    ],
)
def test_sums_in_an_answer(answer, finding):
    assert verifiers.arithmetic(from_prompt("Solve it."), [answer], [None]) == [finding]


@pytest.mark.parametrize(
    ("question", "value", "finding"),
    [
        ("What is 417 plus 286?", "703", True),
        ("What is 417 plus 286?", "704", False),
        ("What is 417 plus 286?", "1-31", False),
        ("What is 417 plus 286?", "a few", None),
        ("What is 417 plus 286?", None, None),
        ("998 - 886 = ?", "112", True),
        ("Calculate 3 * (4 + 5).", "27", True),
        ("12 divided by 5", "12/5", True),
        ("12 divided by 5", "2", None),
        ("What is 3 + 4 in base 5?", "12", None),
        ("I have 2 + 3 apples and eat one. How many are left?", "4", None),
        ("What is 5?", "6", None),
        ("When was the war of 1914-1918?", "4", None),
        ("Call 555-1234.", "-679", None),
        ("What is 7-11?", "-4", None),
    ],
)
def test_questions_that_are_sums(question, value, finding):
    assert verifiers.arithmetic(from_prompt(question), [f"It is {value}"], [value]) == [finding]


def test_a_sum_is_judged_by_what_was_said_before_if_at_all():
    """As where somebody works modulo 7."""
    said = [{"role": "system", "content": "We work modulo 7."}]
    asked = {"messages": [*said, {"role": "user", "content": "What is 5 + 4?"}]}
    question = from_request(asked, max_chars=1000)
    assert isinstance(question, Question)
    assert verifiers.arithmetic(question, ["2"], ["2"]) == [None]
    assert verifiers.arithmetic(from_prompt("What is 5 + 4?"), ["5 + 4 = 8. So 9"], ["9"]) == [
        False
    ]


# Citations

PASSAGE = 'Passage: "The quick brown fox jumps over the lazy dog," wrote the clerk in 1888.'


@pytest.mark.parametrize(
    ("answer", "finding"),
    [
        ('It says: "The quick brown fox jumps."', None),
        ('It says: "the quick  brown FOX jumps"', None),
        ("It says: “The quick brown fox ... the lazy dog”.", None),
        ("It says: “The quick brown cat jumps”.", False),
        ("> The quick brown fox sleeps over it", False),
        ("> The quick brown fox", None),
        ('A "fox" is a "canine"', None),
        ("„Der schnelle braune Fuchs springt“", False),
        ("「彼は毎日学校に行きます」", False),
        ("No quotation.", None),
        ("Er schrieb »The quick brown fox jumps« und »over the lazy dog«.", None),
        ('```python\nprint("Hello to all of you today")\n```', None),
    ],
)
def test_what_is_quoted_stands_in_the_conversation(answer, finding):
    assert verifiers.citation(from_prompt(PASSAGE), [answer], [None]) == [finding]


# JSON

SCHEMA = {
    "type": "object",
    "properties": {"age": {"type": "integer"}},
    "required": ["age"],
}


@pytest.mark.parametrize(
    ("answer", "fits"),
    [
        ('{"age": 3}', True),
        ('```json\n{"age": 3}\n```', True),
        ('{"age": "3"}', False),
        ("{}", False),
        ("The age is 3.", False),
        ("[" * 20_000, False),
    ],
)
def test_the_form_of_json(answer, fits, tmp_path):
    asked = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}
    (tmp_path / "schema.json").write_text(json.dumps(SCHEMA))
    message = [{"role": "user", "content": "How old?"}]
    question = from_request({"messages": message, "response_format": asked}, max_chars=1000)
    assert isinstance(question, Question)
    finding = [None if fits else False]
    assert executed.json_schema(None, 20)(question, [answer], [None]) == finding
    fixed = executed.json_schema(tmp_path / "schema.json", 20)
    assert fixed(from_prompt("How old?"), [answer], [None]) == finding
    assert executed.json_schema(None, 20)(from_prompt("How old?"), [answer], [None]) == [None]


@pytest.mark.parametrize(
    ("schema", "error"),
    [
        ({"$ref": "http://127.0.0.1:1/schema.json"}, RuntimeError),
        (
            {"$defs": {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(60)}}
            | {"$ref": "#/$defs/d0"},
            (TimeoutError, RuntimeError),
        ),
    ],
)
def test_a_schema_of_a_clients_fetches_nothing_and_takes_no_longer(schema, error):
    schema.get("$defs", {})["d60"] = {"type": "object"}
    asked = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    question = Question({"messages": [], "response_format": asked}, "")
    with pytest.raises(error):
        executed.json_schema(None, 1)(question, ["{}"], [None])


def test_a_schema_that_is_none_is_said_so(tmp_path):
    (tmp_path / "schema.json").write_text("{")
    with pytest.raises(executed.CheckUnusable, match=r"schema\.json cannot be read"):
        executed.json_schema(tmp_path / "schema.json", 1)


# SQL


@pytest.fixture
def database(tmp_path):
    path = tmp_path / "shop.db"
    with sqlite3.connect(path) as connection:
        connection.executescript(
            "create table items (name text, price int);"
            "insert into items values ('pen', 2), ('book', 9), ('lamp', 30);"
        )
    connection.close()
    return path


def test_queries_come_to_their_rows_and_write_nothing(database):
    check = executed.sql(database, seconds=1)
    same = [
        "```sql\nSELECT name, 10 / 5 FROM items WHERE price > 5;\n```",
        "SELECT name, 2 FROM items WHERE price >= 9 ORDER BY name DESC;\n\nIt lists what is dear.",
        "```\n-- dear\nwith dear as (select * from items where price > 8)"
        " select name, 10 / 5.0 from dear\n```",
    ]
    wrong = [
        "SELECT nam FROM items",
        "SELECT name FROM items; DROP TABLE items",
        "select load_extension('/lib/x.so')",
        "with recursive n(i) as (select 1 union all select i + 1 from n) select sum(i) from n",
        "select hex(zeroblob(1000000000))",
        "select 1 from pragma_table_info('items')",
    ]
    silent = [
        "I do not know.",
        "```sql\nDROP TABLE items\n```",
        "With two pens you write twice as much.",
        "SELECT name FROM items WHERE price > 99",
    ]
    marked = [f"```sql\n{query}\n```" for query in wrong]
    answers = [*same, "SELECT count(*) FROM items", *marked, *silent]
    found = check(from_prompt("What is dear?"), answers, [None] * len(answers))
    assert len(set(found[:3])) == 1
    assert isinstance(found[0], str)
    assert isinstance(found[3], str)
    assert found[3] != found[0]
    assert found[4:] == [False] * len(wrong) + [None] * len(silent)
    with sqlite3.connect(database) as connection:
        assert connection.execute("select count(*) from items").fetchone() == (3,)
    connection.close()


def test_a_database_that_is_none_is_said_so(tmp_path):
    (tmp_path / "no.db").write_text("no database")
    for name in ("no.db", "gone#.db"):
        with pytest.raises(executed.CheckUnusable, match=f"{name} is no SQLite database"):
            executed.sql(tmp_path / name, seconds=1)
    assert [each.name for each in tmp_path.iterdir()] == ["no.db"]


# Python

TASK = "Write a function add(a, b). It must pass:\nassert add(1, 2) == 3\nassert add(-1, 1) == 0"


def sandboxed(seconds):
    try:
        return executed.code(seconds)
    except executed.SandboxMissing as error:  # as in a container that allows no namespaces
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def code():
    return sandboxed(seconds=30)


@needs("bubblewrap")
@pytest.mark.parametrize(
    ("answer", "finding"),
    [
        ("```python\ndef add(a, b):\n    return a + b\n```\nTry:\n```python\nadd(1, x)\n```", True),
        ("def add(a, b):\n    return a + b", True),
        ("```python\ndef add(a, b):\n    return a - b\n```", False),
        ("```python\nimport os\ndef add(a, b):\n    return 3\nos._exit(0)\n```", False),
        ("```python\nraise SystemExit\ndef add(a, b): ...\n```", False),
        ("```python\nimport socket\ndef add(a, b):\n"
         "    socket.create_connection(('127.0.0.1', 22), 1)\n    return a + b\n```", False),
        ("```python\ndef add(a, b):\n    open('/etc/passwd').read()\n    return a + b\n```", False),
        ("```python\ndef add(a, b):\n    'x' * (1 << 32)\n    return a + b\n```", False),
        ("```python\ndef add(a, b):\n    print('x' * 1000)\n    return a + b\n```", True),
        ("```python\ndef add(a, b:\n```", False),
        ("I cannot write it.", None),
        ("```python\ndef plus(a, b):\n    return a + b\n```", None),
        ("```python\nimport numpy\ndef add(a, b):\n    return a + b\n```", None),
        ("1. So:\n   ```python\n   def add(a, b):\n       return a + b\n   ```", True),
        ("```python\nfrom __future__ import annotations\nfrom dataclasses import dataclass\n"
         "@dataclass\nclass A:\n    a: int\ndef add(a, b):\n    return a + b\n```", True),
        ("```python\nimport os\ndef add(a, b):\n    while True: os.write(3, b'x' * 10**6)\n```",
         False),
    ],
)  # fmt: skip
def test_code_is_run_with_the_questions_assertions(code, answer, finding):
    assert code(from_prompt(TASK), [answer], [None]) == [finding]
    assert code(from_prompt("Write add."), [answer], [None]) == [None]


@needs("bubblewrap")
def test_code_that_does_not_end_is_ended():
    check = sandboxed(seconds=1)
    answer = "```python\nimport os\nfor _ in range(9): os.fork()\nwhile True: pass\n```"
    assert check(from_prompt(TASK), [answer], [None]) == [False]


# Hostile texts


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "text",
    ["“", '"', "1", "1+", "= ", "**", "```", "```\n", "> a b c d\n", "1=", "(", "assert 1\n",
     "\\times", "1. ", "; 1 = 1", "»", "**1", "-- x\n"],
)  # fmt: skip
def test_texts_three_times_as_long_as_any_take_seconds_at_most(text):
    """With 100,000 characters a square of their number would be minutes."""
    many = text * (100_000 // len(text)) + "x"
    for check in (verifiers.arithmetic, verifiers.citation):
        check(from_prompt(many), [many], [None])
    executed._of_answer(many, lambda query: None)
    executed._program_in(many)
    executed._assertions(many)


# The settings


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"checks": {"arithmetics": ""}}, "did you mean 'arithmetic'"),
        ({"checks": {"sql": ""}}, "verify.database"),
        ({"checks": {"arithmetic": "("}}, "verify.checks has '\\('"),
        ({"checks": {"arithmetic": ""}, "weight": 0}, "greater than"),
    ],
)
def test_settings_that_cannot_be(settings, says):
    with pytest.raises(ValueError, match=says):
        VerifyConfig(**settings)


def even(question, answer):
    return len(answer) % 2 == 0


def test_a_function_of_ones_own_on_questions_that_match():
    made = verifiers.load(VerifyConfig(checks={f"{__name__}:even": "(?i)word"}))
    for asked, layer in (("A word?", R), ("A name?", None)):
        texts = ["ab", "abcd"]
        reading = made.verified(Reader().read(asked, texts), from_prompt(asked), texts)
        assert (reading.layers[0] is R) == (layer is R)


def test_the_configuration_knows_the_built_in_ones(database):
    for name in ("arithmetic", "citation", "json_schema", "sql"):
        verifiers.load(VerifyConfig(checks={name: ""}, database=database))
    with pytest.raises(verifiers.plugins.PluginUnknown, match="the check nowhere:f"):
        verifiers.load(VerifyConfig(checks={"nowhere:f": ""}))


class Service(BaseHTTPRequestHandler):
    """Finds answers of an odd length right."""

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert [each["content"] for each in asked["messages"]] == ["How many?"]
        findings = {"findings": [len(each) % 2 == 1 for each in asked["answers"]]}
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(findings).encode())

    def log_message(self, *_):
        pass


def test_a_service_is_asked_and_one_that_is_away_says_nothing():
    texts = ["1", "12"]
    with ThreadingHTTPServer(("127.0.0.1", 0), Service) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        made = verifiers.load(VerifyConfig(checks={f"http://127.0.0.1:{server.server_port}": ""}))
        asked = Reader().read("How many?", texts), from_prompt("How many?"), texts
        assert made.verified(*asked).layers == (R, W)
        server.shutdown()
    assert made.verified(*asked) == asked[0]
    assert "ConnectError" in made.remark()


# How often they are right


@pytest.mark.parametrize(
    ("agreeing", "misleading"),
    [
        ([0.0] * 8, True),
        ([0.0] * 2, False),  # so few may be chance
        ([0.4] * 40, True),
        ([0.0, 1.0] * 20, False),
        ([1.0] * 40, False),
        ([], False),
    ],
)
def test_a_check_misleads_where_labels_show_it_to_be_wrong_more_often(agreeing, misleading):
    found = Reliability(each_estimated({"check": agreeing}))
    assert found.misleading == ({"check"} if misleading else set())
    left = verifiers.load(VerifyConfig(checks={"arithmetic": ""}), without=found.misleading)
    assert left.checks.keys() == {"arithmetic"}
    assert not verifiers.load(VerifyConfig(checks={"arithmetic": ""}), {"arithmetic"}).checks
