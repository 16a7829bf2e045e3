"""What a sample is worth."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from ttrl.config import VoteConfig, learning
from ttrl.engine.samples import Finish, Sample
from ttrl.plugins import PluginUnknown
from ttrl.rewards import REWARDS, Ballot, RewardFailed, find, total
from ttrl.votes import take_vote

MAX_TOKENS = 100


def sample(tokens, finish=Finish.STOP):
    ids = tuple(range(tokens)) if isinstance(tokens, int) else tuple(tokens)
    return Sample("so it is", ids, (-0.5,) * len(ids), finish)


def ballot(answers, samples=None, **vote):
    samples = samples or [sample(10)] * len(answers)
    return Ballot("What is it?", tuple(samples), take_vote(answers, **vote), MAX_TOKENS)


def quarter(ballot):
    """A reward of one's own."""
    return [0.25] * len(ballot.samples)


def short(_ballot):
    return [1.0]


def words(_ballot):
    return ["much", "little"]


def broken(ballot):
    raise KeyError(ballot.question)


@pytest.mark.parametrize(
    ("reward", "answers", "worth"),
    [
        ("majority", ["5", "6", "5", None], [1, 0, 1, 0]),
        ("majority", ["5", "6"], [0, 0]),
        ("majority", [None, None], [0, 0]),
        ("majority", ["none", None], [1, 0]),
        ("soft_majority", ["5", "6", "5", None], [0.5, 0.25, 0.5, 0]),
        ("soft_majority", ["5", "6"], [0, 0]),
        ("readable", ["5", "6", None, "5"], [1, 1, 0, 1]),
    ],
)
def test_by_answers(reward, answers, worth):
    assert REWARDS[reward](ballot(answers)) == pytest.approx(worth)


@pytest.mark.parametrize("reward", ["majority", "soft_majority"])
def test_without_a_label_below_the_floor_all_are_worth_nothing(reward):
    assert find(reward)(ballot(["5", "5", "6", None], floor=0.75)) == [0.0] * 4


def test_length_wants_what_agrees_short_and_what_does_not_long():
    samples = [sample(0), sample(50), sample(100), sample(0), sample(50), sample(300)]
    found = REWARDS["length"](ballot(["5", "5", "5", "5", "6", None], samples))
    assert found == pytest.approx([1, 0.75, 0.5, 1, -0.25, 0])


def test_overlong_begins_before_the_end():
    samples = [sample(0), sample(80), sample(90), sample(100)]
    found = REWARDS["overlong"](ballot(["5"] * 4, samples))
    assert found == pytest.approx([0, 0, -0.5, -1])


def thinking(tokens, thought):
    """A sample that thought first, its thoughts in its text or kept apart by the engine."""
    ids = tuple(range(tokens))
    inside = "<think>" + "x" * (thought - 15) + "</think>" + "y" * (tokens - thought)
    apart = "y" * (tokens - thought)
    logprobs = (-0.5,) * tokens
    return [
        Sample(inside, ids, logprobs, Finish.STOP),
        Sample(apart, ids, logprobs, Finish.STOP, thought),
    ]


def test_only_what_was_said_after_thinking_is_long():
    short = sample(10)
    samples = [short, *thinking(50, 40), *thinking(90, 80), *thinking(70, 20)]
    found = ballot(["5"] * 7, samples)
    assert found.lengths == (10, 10, 10, 10, 10, 50, 50)
    worth = REWARDS["length"](found)
    assert len(set(worth[:5])) == 1
    assert worth[5] < worth[0]
    overlong = REWARDS["overlong"](found)
    assert overlong == pytest.approx([0, 0, 0, -0.5, -0.5, 0, 0]), "thoughts are cut off as well"


def test_thoughts_may_repeat_themselves():
    ids = [1, 2, 3] * 10 + [4, 5, 6, 7]
    apart = Sample("said", tuple(ids), (-0.5,) * 34, Finish.STOP, 30)
    assert REWARDS["repetition"](ballot(["5"], [apart])) == [0.0]
    assert REWARDS["repetition"](ballot(["5"], [sample(ids)]))[0] < -0.5


@pytest.mark.parametrize(
    ("ids", "worth"),
    [
        ([1, 2, 3, 4, 5], 0),
        ([1, 2, 1, 2, 1, 2], -0.5),  # 121, 212, 121, 212
        ([7] * 12, -0.9),
        ([7, 7], 0),
        ([], 0),
    ],
)
def test_repetition_counts_tokens(ids, worth):
    found = REWARDS["repetition"](ballot(["5", "5"], [sample(ids), sample(3)]))
    assert found == pytest.approx([worth, 0])


def test_one_reward_is_weighed_as_it_is():
    assert total(ballot(["5", "6", "5"]), {"majority": 0.5}) == (0.5, 0.0, 0.5)
    assert total(ballot(["5", "6", "5"]), {}) == (0.0, 0.0, 0.0)


def test_several_are_brought_to_one_scale_each():
    """Majority: mean 1/2, deviation 1/2. Overlong: 0, 0, 0, -1: mean -1/4, deviation 0.433."""
    samples = [sample(1), sample(1), sample(1), sample(100)]
    found = total(ballot(["5", "5", "6", "7"], samples), {"majority": 1.0, "overlong": 0.5})
    spread = math.sqrt(3) / 4
    assert found == pytest.approx(
        [1 + 0.125 / spread, 1 + 0.125 / spread, -1 + 0.125 / spread, -1 - 0.375 / spread]
    )


def test_where_all_were_cut_off_nothing_is_worth_anything():
    all_cut = replace(ballot([]), references=("5",))
    assert total(all_cut, {"majority": 1.0, "readable": 1.0}) == ()


def test_a_trifle_is_not_blown_up():
    """One of many repeats itself a little; it must not weigh as much as the vote."""
    one = [1, 2, 3, *range(10, 100), 1, 2, 3]
    samples = [sample(one)] + [sample(90)] * 31
    found = total(ballot(["5"] * 16 + ["6"] * 16, samples), {"majority": 1.0, "repetition": 1.0})
    assert found[1] - found[0] < 0.2


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Modules as files, and a distribution that offers rewards from them."""
    for name, code in {
        "ttrl_offered": "def polite(ballot):\n    return [0.5] * len(ballot.samples)\nnone = 1\n",
        "ttrl_misspelt": "def f(:\n",
        "ttrl_raising": "raise RuntimeError('no\\nkey')",
        "ttrl_leaving": "raise SystemExit(3)",
    }.items():
        (tmp_path / f"{name}.py").write_text(code)
    info = tmp_path / "ttrl_offered-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: ttrl-offered\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        "[ttrl.rewards]\npolite = ttrl_offered:polite\ngone = ttrl_offered:gone\n"
        "none = ttrl_offered:none\nraising = ttrl_raising:f\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield
    find.cache_clear()


def test_one_that_a_package_offers(installed):
    assert total(ballot(["5", "5"]), {"polite": 3.0}) == (1.5, 1.5)
    VoteConfig(rewards={"polite": 1.0})
    with pytest.raises(ValueError, match=r"did you mean 'polite'\? built-in rewards: .*polite"):
        VoteConfig(rewards={"polit": 1.0})


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("gone", "cannot import the reward gone: AttributeError: .* no attribute 'gone'"),
        ("none", "the reward none is not a function"),
        ("raising", "cannot import the reward raising: RuntimeError: no key$"),
        ("ttrl_misspelt:f", r"cannot import the reward ttrl_misspelt:f: SyntaxError: .*, line 1"),
        ("ttrl_raising:f", "cannot import the reward ttrl_raising:f: RuntimeError: no key$"),
        ("ttrl_leaving:f", "cannot import the reward ttrl_leaving:f: SystemExit: 3"),
        (".x:y", r"cannot import the reward \.x:y: TypeError: "),
    ],
)
def test_one_that_cannot_be_imported_is_a_mistake_like_any_other(installed, name, says):
    with pytest.raises(PluginUnknown, match=f"^{says}"):
        find(name)


def test_the_configuration_knows_the_built_in_ones():
    assert set(REWARDS) == set(learning.REWARDS)


def test_one_of_your_own():
    assert total(ballot(["5", "5"]), {f"{__name__}:quarter": 2.0}) == (0.5, 0.5)
    VoteConfig(rewards={"majority": 1.0, f"{__name__}:quarter": 0.1})


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nowhere.to:be_found", "cannot import .*No module named 'nowhere'"),
        (f"{__name__}:nothing", "cannot import .* has no attribute 'nothing'"),
        (f"{__name__}:MAX_TOKENS", "is not a function"),
    ],
)
def test_a_reward_that_is_none_is_refused(name, says):
    with pytest.raises(PluginUnknown, match=says):
        total(ballot(["5", "6"]), {name: 1.0})


@pytest.mark.parametrize(
    ("function", "says"),
    [
        ("short", "does not return one finite number per sample"),
        ("words", "does not return one finite number per sample"),
        ("broken", r"raised KeyError at test_rewards\.py:\d+$"),
    ],
)
def test_a_reward_that_fails_says_where_and_quotes_nobody(function, says):
    with pytest.raises(RewardFailed, match=f"the reward {__name__}:{function} {says}"):
        total(ballot(["5", "5"]), {f"{__name__}:{function}": 1.0})


def verifier(ballot):
    """Knows what is right without a majority."""
    return [float(answer == "6") for answer in ballot.vote.answers]


verifier.needs_label = False


@pytest.mark.parametrize(
    ("answers", "rewards", "worth"),
    [
        (["5", "6"], {"verifier": 1.0}, (0, 1)),
        (["5", "6"], {"verifier": 2.0, "quarter": 1.0}, (0, 2)),  # alone, as it was given
        (["5", "6"], {"quarter": 1.0}, (0, 0)),
        (["5", "6"], {"verifier": 0.0, "quarter": 1.0}, (0, 0)),
        ([None, "6", None, None], {"verifier": 1.0}, (0, 1, 0, 0)),  # too few can be read
        (["5", "5", "6"], {"verifier": 1.0}, (0, 0, 1)),  # against the majority
    ],
)
def test_a_reward_that_needs_no_label_speaks_where_there_is_none(answers, rewards, worth):
    weights = {f"{__name__}:{name}": weight for name, weight in rewards.items()}
    assert total(ballot(answers), {**weights, "majority": 0.0}) == worth


def test_where_there_is_no_label_the_others_are_silent():
    weights = {f"{__name__}:verifier": 1.0, "majority": 1.0, "readable": 1.0, "length": 1.0}
    assert total(ballot(["5", "6"]), weights) == (0, 1)
    with_label = total(ballot(["5", "5", "6"]), weights)
    assert len(set(with_label)) == 2
