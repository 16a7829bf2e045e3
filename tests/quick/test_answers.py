"""What is read from an answer, and which answers are one."""

import os
import random
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.quick.hard_pairs import DIFFERENT, EQUAL
from ttrl.answers import AnswerKind, Reader
from ttrl.answers.comparing import Judge, judge, keys
from ttrl.answers.forms import MAX_CHARS as MAX_ANSWER_CHARS

MATH, CHOICE, TEXT = AnswerKind.MATH, AnswerKind.CHOICE, AnswerKind.TEXT

TOWERS = ("9^{9^{9^{9}}}", "9^{9^{9^{8}}}")
"""Two numbers that nobody can write out, and sympy would try."""


SAID = "It is on our website, below the downloads for your machine."


def read(texts, kind, question=""):
    return list(Reader(kind).read(question, texts).answers)


def matches(text, accepted, kind):
    return Reader().matches(text, accepted, "", kind)


def same(left, right, kind):
    one, other = keys([left, right], kind)
    return one is not None and one == other


def boxed(answer: str) -> str:
    return rf"So the answer is \boxed{{{answer}}}."


@pytest.fixture(autouse=True, scope="module")
def _closed_judge():
    yield
    judge.close()


@pytest.mark.parametrize(("left", "right"), EQUAL)
def test_equal_answers_have_one_canonical_form(left, right):
    one, other = keys([left, right], MATH)
    assert one == other
    assert one


@pytest.mark.parametrize(("left", "right"), DIFFERENT)
def test_different_answers_have_two(left, right):
    one, other = keys([left, right], MATH)
    assert one
    assert other
    assert one != other


def test_a_canonical_form_is_its_own():
    forms = [keys(pair, MATH) for pair in EQUAL + DIFFERENT]
    assert [keys(pair, MATH) for pair in forms] == forms


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"\boxed{5}", "5"),
        (r"first \boxed{3}, then \boxed{4}.", "4"),
        (r"\boxed{\frac{1}{\sqrt{2}}} and \boxed{7", r"\frac{1}{\sqrt{2}}"),
        (r"\boxed{\boxed{5}}", "5"),
        (r"\fbox{\{1,2\}}", r"\{1,2\}"),
        (r"a stray } and { before \boxed{6}", "6"),
        (r"the answer is 4, so \boxed{5}", "5"),
        ("The answer is 5 because 2+3=5.", "5"),
        (r"the answer is $\frac{1}{2}$. I hope so", r"\frac{1}{2}"),
        (r"The final answer is: $\$18.90$.", r"\$18.90"),
        ("**Final Answer:** 42", "42"),
        ("Final answer:\n\n42", "42"),
        ("The answer is 3. No, the answer is 4.", "4"),
        ("#### 1,234", "1,234"),
        ("答案是5。", "5"),
        ("Die Antwort lautet 42.", "42"),
        ("the answers are 1 and 2.", "1 and 2"),
        ("2 + 3 makes\n51", "51"),
        ("x = 51", "x = 51"),
        ("we get 51 of them", "51"),
        ("17 and 4", "17 and 4"),
        (r"<think>\boxed{3}</think>\boxed{4}", "4"),
    ],
)
def test_read_mathematics(text, answer):
    assert matches(text, [answer], MATH)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n ",
        r"\boxed{}",
        r"\boxed{ }",
        r"\boxed{3} and then \boxed{}",
        r"\boxed{?}",
        r"\boxed{" + "1" * (MAX_ANSWER_CHARS + 1) + "}",
        "The answer is not clear.",
        "The answer isn't 5",
        "The answer is obvious from what was said above.",
        "answer",
        r"<think>perhaps \boxed{3}",
        "\\boxed{\ud800}",
    ],
)
def test_nothing_to_read(text):
    assert read([text], MATH) == [None]


def test_a_number_too_large_to_be_written_is_a_word():
    large = "The answer is 1e-999分之1e999分之1e-999分之1e999分之1e-999"
    assert len(set(read([large, "5"], MATH))) == 2


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("The correct answer is (B). This is a planet", "B"),
        ("The answer is a planet", None),
        ("The answer is A planet", None),
        ("The answer is A.", "A"),
        ("The answer is A because of a rule", "A"),
        ("A planet orbits a star.", None),
        ("I think that it is a good idea", None),
        ("b", "B"),
        ("(c)", "C"),
        ("B) Paris", "B"),
        ("A. red\nB. blue\nAnswer: B", "B"),
        ("A. red\nB. blue", None),
        ("A is wrong. B is right.", "B"),
        ("I choose option D", "D"),
        ("Option C is correct", "C"),
        ("**Answer: D**", "D"),
        (r"The answer is $\text{B}$.", "B"),
        ("答案：C", "C"),
        (r"\boxed{\text{(C)}}", "C"),
        (r"\boxed{C. Paris}", "C"),
        (r"\boxed{a}", "A"),
        (r"The answer is B. \boxed{42}", None),
        ("", None),
        ("I think it's (C).", "C"),
        ("So it must be D.", "D"),
        ("My guess is E", "E"),
        ("The answer is A, not B.", "A"),
        ("The answer is B, and C is wrong.", "B"),
        ("The answer is B, as A or C would be too big.", "B"),
        ("If not A, then B is correct.", "B"),
        ("The answer is below.\n\nB", "B"),
        ("选B", "B"),
        ("应选 A", "A"),
        ("正确答案是 D", "D"),
        ("答案不是A，而是B", "B"),
        ("Die richtige Antwort lautet C.", "C"),
        ("Richtig ist B.", "B"),
        ("Die Antwort ist nicht A, sondern B.", "B"),
        ("The wrong answer is B.", None),
        ("The incorrect answer is B", None),
        ("Die falsche Antwort lautet B", None),
        ("Neither A nor B is correct", None),
        ("Either A or B is correct", None),
        ("None of A is correct", None),
        ("It is false that B is correct", None),
        ("I doubt that B is right", None),
        ("Answer: (A) or (B)", None),
        ("Answer: A/B", None),
        ("Answer: A, B", "A, B"),
        ("The answer is A, B and C", "A, B, C"),
        ("The answer is (A) and (C)", "A, C"),
    ],
)
def test_read_choice(text, letter):
    assert read([text], CHOICE) == [letter]


def test_choices_are_equal_by_letter():
    assert same("B", r"\text{(b)}", CHOICE)
    assert not same("B", "C", CHOICE)


@pytest.mark.parametrize(
    ("left", "right", "equal"),
    [
        ("Paris", "paris.", True),
        ("The answer is Paris.", "**Paris**", True),
        ("1,000", "1000", True),
        ("Straße", "STRASSE", True),
        ("listen", "silent", False),
        ("Paris", "pairs", False),
        ("1,000", "(1,0)", False),
        ("1.5", "15", False),
        ("不是", "是", False),
        ("Zürich", "Zurich", True),
        ("zwölf", "12", True),
        ("十二", "12", True),
        ("4 March 2024", "March 4th, 2024", True),
        ("4 March 2024", "3 April 2024", False),
        ("Am 4. März", "4. März", True),
    ],
)
def test_text_answers(left, right, equal):
    one, other = read([left, right], TEXT)
    assert one
    assert other
    assert (one == other) is equal


@pytest.mark.parametrize(
    ("question", "answers", "kind"),
    [
        ("What is 2+3?", (), MATH),
        ("How many apples has Tom if he buys 3?", (), MATH),
        (r"Find $\sqrt{x}$.", (), MATH),
        ("What is the capital of France?", (), TEXT),
        ("Who won in 1999?", (), TEXT),
        ("What is two hundred plus three?", (), TEXT),
        ("What is two hundred plus three?", [boxed("203"), boxed("204"), "", ""], MATH),
        ("Which one? (A) x (B) y (C) z", (), CHOICE),
        ("Pick one:\nA. red\nB. blue", (), CHOICE),
        ("Pick one:\nA. 1\nB. 2", ["B", "(A)", "hm"], CHOICE),
        ("Pick one:\nA. 1\nB. 2", [boxed("1"), boxed("2"), "A"], CHOICE),
        ("Pick one:\nA. 1\nB. 2", [boxed("3"), boxed("4"), "A"], MATH),
        ("Plan A. B. is what?", (), TEXT),
        ("Where can I find the manual of the RX-200?", [SAID] * 3, AnswerKind.FREE),
        ("Where can I find the manual of the RX-200?", [SAID, "42", "The answer is 7."], MATH),
        ("Which train is at 10-12 o'clock?", [SAID] * 3, AnswerKind.FREE),
        ("What is 2+3?", ["I add two and three, which makes five.", boxed("5")], MATH),
        ("What is 417+286?", ["4 + 2 = 6 and 1 + 8 = 9 and 7 + 6 = 13 and then"] * 3, MATH),
        (r"Find $\sqrt{x}$.", [SAID] * 3, MATH),
    ],
)
def test_kind_of(question, answers, kind):
    assert Reader().read(question, answers).kind is kind


def test_units_count_only_where_they_differ():
    assert keys(["5 km", "5", "5 km"], MATH) == ["5", "5", "5"]
    assert len(set(keys(["5 km", "5", "5 cm"], MATH))) == 3


def test_a_percentage_is_read_as_the_others_say_it():
    assert keys(["50%", "50"], MATH) == ["50", "50"]
    assert keys(["50%", "0.5"], MATH) == ["1/2", "1/2"]
    assert keys(["50%", "0.5", "50"], MATH) == ["1/2", "1/2", "50"]


def test_matches_grades_a_sample_against_accepted_answers():
    assert matches(boxed(r"\frac12"), ["7", "0.5"], MATH)
    assert not matches(boxed("0.51"), ["7", "0.5"], MATH)
    assert not matches("no idea", ["7", "0.5"], MATH)
    assert not matches("", [""], MATH)


# The defects of the published code, as the notes on the method number them.


@pytest.mark.parametrize(
    "attack",
    [
        "__import__('os').mkdir('{path}')",
        "open('{path}','w')",
        "open('{path}','w').write('1') + 1",
        r"\text{{__import__('os').mkdir('{path}')}}",
        r"1 + __import__('os').mkdir('{path}')",
        r"\sqrt{{__import__('os').mkdir('{path}')}}",
        r"x = \sin(open('{path}','w'))",
    ],
)
def test_defect_1_model_text_is_never_evaluated(attack, tmp_path):
    path = tmp_path / "created"
    text = boxed(attack.format(path=path))
    read([text, boxed("x+1"), boxed("1+x")], MATH)
    judge.equal(attack.format(path=path), "x+1")
    assert not path.exists()


@pytest.mark.parametrize(
    "answer",
    [
        "025",
        "1,000",
        "Paris",
        "New York",
        "2024-05-01",
        "(0,1]",
        r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}",
        "y = 2x + 3",
        r"1 \pm \sqrt{19}",
    ],
)
def test_defect_2_an_answer_is_equal_to_itself_when_all_agree(answer):
    forms = read([boxed(answer)] * 4, MATH)
    assert len(set(forms)) == 1
    assert matches(boxed(answer), [answer], MATH)


def test_defect_2_a_date_is_not_its_year():
    assert not same("2024-05-01", "2024", MATH)


@pytest.mark.parametrize(("left", "right"), [("listen", "silent"), ("east", "seat")])
def test_defect_3_anagrams_are_different_words(left, right):
    assert not same(left, right, MATH)
    assert not same(rf"\text{{{left}}}", right, MATH)


def test_defect_4_any_thread_may_compare():
    found: list[bool] = []
    thread = threading.Thread(target=lambda: found.append(same(r"\sqrt{12}", r"2\sqrt{3}", MATH)))
    thread.start()
    thread.join()
    assert found == [True]


@pytest.mark.integration
def test_defect_4_what_takes_too_long_is_ended(monkeypatch):
    monkeypatch.setattr(judge, "worker", Judge(4).worker)
    judge.equal("1", "2")  # The worker has started.
    assert judge.equal(*TOWERS) is None
    forms = keys([*TOWERS, "9**9**9**9", "x+1", "1+x"], MATH)
    assert forms[0] != forms[1]
    assert forms[3] == forms[4]


def test_defect_5_single_letters_are_not_units():
    assert not same("a + b", "c + b", MATH)
    assert not same("x+t", "x", MATH)
    assert keys([r"\text{east}"], MATH) == ["east"]


def test_defect_5_an_unreadable_answer_is_none_and_never_the_empty_string():
    assert read(["", "hm", r"\boxed{}", r"\boxed{\text{ }}"], MATH) == [None] * 4
    assert read([r"\boxed{\cup}", r"\boxed{x=\text{}}"], MATH) == [None] * 2
    assert read([boxed("None")], MATH) == ["none"]


def test_the_judge_answers_many_threads_at_once():
    own = Judge()
    pairs = [(f"x+{n}", f"{n}+x") for n in range(16)]
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda pair: own.equal(*pair), pairs))
        assert not any(pool.map(lambda pair: own.equal(pair[0], pair[1] + "+1"), pairs))
    own.close()


def test_the_judge_survives_its_worker():
    own = Judge()
    assert own.equal("x+1", "1+x")
    own.worker.process.kill()
    assert own.equal("x+1", "1+x") is None
    assert own.equal("x+1", "1+x")
    own.close()


def test_numbers_and_words_start_no_process():
    script = (
        "import sys\n"
        "from ttrl.answers import AnswerKind, Reader\n"
        "texts = [r'\\boxed{1/2}', 'the answer is 0.5', r'\\boxed{east}']\n"
        "Reader(AnswerKind.MATH).read('', texts)\n"
        "from ttrl.answers.comparing import judge\n"
        "heavy = {'sympy', 'math_verify', 'latex2sympy2_extended', 'torch'} & sys.modules.keys()\n"
        "sys.exit(bool(heavy) or judge.worker.process is not None)\n"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_order_does_not_matter():
    answers = [answer for pair in EQUAL[:60] for answer in pair]
    forms = dict(zip(answers, keys(answers, MATH), strict=True))
    shuffled = random.Random(7).sample(answers, len(answers))
    assert keys(shuffled, MATH) == [forms[answer] for answer in shuffled]


PIECES = st.sampled_from(
    [
        *"0129xyzab+-*/^=<>()[]{}.,;:$%&_' \n",
        *[r"\frac", r"\sqrt", r"\text{", r"\boxed{", r"\{", r"\}", r"\pm", r"\cup", r"\\"],
        *[r"\begin{pmatrix}", r"\end{pmatrix}"],
        *["½", "²", "°", "million", " cm", "and", "the answer is ", "A. ", "(B)", "答案是"],
        *["</think>", "\ud800", "\x00"],
    ]
)


@given(st.lists(PIECES, max_size=40).map("".join) | st.text(), st.sampled_from(AnswerKind))
def test_any_text_is_read_or_not_but_never_fails(text, kind):
    (answer,) = read([text], kind)
    assert answer is None or (answer.strip() == answer and any(map(str.isalnum, answer)))
    assert answer is None or answer.encode()
    assert Reader().read(text, [text]).kind in AnswerKind


@given(st.lists(PIECES, max_size=12).map("".join))
def test_an_answer_is_the_same_as_itself(answer):
    (form,) = keys([answer], MATH)
    assert keys([answer, answer], MATH) == [form, form]


@given(st.fractions(max_denominator=10**6), st.fractions(max_denominator=10**6))
def test_plain_numbers_are_compared_exactly(left, right):
    written = rf"\frac{{{left.numerator}}}{{{left.denominator}}}"
    assert same(written, str(left), MATH)
    assert same(written, str(right), MATH) is (left == right)


@given(st.integers(-(10**12), 10**12))
def test_thousands_separators_change_nothing(number):
    assert same(f"{number:,}", str(number), MATH)
    assert same(f"${number:,}$", f"{number}.0", MATH)


@pytest.mark.integration
def test_the_worker_ends_with_its_parent():
    script = (
        "import os\n"
        "from ttrl.answers.comparing import judge\n"
        "judge.equal('x', 'y')\n"
        "print(judge.worker.process.pid, flush=True)\n"
        "os._exit(9)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    pid = int(done.stdout)
    deadline = time.monotonic() + 10
    while os.path.exists(f"/proc/{pid}") and not _is_zombie(pid):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _is_zombie(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True
