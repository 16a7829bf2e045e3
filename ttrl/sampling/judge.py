"""The engine as the judge of meanings."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from functools import cached_property, partial

from ttrl.engine import threads
from ttrl.engine.client import EngineClient, EngineError
from ttrl.engine.pacing import MODEST, Pacer
from ttrl.meaning import Judge
from ttrl.meaning.judging import Pair
from ttrl.sampling.groups import PRIORITY

PROMPT = """\
Two answers to a question are to be compared.

Question:
{question}

Answer 1:
{one}

Answer 2:
{other}

Does answer 1 say all that answer 2 says, with the same facts, numbers, names and conditions, so \
that answer 2 is right whenever answer 1 is? Reply with one word, yes or no."""

log = logging.getLogger(__name__)


class EngineJudge(Judge):
    """Asks the base model, which no training changes, for one token: how likely its "yes" is, and
    how likely its "no". That works with any engine, costs no grammar, and shows where a model has
    something else to say first, as one that always thinks. Paced as all our requests."""

    words = "the engine's base model, asked about two answers at a time"

    def __init__(self, client: EngineClient, pacer: Pacer, most: int) -> None:
        super().__init__(most)
        self._client, self._pacer = client, pacer

    def follows(self, question: str, pairs: Sequence[Pair]) -> list[bool | None]:
        """As Judge has it. Raises PacerClosed."""
        return list(threads.map_in_order(partial(self._ask, question), pairs, width=MODEST))

    def _ask(self, question: str, pair: Pair) -> bool | None:
        one, other = pair
        text = PROMPT.format(question=question, one=one, other=other)
        try:
            with self._pacer.slot():
                first = self._client.first_token(text, model=self._model, priority=PRIORITY)
        except EngineError as error:
            log.debug("two answers could not be compared: %s", error)
            return None
        return says_yes(first)

    @cached_property
    def _model(self) -> str:
        return self._client.base_model().name


def says_yes(logprobs: Mapping[str, float]) -> bool | None:
    """Which of yes and no is likelier as the first token that is no white space, or its beginning;
    None where something else is likelier than both together."""
    shares = {"yes": 0.0, "no": 0.0}
    blank = 0.0
    for token, logprob in logprobs.items():
        plain = token.strip(" \n\t▁Ġ\"'*").casefold()
        blank += 0.0 if plain else math.exp(logprob)
        for answer in shares:
            if plain and answer.startswith(plain):
                shares[answer] += math.exp(logprob)
    return shares["yes"] > shares["no"] if sum(shares.values()) > (1 - blank) / 2 else None
