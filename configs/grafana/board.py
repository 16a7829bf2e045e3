"""Makes the board: `python configs/grafana/board.py` writes dashboards/ttrl.json beside it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILE = Path(__file__).parent / "dashboards" / "ttrl.json"
SOURCE = {"type": "prometheus", "uid": "${source}"}
RATE, RANGE = "$__rate_interval", "$__range"
WIDTH, HEIGHT = 6, 7
"""Of a panel, in Grafana's units; a row has 24."""


@dataclass(frozen=True)
class Panel:
    """A graph, or the newest value: what it asks Prometheus, by legend."""

    title: str
    asks: dict[str, str]
    unit: str = "short"
    stat: bool = False
    about: str = ""
    seldom: bool = False
    """Empty in a usual night: it is of a GPU, or of an alarm."""


def rate(name: str, by: str = "") -> str:
    inner = f"rate({name}[{RATE}])"
    return f"sum by ({by}) ({inner})" if by else f"sum({inner})"


def quantile(part: float, name: str) -> str:
    return f"histogram_quantile({part}, {rate(f'{name}_bucket', 'le')})"


def grown(name: str, by: str = "") -> str:
    """How often it happened: Prometheus reckons with what lies between scrapes, as with 1.006."""
    inner = f"increase({name}[{RANGE}])"
    return f"round(sum by ({by}) ({inner}))" if by else f"round(sum({inner}))"


ROWS: dict[str, list[Panel]] = {
    "Serving": [
        Panel("State", {
            "engine up": "ttrl_engine_up",
            "users get what they should": "ttrl_live_adapter_is_wanted",
            "store up": "ttrl_store_up",
            "a run is under way": "ttrl_run_active",
            "learning paused": "ttrl_learning_paused",
        }, "bool_yes_no", stat=True),
        Panel("Requests", {"{{code}}": rate("ttrl_http_requests_total", "code")}, "reqps"),
        Panel("Time to the end of an answer", {
            "half": quantile(0.5, "ttrl_http_request_duration_seconds"),
            "95%": quantile(0.95, "ttrl_http_request_duration_seconds"),
        }, "s"),
        Panel("Time to the first byte", {
            "half": quantile(0.5, "ttrl_http_first_byte_seconds"),
            "95%": quantile(0.95, "ttrl_http_first_byte_seconds"),
        }, "s"),
        Panel("Under way, and failed", {
            "under way": "ttrl_http_requests_in_flight",
            "client went away, a minute": f"60 * {rate('ttrl_http_requests_aborted_total')}",
            "engine: {{kind}}, a minute": f"60 * {rate('ttrl_upstream_errors_total', 'kind')}",
        }),
        Panel("Recorded a minute", {
            "recorded": f"60 * {rate('ttrl_questions_recorded_total')}",
            "{{reason}}": f"60 * {rate('ttrl_questions_skipped_total', 'reason')} > 0",
            "waiting": "ttrl_recorder_queue_questions",
        }),
        Panel("Questions", {"{{state}}": "ttrl_questions"}),
        Panel("Room", {
            "disk free": "ttrl_disk_free_bytes",
            "store": "ttrl_store_size_bytes",
        }, "bytes"),
        Panel("GPU memory", {
            "used": "ttrl_gpu_memory_used_bytes",
            "of": "ttrl_gpu_memory_size_bytes",
        }, "bytes", seldom=True),
    ],
    "Learning": [
        Panel("Runs", {"{{state}}": f"{grown('ttrl_runs_total', 'state')} > 0"}, stat=True),
        Panel("Next and last run", {
            "next, in": "(ttrl_next_run_timestamp_seconds > 0) - time()",
            "last, ago": "time() - (ttrl_last_run_timestamp_seconds > 0)",
        }, "s", stat=True),
        Panel("Votes", {"{{outcome}}": f"60 * {rate('ttrl_votes_total', 'outcome')}"},
              about="A minute; without a label nothing is learned from it."),
        Panel("Share of the majority", {
            "mean": f"{rate('ttrl_vote_share_ratio_sum')} / {rate('ttrl_vote_share_ratio_count')}",
            "reward, newest step": "ttrl_update_reward_ratio",
        }, "percentunit", about="Rises while a run learns. At 1 nothing is left to learn."),
        Panel("Entropy", {
            "of the votes": "ttrl_vote_entropy_nats",
            "of the next token": "ttrl_update_token_entropy_nats",
        }),
        Panel("Questions with a signal", {
            "has signal": "ttrl_groups_informative_ratio",
            "label flipped": "ttrl_vote_flipped_ratio",
            "same label": "ttrl_vote_alike_ratio",
        }, "percentunit"),
        Panel("Samples, by how they were read", {
            "{{read}}": f"{grown('ttrl_samples_total', 'read')} > 0",
        }, stat=True, about="By which layer of the text, or why not; `ttrl status` has examples."),
        Panel("Distance from the start", {"nats a token": "ttrl_update_kl_nats"}),
        Panel("Engine and trainer differ", {
            "log-probabilities": "ttrl_update_logprob_mismatch_nats",
            "effective sample size": "ttrl_update_effective_ratio",
        }),
        Panel("Length of the samples", {"tokens": "ttrl_samples_length_tokens"}),
        Panel("Sampled", {
            "tokens a second": rate("ttrl_sampled_tokens_total"),
            "answers a second": rate("ttrl_samples_total"),
            "saved a second": rate("ttrl_samples_saved_total"),
            "questions without an answer a second": rate("ttrl_questions_unanswered_total"),
            "requests at once": "ttrl_sampling_in_flight_limit",
        }),
        Panel("Steps", {"of the newest run": "ttrl_run_steps"}),
    ],
    "Quality": [
        Panel("Accuracy on the traffic", {
            "{{role}}": "ttrl_estimated_accuracy_ratio",
            "{{role}}, low": "ttrl_estimated_accuracy_low_ratio",
            "{{role}}, high": "ttrl_estimated_accuracy_high_ratio",
        }, "percentunit", about="By labels and votes, with its 95% interval; none by few labels."),
        Panel("Labelled probes", {
            "{{role}}: pass@1": "ttrl_quality_pass_at_1_ratio",
            "{{role}}: pass@k": "ttrl_quality_pass_at_k_ratio",
            "{{role}}: majority": "ttrl_quality_majority_right_ratio",
        }, "percentunit"),
        Panel("Agreement", {
            "{{role}}: with the majority": "ttrl_quality_agreement_ratio",
            "{{role}}: of two answers": "ttrl_quality_consistency_ratio",
        }, "percentunit", about="What training raises, right or not: no measure of being right."),
        Panel("Readable, declined", {
            "{{role}}: readable": "ttrl_quality_readable_ratio",
            "{{role}}: declined": "ttrl_quality_refused_ratio",
        }, "percentunit"),
        Panel("Tokens of an answer", {"{{role}}": "ttrl_quality_answer_tokens"}),
        Panel("Seconds of an answer", {"{{role}}": "ttrl_quality_answer_seconds"}, "s"),
        Panel("By tag", {"{{tag}}": "ttrl_tag_accuracy_ratio"}, "percentunit"),
        Panel("Asked", {
            "{{role}}: questions": "ttrl_quality_questions",
            "{{role}}: speak for the traffic": "ttrl_estimated_accuracy_labels",
        }),
        Panel("Verdicts", {"{{verdict}}": f"{grown('ttrl_gate_verdicts_total', 'verdict')} > 0"},
              stat=True),
        Panel("Newest candidate against live", {"{{rule}}": "ttrl_gate_difference_ratio"},
              "percentunit"),
        Panel("Right to wrong", {"lost": "ttrl_gate_right_to_wrong_ratio"}, "percentunit",
              about="Of the live version's correct majorities, those that the newest "
                    "candidate lost."),
        Panel("Evidence of labels", {
            "e-value": "ttrl_gate_evidence",
            "asked for": "ttrl_gate_evidence_asked",
        }, about="E-values: what they rest on is in the page's report of the run."),
        Panel("Probes of the newest gate", {"{{kind}}": "ttrl_gate_probes"}, stat=True),
        Panel("Labels of the newest gate", {
            "there": 'ttrl_gate_probes{kind="labelled"}',
            "needed": "ttrl_gate_labels_needed",
        }, stat=True, about="Needed, about, to prove a candidate like the newest one better."),
        Panel("Stopped by a monitor", {
            "run: {{rule}}": "sum by (rule) (ttrl_guard_rulings_total)",
            "live version: {{stream}}": "sum by (stream) (ttrl_shadow_alarms_total)",
            "live version only differs: {{stream}}": "sum by (stream) (ttrl_shadow_alerts_total)",
        }, stat=True, seldom=True, about="Since the daemon's start."),
    ],
    "Drift": [
        Panel("Questions", {
            "PSI": "ttrl_drift_questions_psi",
            "by chance up to": "ttrl_drift_questions_psi_by_chance",
        }, about="The newest week's questions against the four weeks before."),
        Panel("Policy", {"from {{against}}": "ttrl_drift_policy_nats"},
              about="KL divergence of the live version, nats a token."),
        Panel("Live monitor", {"{{stream}}": "ttrl_shadow_evidence_ratio"}, "percentunit",
              about="At 100% the live version is rolled back."),
        Panel("Asked again", {
            "{{outcome}}": f"60 * {rate('ttrl_shadow_questions_total', 'outcome')}",
        }),
    ],
    "Versions": [
        Panel("Live", {"{{version}}": "ttrl_live_adapter_info"}, stat=True),
        Panel("Live for", {
            "seconds": "time() - (ttrl_live_adapter_since_timestamp_seconds > 0)",
        }, "s", stat=True),
        Panel("Promoted, rolled back", {
            "promoted, {{author}}": f"{grown('ttrl_promotions_total', 'author')} > 0",
            "rolled back, {{author}}": f"{grown('ttrl_roll_backs_total', 'author')} > 0",
            "went live": grown("ttrl_live_flips_total"),
            "told: {{outcome}}": f"{grown('ttrl_webhook_notices_total', 'outcome')} > 0",
        }, stat=True),
        Panel("In the store", {
            "{{state}}": "ttrl_adapters",
            "wait for you": "ttrl_adapters_waiting",
        }),
        Panel("Loads and proofs", {
            "load: {{outcome}}": f"{grown('ttrl_adapter_loads_total', 'outcome')} > 0",
            "proof: {{outcome}}": f"{grown('ttrl_adapter_proofs_total', 'outcome')} > 0",
            "engine started again": grown("ttrl_engine_restarts_total"),
        }, stat=True),
        Panel("Seconds of a load, of a proof", {
            "load": f"{rate('ttrl_adapter_load_duration_seconds_sum')} / "
                    f"{rate('ttrl_adapter_load_duration_seconds_count')}",
            "proof": f"{rate('ttrl_adapter_proof_duration_seconds_sum')} / "
                     f"{rate('ttrl_adapter_proof_duration_seconds_count')}",
        }, "s"),
    ],
}  # fmt: skip

ANNOTATIONS = {
    "promoted": ("ttrl_promotions_total", "green"),
    "rejected": ('ttrl_runs_total{state="rejected"}', "orange"),
    "rolled back": ("ttrl_roll_backs_total", "red"),
}


def queries() -> list[tuple[str, str, Panel]]:
    """Every expression, with its title and its panel."""
    return [
        (f"{row}: {panel.title}: {legend}", ask, panel)
        for row, panels in ROWS.items()
        for panel in panels
        for legend, ask in panel.asks.items()
    ]


def board() -> dict[str, Any]:
    """What Grafana reads."""
    panels: list[dict[str, Any]] = []
    y = 0
    for title, of in ROWS.items():
        panels.append(
            {
                "type": "row",
                "title": title,
                "collapsed": False,
                "panels": [],
                "id": len(panels) + 1,
                "gridPos": {"h": 1, "w": 24, "x": 0, "y": y},
            }
        )
        y += 1
        for number, panel in enumerate(of):
            place = {
                "h": HEIGHT,
                "w": WIDTH,
                "x": number * WIDTH % 24,
                "y": y + number * WIDTH // 24 * HEIGHT,
            }
            panels.append(_panel(panel, len(panels) + 1, place))
        y += -(-len(of) * WIDTH // 24) * HEIGHT
    return {
        "uid": "ttrl", "title": "ttrl", "tags": ["ttrl"], "schemaVersion": 39, "version": 1,
        "editable": True, "refresh": "30s", "time": {"from": "now-24h", "to": "now"},
        "templating": {"list": [{"name": "source", "type": "datasource", "query": "prometheus",
                                 "label": "Prometheus"}]},
        "annotations": {"list": [_annotation(*each) for each in ANNOTATIONS.items()]},
        "panels": panels,
    }  # fmt: skip


def _panel(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    made = {
        "id": number,
        "type": "stat" if panel.stat else "timeseries",
        "title": panel.title,
        "description": panel.about,
        "datasource": SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": panel.unit}, "overrides": []},
        "targets": [
            {
                "refId": chr(ord("A") + n),
                "datasource": SOURCE,
                "expr": ask,
                "legendFormat": legend,
                "instant": panel.stat,  # over a range, what is no more would show as well
                "range": not panel.stat,
            }
            for n, (legend, ask) in enumerate(panel.asks.items())
        ],
    }
    if panel.stat:
        made["options"] = {"textMode": "value_and_name", "colorMode": "none"}
    return made


def _annotation(name: str, what: tuple[str, str]) -> dict[str, Any]:
    series, colour = what
    return {"name": name, "datasource": SOURCE, "enable": True, "iconColor": colour,
            "expr": f"sum(increase({series}[{RATE}])) > 0", "titleFormat": name}  # fmt: skip


if __name__ == "__main__":
    FILE.write_text(json.dumps(board(), indent=1) + "\n")
