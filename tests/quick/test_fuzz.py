"""Whatever is sent to the gateway gets an answer that its description allows; `python -m
benchmarks.fuzz` does the same for minutes."""

from __future__ import annotations

import pytest

from tests.house import house
from tests.standin import streaming
from ttrl.config import GatewayConfig

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def fuzz():
    from benchmarks import fuzz  # late: schemathesis takes its time to be loaded

    return fuzz


@pytest.mark.timeout(300)
@pytest.mark.parametrize("streams", [False, True])
def test_the_surface_for_a_moment(fuzz, streams, store):
    counts = fuzz.Counts()
    with house(store=store) as home:
        if streams:
            home.engine.behave = streaming(["4", "2"])
        fuzz.surface(home.url, 10, 7, counts)
    assert counts.requests > 100
    assert {200, 400} <= counts.statuses.keys()
    assert counts.broken == []


def test_the_parser_for_a_moment(fuzz):
    counts = fuzz.Counts()
    fuzz.parser(100, 7, counts)
    assert counts.answers >= 200
    assert counts.broken == []


def test_every_route_is_described(fuzz):
    assert set(GatewayConfig().routes) <= {operation.path for operation in fuzz.operations()}


def test_time_that_grows_faster_than_the_text_is_seen(fuzz):
    assert fuzz.grows(lambda text: sum(1 for _ in range((len(text) // 40) ** 3)), "-")
    assert not fuzz.grows(lambda text: sum(1 for _ in range(200) for _ in text), "-")


@pytest.mark.parametrize(
    "text",
    ["-", "(", "1", "1,", "$", "**", "\n", "分之", "答案是", "x = 1, ", "1 km ", "the answer is "],
)
def test_reading_takes_time_in_proportion_to_length(fuzz, text):
    assert [name for name, read in fuzz.READERS.items() if fuzz.grows(read, text)] == []
