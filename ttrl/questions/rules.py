"""Which requests teach: the first rule that matches decides, and without one a request does.

Patterns are those of shells (`*`, `?`, `[...]`), which take time linear in a text's length whoever
wrote it: no part of one is tried at a second place once it was found (fnmatch in Python from 3.9).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from ttrl.config import RecordConfig, Rule
from ttrl.questions.question import Question, message_text

SIDE_PROMPTS = (
    Rule(
        name="open_webui",  # titles, tags, follow-ups, searches, completions, pictures
        user=(
            "### task:*<chat_history>*</chat_history>*",
            "here is the query:*title for the previous query*",
            "your task is to reflect*emoji*message: ```*",
        ),
    ),
    Rule(name="open_webui_tools", system=('available tools:*"tool_calls"*',)),
    Rule(
        name="librechat",
        user=(
            "analyze this conversation and provide:*detected language*title*",
            "provide a concise*title for the conversation*conversation:*",
            "please generate a concise title*for a conversation that starts with*",
        ),
    ),
    Rule(
        name="titles",  # of NextChat, and of coding agents
        user=(
            "please generate a four to five word title*",
            "please write a * word title for the following conversation:*",
        ),
    ),
    Rule(
        name="titles_by_system",  # of LobeChat, of coding agents, and of Vercel's template
        system=(
            "you are a professional conversation summarizer*title*",
            "you are an assistant skilled in conversation*into titles*",
            "*analyze if this message indicates a new conversation topic*",
            "*generate a concise, sentence-case title*coding session*",
            "*you will generate a short title based on the first message*",
        ),
    ),
)
"""What chat interfaces ask beside their users, told by marks of their templates."""


@dataclass(frozen=True)
class Circumstances:
    """What rules look at beside the question; None is unknown. `key` is the name of the client's
    key, empty without one; `headers` have small names."""

    key: str | None = None
    model: str | None = None
    headers: Mapping[str, Sequence[str]] | None = None


def rules_of(config: RecordConfig) -> tuple[Rule, ...]:
    """Return the rules in the order in which they are tried."""
    return (*config.rules, *(SIDE_PROMPTS if config.default_rules else ()))


def deciding(
    rules: Sequence[Rule], question: Question, around: Circumstances
) -> tuple[Rule | None, bool]:
    """Return the first rule that matches, None if none does; and whether that is certain: where it
    is not, the rule matches what is known of the request."""
    for rule in rules:
        certain = True
        for found in _found(rule, question, around):
            if found is False:
                break
            certain = certain and found is True
        else:
            return rule, certain
    return None, True


def _found(rule: Rule, question: Question, around: Circumstances) -> Iterator[bool | None]:
    """Yield for each thing that a rule names whether it is there."""
    if rule.user:
        yield _like(rule.user, question.text)
    if rule.system:
        messages = question.body["messages"]
        told = [message_text(m) for m in messages if m["role"] in ("system", "developer")]
        yield _like(rule.system, "\n".join(told))
    for patterns, value in ((rule.key, around.key), (rule.model, around.model)):
        if patterns:
            yield None if value is None else _like(patterns, value)
    for name, patterns in rule.header.items():
        if around.headers is None:
            yield None
        else:
            yield any(_like(patterns, value) for value in around.headers.get(name.lower(), ()))


def _like(patterns: Sequence[str], text: str) -> bool:
    """Return whether a text as a whole is like one of the patterns, in whatever case."""
    text = text.strip().casefold()
    return any(fnmatchcase(text, pattern.casefold()) for pattern in patterns)
