"""Board, alerts and documents name series that there are; alerts fire and clear as they should."""

from __future__ import annotations

import json
import re
import runpy
from itertools import chain
from typing import Any

import pytest
import yaml

from tests.prometheus import CONFIGS, ROOT, needs_prometheus, promtool
from ttrl.metrics import Metrics

NAMES = {
    name
    for family in Metrics().registry.collect()
    for name in (
        [f"{family.name}{end}" for end in ("_bucket", "_sum", "_count")]
        if family.type in ("histogram", "summary")
        else [f"{family.name}_{family.type}" if family.type == "info" else family.name]
        + ([f"{family.name}_total"] if family.type == "counter" else [])
    )
}
RULES = CONFIGS / "prometheus" / "rules.yml"


def rules() -> list[dict[str, Any]]:
    return list(
        chain.from_iterable(g["rules"] for g in yaml.safe_load(RULES.read_text())["groups"])
    )


def test_the_board_is_what_its_program_makes():
    made = runpy.run_path(str(CONFIGS / "grafana" / "board.py"))
    assert json.loads(made["FILE"].read_text()) == made["board"](), "run configs/grafana/board.py"


def test_single_values_are_asked_for_as_of_now():
    """Over a range the version that was live this morning would stand beside today's."""
    board = json.loads((CONFIGS / "grafana" / "dashboards" / "ttrl.json").read_text())
    for panel in board["panels"]:
        for target in panel.get("targets", ()):
            assert target["instant"] == (panel["type"] == "stat") != target["range"]


def test_the_reference_is_what_its_program_makes():
    made = runpy.run_path(str(ROOT / "docs" / "metrics.py"))
    assert made["FILE"].read_text() == made["reference"](), "run python docs/metrics.py"


def named_in(text: str) -> set[str]:
    return set(re.findall(r"\bttrl_[a-z0-9_]+", text))


def documents():
    files = [
        ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), RULES,
        CONFIGS / "grafana" / "dashboards" / "ttrl.json",
    ]  # fmt: skip
    return [pytest.param(file, id=file.name) for file in files]


@pytest.mark.parametrize("file", documents())
def test_what_is_named_exists(file):
    families = {family.name for family in Metrics().registry.collect()}
    assert named_in(file.read_text()) <= NAMES | families


def test_what_the_containers_read_is_there():
    file = CONFIGS / "grafana" / "compose.yml"
    composed = yaml.safe_load(file.read_text())
    mounted = [v for each in composed["services"].values() for v in each["volumes"]]
    places = [volume.split(":")[0] for volume in mounted]
    assert {place for place in places if "/" not in place} == set(composed["volumes"])
    for place in places:
        assert "/" not in place or (file.parent / place).is_dir()
    board = yaml.safe_load(
        (CONFIGS / "grafana" / "provisioning" / "dashboards" / "ttrl.yml").read_text()
    )
    (provider,) = board["providers"]
    assert any(volume.split(":")[1] == provider["options"]["path"] for volume in mounted)


def test_every_alert_has_its_place_in_the_runbook():
    places = re.findall(r"^### (\w+)$", (ROOT / "docs" / "runbook.md").read_text(), re.M)
    assert places == [rule["alert"] for rule in rules()]
    for rule in rules():
        assert rule["annotations"]["runbook"] == f"docs/runbook.md#{rule['alert'].lower()}"
        assert rule["labels"]["severity"] in ("critical", "warning", "info")


@needs_prometheus
def test_prometheus_takes_rules_and_series():
    promtool("check", "rules", str(RULES))
    promtool("check", "config", str(CONFIGS / "prometheus" / "prometheus.yml"))
    promtool("check", "metrics", given=Metrics().text())


DAY = 24 * 60
CASES: dict[str, tuple[dict[str, str], int, int, dict[str, str]]] = {
    "TtrlDown": ({'up{job="ttrl"}': "0x10 1x10"}, 5, 15, {"job": "ttrl"}),
    "TtrlEngineDown": ({"ttrl_engine_up": "0x10 1x10"}, 8, 15, {}),
    "TtrlServesAnotherVersion": (
        {"ttrl_live_adapter_is_wanted": "0x10 1x10", "ttrl_engine_up": "1x20"}, 8, 15, {},
    ),
    "TtrlErrors": (
        {'ttrl_http_requests_total{code="2xx"}': "0+60x40",
         'ttrl_http_requests_total{code="5xx"}': "0+10x15 150x25"}, 12, 30, {},
    ),
    "TtrlQuestionsLost": (
        {'ttrl_questions_skipped_total{reason="store_failed"}': "0x3 5x40",
         'ttrl_questions_skipped_total{reason="too_long"}': "0+9x40"}, 5, 20, {},
    ),
    "TtrlStoreDown": ({"ttrl_store_up": "1x5 0x15 1x20"}, 15, 25, {}),
    "TtrlDiskFull": (
        {"ttrl_disk_free_bytes": "4x15 50x15", "ttrl_disk_size_bytes": "100x30"}, 12, 20, {},
    ),
    "TtrlRunsFail": (
        {'ttrl_runs_total{state="failed"}': "0x3 1x500",
         'ttrl_runs_total{state="published"}': "0+1x500"}, 5, 400, {"state": "failed"},
    ),
    "TtrlNotLearning": (
        {"process_start_time_seconds": f"0x{4 * DAY}",
         "ttrl_last_run_timestamp_seconds": f"0x{3 * DAY + 90} {(3 * DAY + 90) * 60}x99",
         "ttrl_next_run_timestamp_seconds": f"1x{4 * DAY}",
         "ttrl_learning_paused": f"0x{4 * DAY}"}, 3 * DAY + 80, 3 * DAY + 95, {},
    ),
    "TtrlNothingToLearn": (
        {'ttrl_runs_total{state="nothing"}': "0 1x9 2x9 3x99",
         'ttrl_runs_total{state="published"}': "0x50 1x70"}, 40, 60, {"state": "nothing"},
    ),
    "TtrlScheduleLate": ({"ttrl_schedule_ticks_missed_total": "0+2x15 30x40"}, 12, 45, {}),
    "TtrlRolledBack": (
        {'ttrl_roll_backs_total{author="live_monitor"}': "0x3 1x90",
         'ttrl_roll_backs_total{author="operator"}': "0x93"}, 5, 80, {"author": "live_monitor"},
    ),
    "TtrlUneasy": (
        {'ttrl_shadow_evidence_ratio{stream="errors"}': "0.9x15 0.1x9",
         'ttrl_shadow_evidence_ratio{stream="longer"}': "0x25"}, 12, 20, {"stream": "errors"},
    ),
    "TtrlCandidateHeld": (
        {"ttrl_adapters_waiting": f"1x{DAY + 20} 0x9"}, DAY + 10, DAY + 25, {},
    ),
    "TtrlCandidatesWorse": (
        {'ttrl_runs_total{state="rejected"}': "0 1x9 2x9 4x99",
         'ttrl_promotions_total{author="run"}': "0x50 1x70"}, 40, 60, {"state": "rejected"},
    ),
    "TtrlAccuracyFell": (
        {'ttrl_estimated_accuracy_high_ratio{role="live"}': "0.5x20 0.9x9",
         'ttrl_estimated_accuracy_low_ratio{role="base"}': "0.6x30"}, 15, 25, {},
    ),
    "TtrlQuestionsMoved": (
        {"ttrl_drift_questions_psi": "0.5x80 0.1x20",
         "ttrl_drift_questions_psi_by_chance": "0.2x100"}, 70, 90, {},
    ),
    "TtrlPolicyFar": (
        {'ttrl_drift_policy_nats{against="week"}': f"0.6x{8 * DAY}",
         'ttrl_drift_policy_nats{against="base"}': f"0.9x{8 * DAY}",
         "ttrl_live_adapter_since_timestamp_seconds": f"0x{8 * DAY}"}, 5, 7 * DAY + 5,
        {"against": "week"},
    ),
}  # fmt: skip
"""For each alert: series by the minute, one at which it fires, one at which it has cleared, and its
labels."""


def test_every_alert_has_a_case():
    assert set(CASES) == {rule["alert"] for rule in rules()}


QUIET: dict[str, dict[str, str]] = {
    "TtrlNotLearning": {
        "process_start_time_seconds": "0x120", "ttrl_last_run_timestamp_seconds": "0x120",
        "ttrl_next_run_timestamp_seconds": "1x120", "ttrl_learning_paused": "0x120",
    },
    "TtrlNothingToLearn": {
        'ttrl_runs_total{state="nothing"}': "0x30 1x30 2x60",
        'ttrl_runs_total{state="published"}': "0x120",
    },
}  # fmt: skip
"""A daemon that has just begun, for two hours."""


def test_every_reason_of_a_loss_is_there_from_the_start():
    """What appears above 0 with its first event is no increase to Prometheus."""
    (rule,) = (rule for rule in rules() if rule["alert"] == "TtrlQuestionsLost")
    (reasons,) = re.findall(r'reason=~"([^"]+)"', rule["expr"])
    start = Metrics().registry.get_sample_value
    for reason in reasons.split("|"):
        assert start("ttrl_questions_skipped_total", {"reason": reason}) == 0


@needs_prometheus
@pytest.mark.integration
@pytest.mark.parametrize("alert", QUIET)
def test_a_beginning_is_no_alarm(alert, tmp_path):
    cleared = [
        {"eval_time": f"{minute}m", "alertname": alert, "exp_alerts": []} for minute in (70, 119)
    ]
    _tested(tmp_path, QUIET[alert], cleared)


@needs_prometheus
@pytest.mark.integration
@pytest.mark.timeout(300)  # days of series, minute by minute
@pytest.mark.parametrize("alert", CASES)
def test_it_fires_and_clears_for_each_daemon(alert, tmp_path):
    """One Prometheus, two daemons: neither's alerts hide or break the other's."""
    series, fires, cleared, labels = CASES[alert]
    rule = next(rule for rule in rules() if rule["alert"] == alert)
    daemons = ("one", "two")
    fired = [
        {
            "exp_labels": {**rule["labels"], "job": "ttrl", "instance": daemon, **labels},
            "exp_annotations": rule["annotations"],
        }
        for daemon in daemons
    ]
    both = {_of(daemon, name): values for name, values in series.items() for daemon in daemons}
    at = [
        {"eval_time": f"{fires}m", "alertname": alert, "exp_alerts": fired},
        {"eval_time": f"{cleared}m", "alertname": alert, "exp_alerts": []},
    ]
    _tested(tmp_path, both, at)


def _of(instance, series):
    """A series as a daemon among others has it."""
    name, _, rest = series.removesuffix("}").partition("{")
    mine = [f'instance="{instance}"', "" if 'job="' in rest else 'job="ttrl"', rest]
    return f"{name}{{{','.join(filter(None, mine))}}}"


def _tested(tmp_path, series, at):
    test = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "alert_rule_test": at,
    }
    file = tmp_path / "test.json"
    days = any(int(each["eval_time"].rstrip("m")) > DAY for each in at)
    every = "5m" if days else "1m"  # thousands of minutes take half a minute
    told = {"rule_files": [str(RULES)], "evaluation_interval": every, "tests": [test]}
    file.write_text(json.dumps(told))
    promtool("test", "rules", str(file))
