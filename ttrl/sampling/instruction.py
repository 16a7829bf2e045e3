"""The instruction for the form of the answer that prompts sampled for training carry, and which of
them carry none."""

from __future__ import annotations

import re
from typing import Any

from ttrl.answers.phrases import Phrases
from ttrl.questions.question import Question, digest, message_text

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
