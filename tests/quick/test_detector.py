"""The live monitor's arithmetic: no evidence from versions that are alike, an alarm from others."""

from __future__ import annotations

import itertools
import math
from functools import reduce
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.monitors import delay
from ttrl.monitoring.live import (
    FACTOR,
    Detector,
    Side,
    Stream,
    Track,
    differences,
    failures,
    threshold,
)

SIDES = st.builds(
    Side,
    st.lists(st.sampled_from(["1", "2", "3", None]), min_size=2, max_size=5),
    st.floats(1, 1e5),
)


def side(answers: str, tokens: float = 9.0) -> Side:
    """One letter an answer; `-` cannot be read."""
    return Side([None if letter == "-" else letter for letter in answers], tokens)


def track(differences: list[float], tolerated: float = 0.0) -> Track:
    return reduce(lambda so_far, each: so_far.after(each, tolerated), differences, Track())


@pytest.mark.parametrize(
    ("live", "other", "before", "stream", "difference"),
    [
        ("aaaa", "aaaa", "", Stream.AGREEMENT, 0.0),
        ("abcd", "aaaa", "", Stream.AGREEMENT, 0.75),
        ("----", "aaaa", "", Stream.AGREEMENT, 1.0),
        ("a--a", "aaaa", "", Stream.UNREADABLE, 0.5),
        ("aaaa", "----", "", Stream.UNREADABLE, -1.0),
        ("aaaa", "aaaa", "", Stream.DEPARTURE, 0.0),
        ("bbbb", "aaaa", "", Stream.DEPARTURE, 1.0),
        ("bbbb", "abcd", "", Stream.DEPARTURE, -0.25),
        ("aaaa", "aabb", "", Stream.DEPARTURE, 2 / 6 - 1 / 2),
        ("----", "----", "", Stream.DEPARTURE, 0.0),
        ("0000", "abab", "0000 cccc", Stream.REPETITION, 1.0),
        ("00aa", "bbbb", "0000 cccc", Stream.REPETITION, 0.5),
        ("0000", "0bbb", "0000 cccc", Stream.REPETITION, 0.0),
        ("0000", "bbbb", "0000 cc0c", Stream.REPETITION, 0.0),
        ("0000", "1111", "0000 1111", Stream.REPETITION, 0.0),
        ("abab", "0000", "abab 0000", Stream.REPETITION, -0.5),
        ("----", "abab", "---- cccc", Stream.REPETITION, 0.0),
        ("0000", "1111", "0000 0000", Stream.CONSTANT, 1.0),
        ("0000", "0000", "0000 0000", Stream.CONSTANT, 0.75),
        ("1111", "0000", "0000 0000", Stream.CONSTANT, -0.25),
    ],
)
def test_what_a_pair_says(live, other, before, stream, difference):
    past = tuple(map(side, before.split())) or None
    assert differences(side(live), side(other), past)[stream] == pytest.approx(difference)


@pytest.mark.parametrize(
    ("live", "other", "longer"),
    [(9, 9, 0.0), (9, 10 * FACTOR - 1, -1.0), (1e6, 9, 1.0), (39, 9, math.log(4, FACTOR))],
)
def test_lengths_are_compared_by_their_ratio(live, other, longer):
    found = differences(side("aa", live), side("aa", other))
    assert found[Stream.LONGER] == -found[Stream.SHORTER] == pytest.approx(longer)
    assert not {Stream.REPETITION, Stream.CONSTANT} & set(found), "there was no question before"


def test_a_failure_of_the_engine_says_nothing_about_answers():
    assert failures(live=True, other=False) == {Stream.ERRORS: 1.0}
    assert failures(live=True, other=True) == {Stream.ERRORS: 0.0}
    detector = Detector(100.0).after(failures(live=False, other=True))
    assert detector.pairs == 1
    assert detector.tracks[Stream.AGREEMENT] == Track()


@given(SIDES, SIDES, SIDES, SIDES)
def test_no_difference_is_more_than_one(live, other, one, two):
    found = differences(live, other, (one, two))
    assert all(-1 <= each <= 1 for each in found.values())


def test_versions_that_are_alike_differ_by_nothing_on_average():
    """Exactly: over all equally likely answers, one or two of each version, to a question and to
    the one before it, which has other chances."""
    drawn = itertools.product("aab-", "aab-", "aab-", "aab-", "ab", "ab")
    found = [
        differences(
            side(live_1 + live_2), side(other_1 + other_2),
            (side(live_before), side(other_before)),
        )
        for live_1, live_2, other_1, other_2, live_before, other_before in drawn
    ]  # fmt: skip
    for stream in Stream:
        mean = fmean(each[stream] for each in found if stream in each)
        if stream is Stream.CONSTANT:
            assert mean <= 0.75
        else:
            assert mean == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("outcomes", [(-1, 1), (-0.5, -0.5, 1), (0.1, 0.1), (-0.8, 1)])
def test_the_evidence_is_expected_to_be_at_most_the_number_of_pairs(outcomes):
    """Exactly, over all equally likely differences whose mean is what is tolerated; hence so many
    pairs at least until a false alarm."""
    for pairs in range(1, 8):
        ways = itertools.product(outcomes, repeat=pairs)
        assert fmean(track(list(way), fmean(outcomes)).evidence for way in ways) <= pairs


@given(st.lists(st.floats(-1, 1), max_size=40), st.lists(st.floats(-1, 1), min_size=1, max_size=9))
def test_who_forgets_the_oldest_pairs_has_less_evidence_never_more(forgotten, kept):
    assert track(kept).evidence <= track(forgotten + kept).evidence * (1 + 1e-9)


@given(st.floats(0, 0.5), st.lists(st.floats(0, 1), max_size=200))
def test_nothing_but_what_is_tolerated_is_no_evidence(tolerated, parts):
    assert track([part * tolerated for part in parts], tolerated).evidence <= 1


@pytest.mark.parametrize("quiet", [0, 1, 1000])
def test_a_change_is_found_as_soon_after_a_long_quiet_time(quiet):
    """And by about as much as is stated."""
    limit, tolerated = 1e6, Stream.UNREADABLE.tolerated
    detector = reduce(Detector.after, [{Stream.UNREADABLE: -0.1}] * quiet, Detector(limit))
    while detector.alarm is None:
        detector = detector.after({Stream.UNREADABLE: 0.5})
    alarm, stated = detector.alarm, delay([0.5], tolerated, limit)
    assert alarm.stream is Stream.UNREADABLE
    assert alarm.pairs == alarm.of - quiet == pytest.approx(stated, abs=1)
    assert alarm.mean == pytest.approx(0.5)
    assert detector.nearest is Stream.UNREADABLE
    assert detector.nearness(Stream.UNREADABLE) >= 1
    assert detector.nearness(Stream.AGREEMENT) == 0


def test_what_is_no_change_is_never_found():
    assert delay([0.5, -0.5], 0.0, 100.0) == math.inf
    assert delay([0.1], 0.1, 100.0) == math.inf


def test_fewer_false_alarms_ask_for_more():
    """A false alarm a year of all streams together, at two pairs a minute all the year."""
    assert threshold(2.0, 1.0) == 2 * 60 * 24 * 365.25 * len(Stream)
    assert threshold(2.0, 0.1) == pytest.approx(10 * threshold(2.0, 1.0))


@pytest.mark.parametrize("stream", [each for each in Stream if not each.harm])
def test_a_difference_that_is_no_harm_is_an_alert_and_never_an_alarm(stream):
    detector = reduce(Detector.after, [{stream: 1.0}] * 400, Detector(1e9))
    assert detector.alarm is None
    assert [alert.stream for alert in detector.alerts] == [stream]
    assert detector.nearness(detector.nearest) == 0


@pytest.mark.parametrize("stream", [each for each in Stream if each.harm])
def test_harm_is_an_alarm_and_no_alert(stream):
    detector = reduce(Detector.after, [{stream: 1.0}] * 400, Detector(1e9))
    assert detector.alarm is not None
    assert detector.alarm.stream is stream
    assert detector.alerts == []


@pytest.mark.parametrize(
    ("stream", "difference", "said"),
    [
        (Stream.AGREEMENT, 0.5, "it agrees with itself less: 50% on average in the last 20 of 21"),
        (
            Stream.SHORTER,
            1.0,
            "its answers are shorter: 16.0 times on average in the last 20 of 21",
        ),
        (Stream.DEPARTURE, 0.5, "its answers differ: 50% on average in the last 20 of 21"),
    ],
)
def test_an_alarm_is_a_sentence(stream, difference, said):
    found = [{stream: -1.0}] + [{stream: difference}] * 20
    detector = reduce(Detector.after, found, Detector(10.0))
    alarm = detector.alarm or detector.alerts[0]
    assert alarm.words("base") == f"{said} pairs with base"
