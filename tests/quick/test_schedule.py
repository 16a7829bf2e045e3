"""A run that is due is started once, in its window, when there is something to learn."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from serve.daemon.schedule import Decision, decide, in_window, next_due, next_start
from ttrl.config import ScheduleConfig

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)
HOURLY = ScheduleConfig(every="1h", min_questions=10)


def facts(**changes):
    ready = {"now": NOON, "fired": NOON - timedelta(hours=2), "paused": False, "busy": False}
    return {**ready, "engine": True, "new_questions": 50, **changes}


@pytest.mark.parametrize(
    ("schedule", "changes", "decision"),
    [
        (HOURLY, {}, Decision.START),
        (HOURLY, {"fired": NOON - timedelta(minutes=59)}, Decision.NOT_DUE),
        (HOURLY, {"fired": NOON - timedelta(days=9)}, Decision.START),
        (HOURLY, {"fired": NOON + timedelta(days=1)}, Decision.NOT_DUE),
        (HOURLY, {"paused": True}, Decision.PAUSED),
        (HOURLY, {"busy": True}, Decision.RUN_UNDER_WAY),
        (HOURLY, {"engine": False}, Decision.ENGINE_DOWN),
        (HOURLY, {"new_questions": 9}, Decision.TOO_FEW_QUESTIONS),
        (HOURLY.model_copy(update={"windows": ("22:00-06:00",)}), {}, Decision.OUTSIDE_WINDOW),
        (ScheduleConfig(every=None), {}, Decision.NO_SCHEDULE),
        (ScheduleConfig(cron="0 3 * * *", min_questions=1), {}, Decision.NOT_DUE),
        (
            ScheduleConfig(cron="0 3 * * *", min_questions=1),
            {"fired": NOON - timedelta(days=3)},
            Decision.START,
        ),
    ],
)
def test_decisions(schedule, changes, decision):
    assert decide(schedule, **facts(**changes)) is decision


@pytest.mark.fault(
    "the daemon was down, or the host asleep, at ten times of a run",
    sees="nothing",
    keeps="one run catches up",
)
def test_ten_missed_times_are_one_catch_up():
    fired = NOON - timedelta(hours=10)
    assert decide(HOURLY, **facts(fired=fired)) is Decision.START
    assert decide(HOURLY, **facts(fired=NOON)) is Decision.NOT_DUE


@pytest.mark.parametrize(
    ("clock", "inside"), [("21:59", False), ("22:00", True), ("02:00", True), ("06:00", False)]
)
def test_a_window_over_midnight(clock, inside):
    schedule = ScheduleConfig(windows=("22:00-06:00",))
    hour, minute = map(int, clock.split(":"))
    assert in_window(schedule, NOON.replace(hour=hour, minute=minute)) is inside


@pytest.mark.parametrize(
    ("changes", "fired", "start"),
    [
        ({}, NOON, "2026-03-10T13:00+00:00"),
        ({}, NOON - timedelta(days=1), "2026-03-10T12:00+00:00"),
        ({"windows": ["22:00-06:00"]}, NOON, "2026-03-10T22:00+00:00"),
        ({"windows": ["22:00-06:00", "11:00-12:30"]}, NOON, "2026-03-10T22:00+00:00"),
        ({"windows": ["22:00-06:00", "11:00-14:00"]}, NOON, "2026-03-10T13:00+00:00"),
        ({"windows": ["08:00-09:00"]}, NOON, "2026-03-11T08:00+00:00"),
        (
            {"windows": ["22:00-06:00"], "timezone": "Europe/Berlin"},
            NOON,
            "2026-03-10T21:00+00:00",
        ),
        ({"every": None}, NOON, None),
    ],
)
def test_when_the_next_run_starts(changes, fired, start):
    schedule = ScheduleConfig(**({"every": "1h"} | changes))
    found = next_start(schedule, fired, NOON)
    assert (found and found.isoformat(timespec="minutes")) == start
    assert found is None or in_window(schedule, found)


ZONES = (
    "Europe/Berlin", "America/New_York", "Pacific/Auckland", "Asia/Jerusalem",
    "Australia/Lord_Howe",  # by half an hour
    "Africa/Cairo", "Asia/Beirut", "America/Santiago",  # midnight is skipped
    "America/Havana", "Atlantic/Azores",  # and comes twice
)  # fmt: skip


@pytest.mark.fault(
    "summer time skips the time of a run, or brings it twice",
    sees="nothing",
    keeps="one run that night, an hour later at most",
)
@pytest.mark.parametrize("late", [timedelta(), timedelta(minutes=50)], ids=["idle", "busy"])
@pytest.mark.parametrize("zone", ZONES)
def test_a_time_of_day_comes_once_a_night_all_year(zone, late):
    """However late the run before it started."""
    for cron in ("0 0 * * *", "15 0 * * *", "30 2 * * *"):
        schedule = ScheduleConfig(cron=cron, timezone=zone)
        minute, hour = map(int, cron.split()[:2])
        fired, nights = datetime(2026, 1, 1, 12, tzinfo=UTC), []
        while len(nights) < 366:
            due = next_due(schedule, fired)
            clock = due.astimezone(schedule.timezone)
            after = (clock.hour - hour) * 60 + clock.minute - minute
            assert 0 <= after <= 60
            nights.append(clock.date())
            fired = due + late
        assert nights == [nights[0] + timedelta(days=number) for number in range(366)]


def test_a_cron_time_counts_days_of_the_week_from_sunday():
    schedule = ScheduleConfig(cron="0 3 * * 1")
    assert next_due(schedule, NOON).isoformat() == "2026-03-16T03:00:00+00:00"


@pytest.mark.parametrize(
    "wrong",
    [
        {"windows": ["8-"]},
        {"cron": "every day"},
        {"cron": "0 0 31 2 *"},
        {"cron": "0 0 0 * * *"},
        {"cron": "0 25 * * *"},
        {"every": "soon"},
        {"min_questions": 0},
    ],
)
def test_unreadable_schedules_are_refused(wrong):
    with pytest.raises(ValueError, match="1 validation error"):
        ScheduleConfig(**wrong)
