"""What the labels that an operator gave since say of held versions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from ttrl import gate
from ttrl.checks import Outcome, Rule
from ttrl.evidence import spent
from ttrl.gate import Certainty, Verdict
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


def run(store: Store) -> list[Confirmation]:
    """Look at every held version whose answers were judged since its gate; want those that are
    `better` by these judgements."""
    found = []
    for row in store.adapters.all():
        if row.state is AdapterState.HELD and row.run_id is not None:
            verdict = store.runs.verdict(row.run_id)
            worth = store.comparisons.worth(row.run_id)
            if verdict is not None and worth:
                found.append(_confirm(store, row, verdict, worth))
    return found


def _confirm(
    store: Store, row: AdapterRow, verdict: StoredVerdict, worth: Sequence[float]
) -> Confirmation:
    past = [(at, better) for at, better in store.runs.labelled_gates() if at < verdict.at]
    certainty = gate.confirm(verdict.e, worth, spent(past, verdict.at))
    but = _objection(store, verdict, certainty)
    if not but:
        reason = f"{Verdict.BETTER}: {len(worth)} answers judged by hand; {certainty}"
        evidence = {**verdict.evidence, "certainty": asdict(certainty), "reason": reason}
        store.runs.add_verdict(
            {
                "run_id": row.run_id,
                "adapter": row.name,
                "against": verdict.against,
                "verdict": Verdict.BETTER,
                "evidence": evidence,
            }
        )
        store.adapters.want(row.name, author=Author.LABELS, reason=reason)
    assert row.run_id is not None
    return Confirmation(row.name, row.run_id, certainty, but)


def _objection(store: Store, verdict: StoredVerdict, certainty: Certainty) -> str:
    if verdict.verdict != Verdict.SHARPER:
        return f"its gate found it {verdict.verdict}"
    if not certainty.proves:
        return str(certainty)
    live, versions = store.adapters.serving().adapter, {row.name for row in store.adapters.all()}
    if live != (verdict.against if verdict.against in versions else None):
        return f"it was compared with {verdict.against}, which no longer serves"
    if live and verdict.outcomes.get(Rule.BASE) != Outcome.PASSED:
        return "no labelled probes show that it is not worse than the base"
    return ""
