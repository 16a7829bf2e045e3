"""Answers to the same probes, compared in pairs."""

from ttrl.evaluation.evidence import Answered, Probe, compare, differences


def answered(*answers, right=None):
    return Answered(answers, None if right is None else tuple(a == right for a in answers))


def probe(cluster, live, candidate):
    return Probe(cluster, cluster, live, live, candidate)


def test_what_one_versions_answers_say():
    mixed = answered("7", "7", "8", None, right="8")
    assert (mixed.readable, mixed.accuracy, mixed.reached) == (0.75, 0.25, 1.0)
    assert mixed.vote.label == "7"
    assert not mixed.majority_right
    assert answered("7", "7", "8", right="7").majority_right
    assert not answered("7", "8", right="7").majority_right, "a tie has no majority"


def test_probes_that_say_nothing_are_left_out_and_clusters_count_once():
    unlabelled = probe("c", answered("1"), answered("1"))
    better = probe("a", answered("2", right="1"), answered("1", right="1"))
    worse = probe("b", answered("1", right="1"), answered("2", right="1"))

    def value(each):
        return (each.live.accuracy, each.candidate.accuracy) if each.labelled else None

    given = [better, better, better, worse, unlabelled]
    assert sorted(differences(given, value)) == [-1.0, 1.0]
    found = compare(given, value)
    assert (found.probes, found.clusters, found.difference) == (4, 2, 0.0)
    assert found.low < 0 < found.high
    assert compare([unlabelled], value) is None


def test_bounds_close_in_with_more_probes():
    gained = [
        probe(str(n), answered("2", "1", right="1"), answered("1", "1", right="1"))
        for n in range(200)
    ]

    def value(each):
        return each.live.accuracy, each.candidate.accuracy

    few, many = compare(gained[:20], value), compare(gained, value)
    assert few.low < many.low < 0.5 < many.high < few.high
    assert many.low > 0.4
