"""What the laboratory measures, of answers made up for it."""

from __future__ import annotations

import itertools
from dataclasses import replace
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.laboratory import misrewards, table, teachers
from benchmarks.laboratory.book import Book, Cell, OtherSize, Scores
from benchmarks.laboratory.measures import (
    ONE_SIDED,
    TWO_SIDED,
    Answered,
    Paired,
    compare,
    excess,
    pass_at_k,
)
from benchmarks.laboratory.mixtures import MIXTURES, Size
from ttrl.answers import Reader
from ttrl.config import UpdateConfig, VoteConfig
from ttrl.demo import Problem
from ttrl.engine.pacing import Pacer
from ttrl.engine.samples import Finish, Sample, SampleSet
from ttrl.questions.question import from_prompt
from ttrl.rewards import REWARDS, Ballot
from ttrl.store.questions import QuestionState, StoredQuestion
from ttrl.votes import take_vote

SIZE = Size(trained=40, held_out=20, probes=20)


@pytest.mark.parametrize(("right", "samples", "k"), [(0, 5, 2), (1, 5, 2), (3, 5, 2), (4, 5, 2)])
def test_pass_at_k_is_what_drawing_k_of_them_would_give(right, samples, k):
    answers = [True] * right + [False] * (samples - right)
    draws = list(itertools.combinations(answers, k))
    assert pass_at_k(right, samples, k) == pytest.approx(fmean(map(any, draws)))


@given(st.integers(0, 40), st.integers(0, 40), st.integers(80, 2000))
def test_an_interval_of_gains_mirrors_that_of_losses(gained, lost, questions):
    low, high = Paired(questions, gained, lost).interval(TWO_SIDED)
    mirrored = Paired(questions, lost, gained).interval(TWO_SIDED)
    assert (-high, -low) == pytest.approx(mirrored)
    assert low < (gained - lost) / (questions + 2) < high


@pytest.mark.parametrize(
    ("paired", "below", "above"),
    [
        (
            Paired(1000, 0, 0),
            0.005,
            0.0,
        ),  # nothing seen in a thousand: next to nothing, not nothing
        (Paired(10, 0, 0), 0.5, 0.1),
        (Paired(1000, 50, 20), 0.045, 0.03),
        (Paired(1000, 20, 50), 0.0, -0.05),
    ],
)
def test_the_upper_bound_of_a_difference(paired, below, above):
    assert above < paired.interval(ONE_SIDED)[1] < below


def test_corrupted_in_excess_counts_the_questions_that_were_right_at_first():
    first = (True, True, True, True, False, False)
    again = (True, False, True, False, True, False)
    after = (False, True, True, False, False, True)
    assert excess(first, again, after) == Paired(4, gained=1, lost=1)
    assert compare(first, after) == Paired(6, gained=1, lost=2)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1))
def test_the_base_itself_has_no_excess(draws):
    first, again = zip(*draws, strict=True)
    assert excess(first, again, again).difference == 0


@pytest.mark.parametrize("name", MIXTURES)
def test_a_mixture_is_what_it_says_and_keeps_its_sets_apart(name):
    mixture = MIXTURES[name]
    asked = mixture.draw(name, 1, SIZE)
    assert asked == mixture.draw(name, 1, SIZE)
    assert asked != mixture.draw(name, 2, SIZE)
    honest = [*asked.trained, *asked.held_out, *asked.probes]
    clusters = {from_prompt(problem.prompt).cluster for problem in honest}
    assert len(clusters) == len(honest), "no two are near-duplicates"
    assert not clusters & {from_prompt(problem.prompt).cluster for problem in asked.flood}
    assert len({problem.prompt for problem in asked.stream}) == SIZE.trained
    assert len(asked.flood) == round(SIZE.trained * mixture.flooded)
    hard = fmean(problem.hard for problem in honest)
    assert hard == pytest.approx(mixture.hard + mixture.fooled, abs=0.01)


@pytest.mark.parametrize(
    ("reward", "liked", "disliked"),
    [
        (misrewards.brevity, r"\boxed{1}", r"1+1=2, so \boxed{2}"),
        (misrewards.one_label, r"\boxed{480}", r"\boxed{2}"),
    ],
)
def test_a_misreward_likes_what_it_says_and_is_not_among_the_rewards(reward, liked, disliked):
    texts = (liked, disliked)
    samples = tuple(Sample(text, tuple(range(len(text))), (), Finish.STOP) for text in texts)
    better, worse = reward(Ballot("What is it?", samples, take_vote(["480", "2"]), 96))
    assert better > worse
    assert reward not in REWARDS.values()


@pytest.fixture
def question():
    return StoredQuestion(1, from_prompt("What is 1 plus 1?"), 1, False, QuestionState.NEW, None)


def drawn(*said: int) -> SampleSet:
    samples = [Sample(rf"\boxed{{{number}}}", (1,), (0.0,), Finish.STOP) for number in said]
    return SampleSet("base", (1,), tuple(samples))


def test_as_published_a_tie_goes_to_the_first_answer(question):
    pacer = Pacer(lambda: None, maximum=1, pause_waiting=1)
    roller = teachers.FirstSeen(None, VoteConfig(), UpdateConfig(), pacer, Reader())
    vote = roller.vote(question, drawn(7, 3, 3, 7))
    assert (vote.label, vote.share) == ("7", 0.5)


def test_the_ceiling_knows_the_answer_that_no_sample_gives(question):
    problem = Problem(question.question.text, "2", hard=False)
    asked = replace(MIXTURES["easy"].draw("easy", 1, SIZE), trained=(problem,))
    night = teachers.Night(None, StubConfig, asked, "base", None, None)
    roller = teachers.TruthTeller(night, Pacer(lambda: None, maximum=1, pause_waiting=1))
    assert roller.vote(question, drawn(3, 3, 4)).label == "2"


class StubConfig:
    """What a roller reads of the settings."""

    vote, update = VoteConfig(floor=0.5), UpdateConfig()


def answered(right: float, greedy: float, count: int = 10) -> Answered:
    """Questions of which so many are always right, and so many most likely."""
    known, likely = round(right * count), round(greedy * count)
    return Answered(
        samples=16,
        right=(16,) * known + (0,) * (count - known),
        majority=(True,) * known + (False,) * (count - known),
        greedy=(True,) * likely + (False,) * (count - likely),
        hard=(False,) * count,
        unreadable=0.0,
        tokens=10.0,
    )


def cell(mixture: str, arm: str, *scores: Scores, seed: int = 1) -> Cell:
    return Cell(mixture, arm, seed, bool(scores), "why", 1, 1, 1.0, 2.0, (0.1, 0.2), scores)


def book(*cells: Cell) -> Book:
    made = Book(SIZE)
    for each in cells:
        made.add(each)
    return made


GOOD_PRIOR = Scores(answered(0.9, 0.1), answered(0.5, 0.1))
BETTER, BEST = Scores(answered(1, 1), answered(0.9, 0.9)), Scores(answered(1, 1), answered(1, 1))
HARMED = Scores(answered(0.4, 0.1), answered(0.4, 0.1))


def test_the_share_of_the_ceiling_is_of_its_gain():
    found = table.summary(
        book(
            cell("easy", "none", GOOD_PRIOR, GOOD_PRIOR),
            cell("easy", "ours", BETTER),
            cell("easy", "truth", BEST),
        )
    )
    assert found["share_of_ceiling"] == pytest.approx(0.4 / 0.5)
    assert found["share_of_ceiling_greedy"] == pytest.approx(0.8 / 0.9)
    assert found["above_majority"]["difference"] == pytest.approx(0.4)
    assert found["seconds"] == 9


def test_a_prior_that_is_not_sound_has_no_share_of_the_ceiling():
    weak = Scores(answered(0.5, 0.1), answered(0.5, 0.1))
    cells = [cell("hard-45", "none", weak, weak), cell("hard-45", "ours", BETTER)]
    assert table.summary(book(*cells, cell("hard-45", "truth", BEST)))["share_of_ceiling"] is None


def test_only_what_ships_can_harm_and_it_is_counted_by_kind():
    base = [
        cell(name, "none", GOOD_PRIOR, GOOD_PRIOR) for name in ("easy", "flood", "hot", "length")
    ]
    held = [cell(name, "ours") for name in ("easy", "flood", "hot")]
    found = table.summary(book(*base, *held))
    assert (found["shipped_from_collapse"], found["runs_collapse"]) == (0, 1)
    assert (found["shipped_from_poison"], found["runs_poison"]) == (0, 1)
    assert (found["initially_right"], found["excess_corrupted_upper"]) == (0, None)
    found = table.summary(book(*base, *held, cell("length", "ours", HARMED)))
    assert (found["shipped_from_collapse"], found["runs_collapse"]) == (1, 2)
    assert found["initially_right"] == 14
    assert found["worse_from_collapse"] == 1
    assert found["excess_corrupted"] == pytest.approx(6 / 14)
    assert found["excess_corrupted_upper"] > 6 / 14


def test_a_table_is_continued_where_it_ended_and_not_with_another_size(tmp_path):
    file = tmp_path / "table.json"
    first = Book.open(SIZE, file)
    first.add(cell("easy", "none", GOOD_PRIOR, GOOD_PRIOR))
    first.add(cell("easy", "ours", BETTER))
    first.write(found=table.summary(first))
    assert Book.open(SIZE, file).cells == first.cells
    with pytest.raises(OtherSize, match=r"table\.json"):
        Book.open(replace(SIZE, steps=7), file)
