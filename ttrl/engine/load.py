"""What an engine says of its own work, in vLLM's words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

RUNNING = "vllm:num_requests_running"
WAITING = "vllm:num_requests_waiting"
PROMPT_TOKENS = "vllm:prompt_tokens_total"
GENERATION_TOKENS = "vllm:generation_tokens_total"
NAMES = (RUNNING, WAITING, PROMPT_TOKENS, GENERATION_TOKENS)


@dataclass(frozen=True)
class Load:
    """`running` and `waiting` answers (a request for n of them counts n times, whoever asked), and
    the `tokens` read and generated since the engine began: while they grow, it does not hang."""

    running: int
    waiting: int
    tokens: int


def read_load(exposition: str) -> Load | None:
    """The load from Prometheus' text format, summed over several engines; None when it does not
    hold all of it (vLLM with --disable-log-stats, another server's page)."""
    # Chosen before they are parsed: vLLM's page has a thousand lines, and this is read often.
    lines = (line for line in exposition.splitlines() if line.startswith(NAMES))
    try:
        sums = _sums(lines)
        if sums.keys() != set(NAMES):
            return None
        tokens = sums[PROMPT_TOKENS] + sums[GENERATION_TOKENS]
        return Load(int(sums[RUNNING]), int(sums[WAITING]), int(tokens))
    except (ValueError, IndexError, OverflowError):  # the parser's; of NaN; of infinity
        return None


def _sums(lines: Iterable[str]) -> Mapping[str, float]:
    sums: dict[str, float] = {}
    for family in text_string_to_metric_families("\n".join(lines)):
        for sample in family.samples:
            if sample.name in NAMES:  # and not one that only begins like it
                sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
    return sums
