"""What is measured without training: how good the live version is, whether the questions have
drifted, and how many of some questions have a training signal.

A process of its own, `python -m jobs.measure`, for what is measured between runs. Drift is found by
clustering the newest questions and those before them, and comparing the shares of the clusters
(ttrl.evaluation.drift).
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from statistics import fmean
from types import MappingProxyType
from typing import Any

from jobs import process
from jobs.evaluation import Asker, quality_of, staleness_of
from jobs.judge import judge_for
from jobs.probes import Item, to_ask
from jobs.process import reader_for
from ttrl import rewards, verifiers
from ttrl.answers import Reader
from ttrl.answers.layers import END, EXAMPLES, UNREAD, Layer
from ttrl.answers.thoughts import spoken
from ttrl.config import AnswerKind, Config, MeaningBy, MeaningConfig
from ttrl.engine.client import EngineClient, EngineError
from ttrl.evaluation import drift
from ttrl.evaluation.drift import Shift
from ttrl.evaluation.estimates import Quality, Reliability, each_estimated
from ttrl.evaluation.evidence import Answered
from ttrl.evaluation.probes import Label, ProbeOrigin
from ttrl.questions.question import Question
from ttrl.sampling.groups import Group, Roller, cut_off, pacer_for, with_length
from ttrl.store import Store
from ttrl.store.measurements import Kind
from ttrl.store.questions import QuestionState, StoredQuestion
from ttrl.verifiers import Verifier

FEWEST = 100
"""Questions of each time without which nothing is said."""
MOST = 2_000
"""Questions of each time that are looked at, the newest."""
BEFORE = 4
"""Windows that the newest one is compared with."""
GROUPS = 10
DIMENSIONS = 32
WORTH_IT = 0.1
"""A smaller share of questions that could teach is hardly worth a run."""
MOST_UNLABELLED = 0.5
"""If a larger share has no majority label, a run spends most of its samples on nothing."""

UNBIASED = frozenset({ProbeOrigin.OPERATOR, ProbeOrigin.RANDOM})
"""Labels that were not asked for because an answer looked wrong: those would say that majorities
are wrong more often than they are."""
Progress = Callable[[int, int], None]
WHAT = (Kind.QUALITY, Kind.QUESTIONS)


@dataclass(frozen=True)
class Measured:
    """What was found of the `version` that serves (None: the base model); None: too few probes or
    questions. `remarks` say how many probes were left out."""

    version: str | None
    quality: Quality | None
    questions: Shift | None
    signals: Reliability | None = None
    """By labelled probes; None without any."""
    remarks: str = ""


def run(
    config: Config,
    store: Store,
    client: EngineClient,
    progress: Progress = lambda *_: None,
    what: Collection[Kind] = WHAT,
) -> Measured:
    """Measure the version that serves on every probe, compare the questions, and write both down.
    Raises EngineError, PacerClosed, MeaningRefused."""
    version = store.adapters.serving().adapter
    quality, signals, remarks = None, None, ""
    if Kind.QUALITY in what and (asked := to_ask(store, config.gate)):
        config = with_length(config, client)
        model = version or client.base_model().name
        with pacer_for(client, config.vote) as pacer:
            usage = store.questions.usage(config.gate.min_probes)
            asker = Asker(client, config, pacer, reader_for(config, client, pacer), usage)
            found = asker.ask([model], asked, lambda done: progress(done, len(asked)))
            answered = [(one, says) for one, (says,) in asker.read(found)]
            with judge_for(config, store, client, pacer, measuring=True) as judge:
                agreeing = judge.agreeing(answered)
                remarks = "; ".join(filter(None, judge.remarks()))
        looked = staleness_of(store, (one for one, _ in answered))
        quality = quality_of(store, config.gate, answered, looked)
        remarks = "; ".join(filter(None, (asker.remarks(), remarks)))
    if quality is not None:
        quality = replace(quality, remarks=remarks)
        store.measurements.add(version, quality)
        verifier = verifiers.load(config.verify)
        signals = reliability_of(verifier, answered, agreeing)
        remarks = "; ".join(filter(None, (remarks, verifier.remark())))
        if signals != Reliability():  # or the ones before are still the newest
            store.measurements.add(None, signals)
    shift = shift_of_questions(config, store) if Kind.QUESTIONS in what else None
    if shift is not None:
        store.measurements.add(None, shift)
    return Measured(version, quality, shift, signals, remarks)


def reliability_of(
    verifier: Verifier,
    answered: Iterable[tuple[Item, Answered]],
    judge: Mapping[str, Sequence[float]] = MappingProxyType({}),
) -> Reliability:
    """Hold what checks and majorities say of answers to labelled probes against the labels; of the
    judge the shares, of one probe after the other, that agree with them are given."""
    agreeing = defaultdict[str, list[float]](list)
    kinds = defaultdict[AnswerKind, list[float]](list)
    tags = defaultdict[str, list[float]](list)
    for item, says in answered:
        if not says.right or item.label is None:
            continue
        if says.vote.label is not None and item.label.origin in UNBIASED:
            kinds[says.kind].append(says.majority_right)
            for tag in item.label.tags:
                tags[tag].append(says.majority_right)
        texts = [spoken(text) or "" for text in says.texts]
        for name, findings in verifier.findings(item.question, texts, says.answers).items():
            judged = zip(texts, findings, says.right, strict=True)
            same = [found is right for text, found, right in judged if text and found is not None]
            if same:
                agreeing[name].append(fmean(same))
    checks = each_estimated({**agreeing, **judge})
    return Reliability(checks, each_estimated(kinds), each_estimated(tags))


def shift_of_questions(config: Config, store: Store) -> Shift | None:
    """Compare the questions of the newest window with those before it; None if there are too few of
    either, or none has a letter or digit."""
    now, window = time.time(), config.measure.window.total_seconds()
    after = store.questions.asked(now - window, now, limit=MOST)
    before = store.questions.asked(now - (BEFORE + 1) * window, now - window, limit=MOST)
    texts = [*before, *after]
    if min(len(before), len(after)) < FEWEST or not any(map(str.isalnum, "".join(texts))):
        return None
    from sklearn.cluster import KMeans

    means = KMeans(min(GROUPS, len(set(texts))), n_init=4, random_state=0)
    groups = [int(group) for group in means.fit_predict(_vectors(texts, config.meaning))]
    return drift.compare(groups[: len(before)], groups[len(before) :])


def _vectors(texts: Sequence[str], meaning: MeaningConfig) -> Any:
    if meaning.compared_by is MeaningBy.EMBEDDINGS:
        from ttrl.meaning.embeddings import Embeddings

        return Embeddings(meaning.model, device=meaning.device).vectors(texts)
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    letters = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), use_idf=False)
    found = letters.fit_transform(texts)
    if found.shape[1] <= DIMENSIONS:
        return found.toarray()
    return TruncatedSVD(DIMENSIONS, random_state=0).fit_transform(found)


@dataclass(frozen=True)
class Assessment:
    """What was found on a sample of the questions; shares are of those asked."""

    questions: int
    asked: int
    refused: int
    failed: int
    """That the engine did not answer, though it was asked again."""
    teachable: float
    """A majority, and answers that differ from it: an update can learn from these."""
    unanimous: float
    """All agree: nothing to learn."""
    no_label: float
    """A tie, too few readable answers, or too small a majority."""
    no_label_reasons: dict[str, int]
    mean_share: float
    """Of the majority answer, where there is one."""
    labelled: int
    """Of those that the engine answered, how many have an answer in the file."""
    majority_right: float | None
    """Share of these whose majority answer is correct; None if there are none."""
    pass_at_1: float | None
    """Share of their samples that are correct."""
    layers: Mapping[Layer, int]
    """Its samples, by how they were read or why not."""
    unread: Sequence[Mapping[str, str]]
    """The ends of a few that were not read, with `question`, `layer` and `text`."""
    cut_off_words: str
    """What to do about samples that were cut off; empty if they are few."""
    tokens_per_sample: float
    samples_per_run: int
    """That a run would draw, over as many of them as `selection.max_questions` allows."""
    seconds_per_run: float
    """Of sampling alone, at the speed measured here."""
    why_not: str
    """Why a run is not worth it; empty if it is."""

    @property
    def worth_it(self) -> bool:
        return not self.why_not


def why_not(teachable: float, no_label: float, scores: Sequence[tuple[bool, float]] = ()) -> str:
    """Return why a run over questions is not worth it, or an empty string. `scores` are of those
    that could teach and whose answers are known: whether the majority is correct, and the share of
    correct samples, which training moves towards it."""
    if no_label > MOST_UNLABELLED:
        return "most questions have no majority label"
    if teachable < WORTH_IT:
        return "too little training signal"
    if scores:
        majorities, samples = (fmean(values) for values in zip(*scores, strict=True))
        if majorities < 0.5 or majorities <= samples:
            return (
                f"training would probably do harm: {majorities:.0%} of the majority answers are "
                f"correct, {samples:.0%} of single samples (by {len(scores)} of the file's answers)"
            )
    return ""


def _score(group: Group, accepted: Sequence[str], reader: Reader) -> tuple[bool, float]:
    label = Label(group.question.question, tuple(accepted), None, ())
    answers = group.vote.answers
    texts = dict(zip(answers, (sample.text for sample in group.drawn.samples), strict=True))
    right = {
        answer: answer is not None and label.right(text, reader, group.vote.kind)
        for answer, text in texts.items()
    }
    return right.get(group.vote.label, False), fmean(right[answer] for answer in answers)


def assess(
    client: EngineClient,
    config: Config,
    questions: Sequence[Question],
    *,
    version: str | None,
    limit: int,
    progress: Progress = lambda *_: None,
    answers: Mapping[str, Sequence[str]] | None = None,
) -> Assessment:
    """Vote on at most `limit` of the questions, drawn at random, with the samples of a version
    (None: the base model), and compare them with the correct `answers`, by the hashes of the
    questions. Raises EngineError when the engine answers none of them."""
    rewards.load(config.vote.rewards)
    verifier = verifiers.load(config.verify)
    chosen = random.Random(config.update.seed).sample(questions, min(limit, len(questions)))
    rows = [
        StoredQuestion(number, question, 1, False, QuestionState.NEW, None)
        for number, question in enumerate(chosen)
    ]
    config = with_length(config, client)
    model, width = version or client.base_model().name, config.vote.in_flight
    refused: list[EngineError] = []
    failed: list[Exception] = []
    groups: list[Group] = []
    began = time.monotonic()
    with (
        pacer_for(client, config.vote) as pacer,
        judge_for(config, None, client, pacer) as judge,
    ):
        reader = reader_for(config, client, pacer)
        roller = Roller(
            client,
            config.vote,
            config.update,
            pacer,
            reader,
            verifier=verifier,
            judge=judge.for_rewards(config.vote.rewards),
            judge_weight=config.judge.weight,
        )
        for start in range(0, len(rows), width):
            for group in roller.each(
                deque(rows[start : start + width]),
                version=model,
                draw=0,
                refused=lambda _, error: refused.append(error),
                failed=lambda _, error: failed.append(error),
            ):
                groups.append(group)
                progress(len(groups), len(rows))
            if failed and not groups:
                break
        groups.sort(key=lambda group: group.question.id)
        seconds = time.monotonic() - began
        scores = [
            (group, *_score(group, known, reader))
            for group in groups
            if (known := (answers or {}).get(group.question.question.hash))
        ]
    if not groups and (errors := failed or refused):
        raise errors[0]

    asked = len(groups) + len(refused)
    fates = Counter(group.fate[0] for group in groups)
    unlabelled = (group for group in groups if group.fate[0] is QuestionState.NO_LABEL)
    unread = {
        group.question.question.text: (layer, sample.text[-END:])
        for group in groups
        for layer, sample in zip(group.vote.layers, group.drawn.samples, strict=True)
        if layer in UNREAD
    }
    shares = [group.vote.share for group in groups if group.vote.label is not None]
    layers = Counter(layer for group in groups for layer in group.vote.layers)
    samples = layers.total()
    teachable = fates[QuestionState.LEARNED_FROM] / max(asked, 1)
    update, of_a_run = config.update, min(len(questions), config.selection.max_questions)
    taught = round(teachable * of_a_run)
    asked_in_all = update.steps_over(of_a_run) * min(update.questions_per_step, taught)
    if update.steps is None:  # what cannot teach is asked as well, at least once
        asked_in_all = update.passes * taught + of_a_run - taught
    a_run = asked_in_all * config.vote.samples
    return Assessment(
        questions=len(questions),
        asked=asked,
        refused=len(refused),
        failed=len(failed),
        teachable=teachable,
        unanimous=fates[QuestionState.NO_SIGNAL] / max(asked, 1),
        no_label=fates[QuestionState.NO_LABEL] / max(asked, 1),
        no_label_reasons=dict(Counter(str(group.vote.outcome) for group in unlabelled)),
        mean_share=fmean(shares) if shares else 0.0,
        labelled=len(scores),
        majority_right=fmean(right for _, right, _ in scores) if scores else None,
        pass_at_1=fmean(share for _, _, share in scores) if scores else None,
        layers=dict(layers),
        unread=[
            {"question": question, "layer": layer, "text": text}
            for question, (layer, text) in islice(unread.items(), EXAMPLES)
        ],
        cut_off_words=cut_off(layers, config.vote.longest),
        tokens_per_sample=sum(group.tokens for group in groups) / max(samples, 1),
        samples_per_run=a_run,
        seconds_per_run=round(a_run * seconds / max(samples, 1), 1),
        why_not=why_not(
            teachable,
            fates[QuestionState.NO_LABEL] / max(asked, 1),
            [(right, share) for group, right, share in scores if group.informative],
        ),
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m jobs.measure")
    parser.add_argument("--engine-url", required=True)
    parser.add_argument("what", nargs="+", type=Kind, choices=WHAT)
    arguments = parser.parse_args()
    config = process.configure()
    engine = process.engine_client(config, arguments.engine_url)
    with Store.open(config.state_dir, config.store.url) as store, engine:
        run(config, store, engine, what=arguments.what)
    return 0


if __name__ == "__main__":
    sys.exit(main())
