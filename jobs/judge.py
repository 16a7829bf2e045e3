"""The judge of a run or a measurement: which one it is, what labels say of it, what it scores."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from statistics import fmean

from jobs.probes import Compared, Item
from jobs.process import signals_deferred
from ttrl.answers.thoughts import spoken
from ttrl.config import Config, JudgeBy, JudgeConfig
from ttrl.engine import threads
from ttrl.engine.client import EngineClient
from ttrl.engine.pacing import Pacer
from ttrl.evaluation.estimates import Reliability
from ttrl.evaluation.evidence import Answered
from ttrl.evaluation.gate import NOT_SHOWN
from ttrl.events import Scored
from ttrl.judge import FOLDER, Scorer
from ttrl.judge.asked import AskedJudge
from ttrl.judge.grading import auc
from ttrl.judge.records import Records
from ttrl.questions.question import Question
from ttrl.sampling.groups import PRIORITY
from ttrl.store import Store

EACH = 2
"""Right and wrong answers to a labelled probe, at most, that show how reliable a judge is."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Judge:
    """`scorer` is None where there is no judge, or none to be used; `why_not` says so. It is
    `reliable` if labels show that it is right more often than wrong."""

    settings: JudgeConfig
    scorer: Scorer | None = None
    reliable: bool = False
    why_not: str = ""

    def for_rewards(self, rewards: Mapping[str, float]) -> Scorer | None:
        """Return the judge if a reward or the vote needs it."""
        return self.scorer if rewards.get("judge") or self.settings.weight else None

    def doubt(self, rewards: Mapping[str, float]) -> str:
        """Say why its scores certify no candidate; empty if they may. What a candidate was trained
        towards says little of it."""
        if self.for_rewards(rewards):
            return "the candidate was trained towards its scores"
        return "" if self.reliable else NOT_SHOWN

    def compared(self, compared: Sequence[Compared]) -> list[Compared]:
        """Return what the gate compares with scores of the live version's and the candidate's
        answers. Raises PacerClosed."""
        if self.scorer is None or not self.settings.gate:
            return list(compared)

        def one(each: Compared) -> Compared:
            probe, question = each.probe, each.item.question
            live, candidate = (
                self._mean(question, probe.live),
                self._mean(question, probe.candidate),
            )
            base = live if probe.base is probe.live else probe.base
            return replace(each, probe=replace(probe, base=base, live=live, candidate=candidate))

        return list(threads.map_in_order(one, compared, width=self.settings.in_flight))

    def _mean(self, question: Question, answered: Answered) -> Answered:
        assert self.scorer is not None
        first = [spoken(text) or "" for text in answered.texts[: self.settings.gate]]
        scores = [score for score in self.scorer.scores(question, first) if score is not None]
        return replace(answered, score=fmean(scores) if scores else None)

    def agreeing(self, answered: Iterable[tuple[Item, Answered]]) -> dict[str, list[float]]:
        """Return, under the judge's name, for each labelled probe with right and wrong answers the
        share of their pairs in which the right one scores higher. Raises PacerClosed."""
        if self.scorer is None:
            return {}
        shares = threads.map_in_order(
            partial(self._share, self.scorer), list(answered), width=self.settings.in_flight
        )
        return {self.scorer.key: [share for share in shares if share is not None]}

    def _share(self, scorer: Scorer, of: tuple[Item, Answered]) -> float | None:
        item, says = of
        texts: dict[bool, list[str]] = {True: [], False: []}
        for text, right in zip(says.texts, says.right or (), strict=False):
            if (said := spoken(text)) and said.strip() and said not in texts[right]:
                texts[right].append(said)
        chosen = [(right, text) for right in texts for text in texts[right][:EACH]]
        if not (texts[True] and texts[False]):
            return None
        scores = scorer.scores(item.question, [text for _, text in chosen])
        pairs = zip(chosen, scores, strict=True)
        return auc([(right, score) for (right, _), score in pairs if score is not None])

    def spent(self) -> Scored | None:
        """Return what it did since this was last called; None if it did nothing."""
        if self.scorer is None:
            return None
        spent = self.scorer.cost.take()
        if not (spent.answers or spent.requests):
            return None
        return Scored(**{**vars(spent), "answers": dict(spent.answers)})

    def remarks(self) -> tuple[str, str]:
        return self.why_not, self.scorer.cost.remark() if self.scorer else ""


@contextmanager
def judge_for(
    config: Config,
    store: Store | None,
    client: EngineClient,
    pacer: Pacer,
    *,
    measuring: bool = False,
) -> Iterator[Judge]:
    """Yield the configured judge. One that labels in the store show to be wrong more often than
    right is left out, but for `measuring`, and so is one that cannot be loaded: that ends no run.
    """
    settings = config.judge
    try:
        scorer = _load(config, client, pacer)
    except (ImportError, OSError, ValueError, RuntimeError) as error:
        first_line = str(error).partition("\n")[0]
        log.warning("the judge cannot be loaded: %s", first_line)
        yield Judge(settings, why_not=f"without the judge, which cannot be loaded: {first_line}")
        return
    if scorer is None:
        yield Judge(settings)
        return
    newest = store.measurements.newest(Reliability) if store else None
    try:
        if newest and scorer.key in newest.found.misleading and not measuring:
            yield Judge(settings, why_not=f"by labels often wrong, so not asked: {scorer.key}")
        else:
            reliable = newest is not None and scorer.key in newest.found.reliable
            yield Judge(settings, scorer, reliable)
    finally:
        scorer.close()


def _load(config: Config, client: EngineClient, pacer: Pacer) -> Scorer | None:
    settings = config.judge
    match settings.by:
        case JudgeBy.MODEL:
            assert settings.url is not None
            return AskedJudge(
                settings,
                Records(config.state_dir),
                url=settings.url,
                model=settings.model,
                api_key=settings.api_key,
            )
        case JudgeBy.BASE:
            return AskedJudge(
                settings,
                Records(config.state_dir),
                url=client.url,
                model=client.base_model().name,
                api_key=config.engine.api_key,
                pacer=pacer,
                priority=PRIORITY,
            )
        case JudgeBy.DISTILLED:
            folder = settings.distilled or config.state_dir / FOLDER / "distilled"
            if not folder.is_dir():
                raise FileNotFoundError(f"none in {folder}; `ttrl judge distill` makes one")
            with signals_deferred():
                from ttrl.judge.distilled import DistilledJudge  # imports torch
            return DistilledJudge(folder, settings.device)
    return None
