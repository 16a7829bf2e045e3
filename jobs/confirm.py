"""What the labels that an operator gave since say of held versions."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from ttrl.config import GateConfig
from ttrl.evaluation import gate
from ttrl.evaluation.evidence import budget
from ttrl.evaluation.gate import BY_LABELS, Certainty, Outcome, Rule, Verdict
from ttrl.store import Store
from ttrl.store.adapters import AdapterRow, AdapterState, Author
from ttrl.store.runs import StoredVerdict


@dataclass(frozen=True)
class Confirmation:
    """A held version, what is sure of it by now, and why it does not serve for that all the same;
    empty when it is wanted from now on."""

    adapter: str
    run_id: int
    certainty: Certainty
    but: str


def run(store: Store, settings: GateConfig) -> list[Confirmation]:
    """Look at every held version whose answers were judged since its gate; want those that are
    `better` by these judgements."""
    found = []
    for row in store.adapters.all():
        if row.state is AdapterState.HELD and row.run_id is not None:
            verdict = store.runs.verdict(row.run_id)
            worth = store.comparisons.worth(row.run_id)
            if verdict is not None and worth:
                first = store.comparisons.first_judged(row.run_id)
                past = [at for at in store.runs.labelled_gates() if at < first]
                certainty = gate.confirm(worth, budget(past, first, settings))
                found.append(_confirm(store, row, row.run_id, verdict, certainty))
    return found


def _confirm(
    store: Store, row: AdapterRow, run_id: int, verdict: StoredVerdict, certainty: Certainty
) -> Confirmation:
    but = _objection(store, verdict, certainty)
    if not but:
        reason = f"{Verdict.BETTER}: answers judged by hand: {certainty}"
        evidence = {**verdict.evidence, "certainty": asdict(certainty), "reason": reason}
        store.runs.add_verdict(
            {
                "run_id": run_id,
                "adapter": row.name,
                "against": verdict.against,
                "verdict": Verdict.BETTER,
                "evidence": evidence,
            }
        )
        store.adapters.want(row.name, author=Author.LABELS, reason=reason)
    return Confirmation(row.name, run_id, certainty, but)


def _objection(store: Store, verdict: StoredVerdict, certainty: Certainty) -> str:
    """What labels say against it. What only shows without labels (length, distance) is no
    objection once labels prove it better."""
    if not certainty.proves:
        return str(certainty)
    live, versions = store.adapters.serving().adapter, {row.name for row in store.adapters.all()}
    if live != (verdict.against if verdict.against in versions else None):
        return f"it was compared with {verdict.against}, which is no longer live"
    checks = [check for check in verdict.evidence["checks"] if check["rule"] in BY_LABELS]
    if doubts := [check["words"] for check in checks if check["outcome"] != Outcome.PASSED]:
        return "; ".join(doubts)
    if live and not any(check["rule"] == Rule.BASE for check in checks):
        return "no labelled probes show that it is not worse than the base"
    return ""
