"""The prompts that a question is sampled by for training: with an instruction for the form of the
answer, unless its own prompt says one; and in other words, so that an answer that only its wording
brings about does not win the vote (Self-Harmony, arXiv 2511.01191)."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ttrl import plugins
from ttrl.answers.phrases import Phrases
from ttrl.answers.thoughts import spoken
from ttrl.config import VoteConfig
from ttrl.config.learning import OFFERED_REPHRASERS
from ttrl.meaning import same_facts
from ttrl.questions.question import Question, digest, from_prompt, message_text

PROMPT = """\
Say the following question in other words. Ask for exactly the same, and keep every number, name, \
unit and condition. Do not answer it. Reply with the new wording alone.

{question}"""
SPARE = 2
"""Wordings asked for at once, for each that is needed: some say another thing."""

Ask = Callable[[Question, int], Sequence[str]]
"""Returns so many answers of the engine to a question."""


@dataclass
class Views:
    """Makes up to `count` other wordings of a question, once, by the function `rephrase`, or by
    asking the engine."""

    count: int = 0
    rephrase: Callable[[str], Iterable[str]] | None = None
    questions: int = 0
    """Of how many questions other wordings were wanted."""
    without: int = 0
    """How many of these have too few, since what came said another thing, or the same."""
    _found: dict[str, list[Question]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def of(self, question: Question, ask: Ask) -> Sequence[Question]:
        """Return the other wordings of a question. Raises what `ask` and `rephrase` do."""
        if not self.count:
            return ()
        if question.hash not in self._found:
            text, texts = plain_words(question), list[str]()
            if text is not None and self.rephrase:
                texts = list(map(str, self.rephrase(text)))
            elif text is not None:
                prompt = from_prompt(PROMPT.format(question=text))
                texts = [spoken(each) or "" for each in ask(prompt, SPARE * self.count)]
            found = reworded(question, texts)[: self.count]
            with self._lock:
                self._found[question.hash] = found
                self.questions += 1
                self.without += len(found) < self.count
        return self._found[question.hash]

    def remark(self) -> str:
        """Say of how many questions there were too few other wordings."""
        if not self.without:
            return ""
        return f"{self.without} of {self.questions} questions had too few other wordings"


def load(settings: VoteConfig) -> Views:
    """Raises PluginUnknown."""
    name = settings.rephrase if settings.views > 1 else None
    function = plugins.find("rephraser", name, OFFERED_REPHRASERS) if name else None
    return Views(settings.views - 1, function)


def plain_words(question: Question) -> str | None:
    """Return its last message, if that is a user's plain text."""
    last = question.body["messages"][-1]
    plain = last["role"] == "user" and isinstance(last["content"], str)
    return last["content"] if plain else None


def reworded(question: Question, texts: Sequence[str]) -> list[Question]:
    """Return the question in the wordings that differ from it and from one another, and keep its
    facts: the last message says the new words. None where that is not a user's plain text."""
    own = plain_words(question)
    if own is None:
        return []
    *before, last = question.body["messages"]
    seen, found = {_plain(own)}, []
    for text in (each.strip() for each in texts):
        if text and _plain(text) not in seen and same_facts(text, own):
            seen.add(_plain(text))
            body = {**question.body, "messages": [*before, {**last, "content": text}]}
            found.append(Question(body, digest(body), question.sampling))
    return found


def _plain(text: str) -> str:
    return "".join(filter(str.isalnum, text.casefold()))


PLAIN = frozenset({"messages", "chat_template_kwargs", "reasoning_effort"})
"""The fields of a request that say nothing about the form of its answer."""
ENDS_IT = frozenset({"stop", "stop_token_ids", "allowed_token_ids"})
"""The fields of sampling under which an answer of another form would break off or not come."""
_MARK = re.compile(
    r"\\boxed|####|```|</?[A-Za-z_][\w ]*>|\[[A-Z][A-Z _]+\]|\{\s*\"|(?:[:：→]|[-=]>)\s*$"
)
"""A box, a tag, a fence, JSON, a placeholder; or a text whose end announces the answer."""
_SENTENCE_END = re.compile(r"(?<=[.!?;])\s+|[\n。！？；]+")


def instructed(question: Question, instruction: str | None, table: Phrases) -> Question | None:
    """Return the question with the instruction as the last paragraph of its last message, or None
    if it is asked as its user asked it: where there is no instruction, or its own prompt says the
    form. The last message, because not every chat template has a place for a system message, and
    one that is there already is the application's."""
    if instruction is None or names_a_form(question, table):
        return None
    *before, last = question.body["messages"]
    content = last["content"]
    if isinstance(content, str):
        content = f"{content}\n\n{instruction}"
    else:
        content = [*content, {"type": "text", "text": instruction}]
    body: dict[str, Any] = {**question.body, "messages": [*before, {**last, "content": content}]}
    return Question(body, digest(body), question.sampling)


def names_a_form(question: Question, table: Phrases) -> bool:
    """Return whether a prompt says, or shows by an earlier answer, what its answer is to look like.
    In doubt it does: such a question is sampled as its user asked it, and nothing is lost."""
    sent = question.body.keys() - PLAIN | (question.sampling or {}).keys() & ENDS_IT
    if sent or question.exchanges or question.body["messages"][-1]["role"] != "user":
        return True
    texts = [message_text(each) for each in question.body["messages"]]
    words = table.patterns
    if any(_MARK.search(text) or words["formats"].search(text) for text in texts):
        return True
    return any(
        words["shapes"].search(sentence)
        and (words["answering"].search(sentence) or words["requests"].match(sentence.lstrip()))
        for text in texts
        for sentence in _SENTENCE_END.split(text)
    )
