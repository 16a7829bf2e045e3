"""A question: a chat request's messages, all else that shapes its prompt, and how it was sampled;
without an answer."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from itertools import pairwise
from typing import Any

from ttrl.questions.near_duplicates import Gist, gist
from ttrl.questions.regime import sampling_of

SHAPING_FIELDS = (
    "messages", "tools", "tool_choice", "response_format", "structured_outputs", "chat_template",
    "chat_template_kwargs", "add_generation_prompt", "continue_final_message", "reasoning_effort",
    "documents",
)  # fmt: skip
"""The fields of a chat request that change the prompt or the form of the answer."""

SIZED = (str, list, dict)
CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"))
BESIDE = 4
"""Times `max_chars` that a request may have in all with its tools, documents and the like."""
ROLES = frozenset({"system", "developer", "user", "assistant", "tool"})


class Unlearnable(StrEnum):
    """Why a request is answered but not learned from."""

    OPTED_OUT = "opted_out"
    KEY_OPTED_OUT = "key_opted_out"
    NOT_OPTED_IN = "not_opted_in"
    RECORDING_OFF = "recording_off"
    NOT_CHAT = "not_chat"
    MALFORMED = "malformed"
    NO_QUESTION = "no_question"
    NOT_TEXT = "not_text"
    TOOL_CALL = "tool_call"  # the answer asks a tool: users get a later one
    UNKNOWN_CONTEXT = "unknown_context"  # it names what came before by an id
    NO_CHAT_FORM = "no_chat_form"  # as a chat request its prompt could be another one
    TOO_LONG = "too_long"
    ENGINE_REFUSED = "engine_refused"
    INCOMPLETE = "incomplete"
    NOT_REDACTED = "not_redacted"
    QUEUE_FULL = "queue_full"
    STORE_FAILED = "store_failed"


@dataclass(frozen=True)
class Question:
    """`body` holds the shaping fields, ready to be sent again; `hash` names it: two requests that
    differ only in white space or Unicode form are one question. So are two that were sampled in
    two ways: `sampling` holds the fields by which it was (ttrl.questions.regime.FIELDS), None where
    nobody asked it or nobody knows. `recorded_in` is its cluster in the store."""

    body: Mapping[str, Any]
    hash: str
    sampling: Mapping[str, Any] | None = field(default=None, compare=False)
    recorded_in: str | None = field(default=None, compare=False)

    @property
    def text(self) -> str:
        """What the user asked; after it there may be calls of tools, and what these gave back."""
        return self._turns[-1]

    @cached_property
    def asks(self) -> str:
        """The last turn, for comparing; with those before it if it says too little by itself, as
        "Are you sure?" does."""
        turns = self._turns
        return turns[-1] if self._last.telling else "\n".join(turns)

    @cached_property
    def said(self) -> tuple[str, ...]:
        """All that users asked in it, for comparing."""
        return (self.asks, *(turn for turn in self._turns[:-1] if gist(turn).telling))

    @cached_property
    def cluster(self) -> str:
        """The same for near-duplicates and, of recorded ones, for all turns of a conversation, in
        hexadecimal."""
        return self.recorded_in or (self._last if self._last.telling else gist(self.asks)).key

    @property
    def exchanges(self) -> list[tuple[str, str]]:
        """What users said before, each with the answer in the conversation."""
        messages = [(each["role"], message_text(each)) for each in self.body["messages"]]
        return [
            (said, answer)
            for (role, said), (other, answer) in pairwise(messages)
            if (role, other) == ("user", "assistant")
        ]

    @property
    def goes_on_from(self) -> Question | None:
        """The question before this one in its conversation, if there is one: or what looks like
        it, where an application puts worked examples in front of what it asks, as turns."""
        messages = self.body["messages"]
        for end in range(len(messages) - 1, 0, -1):
            if messages[end - 1]["role"] == "user":
                body = {**self.body, "messages": messages[:end]}
                return Question(body, digest(body))
        return None

    @cached_property
    def _last(self) -> Gist:
        return gist(self._turns[-1])

    @property
    def _turns(self) -> list[str]:
        return [message_text(each) for each in self.body["messages"] if each["role"] == "user"]


def from_prompt(prompt: str) -> Question:
    body = {"messages": [{"role": "user", "content": prompt}]}
    return Question(body, digest(body))


def from_request(request: Mapping[str, Any], *, max_chars: int) -> Question | Unlearnable:
    """The question in a chat request, or why there is none to learn from."""
    messages = request.get("messages")
    if not isinstance(messages, list) or not messages:
        return Unlearnable.MALFORMED
    reason = next(filter(None, map(_unlearnable, messages)), None)
    if reason:
        return reason
    asked = next((each for each in reversed(messages) if each["role"] == "user"), None)
    if asked is None or messages[-1]["role"] not in ("user", "tool"):
        return Unlearnable.NO_QUESTION
    texts = [message_text(message) for message in messages]
    # As they are compared and screened, too: there are characters that become eighteen.
    plain = (unicodedata.normalize("NFKC", text) for text in texts)
    if sum(map(len, texts)) > max_chars or sum(map(len, plain)) > max_chars:
        return Unlearnable.TOO_LONG
    if all(each.isspace() or not each.isprintable() for each in message_text(asked)):
        return Unlearnable.NO_QUESTION
    body = {name: request[name] for name in SHAPING_FIELDS if request.get(name) is not None}
    if _larger_than(body, BESIDE * max_chars):
        return Unlearnable.TOO_LONG
    return Question(body, digest(body), sampling_of(request))


def _larger_than(value: Any, most: int) -> bool:
    """Whether there are more characters and items in it, without looking at many more."""
    left, size = [value], 0
    while left:
        each = left.pop()
        size += len(each) if isinstance(each, SIZED) else 1
        if size > most:
            return True
        if isinstance(each, dict):
            left += [*each, *each.values()]
        elif isinstance(each, list):
            left += each
    return False


def digest(body: Mapping[str, Any]) -> str:
    """Return the name of a question: SHA-256 over its canonical form."""
    canonical = CANONICAL.encode(_normalise(body))
    return hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()


def message_text(message: Mapping[str, Any]) -> str:
    content = message.get("content") or ""
    return content if isinstance(content, str) else "\n".join(part["text"] for part in content)


def _unlearnable(message: object) -> Unlearnable | None:
    if not isinstance(message, dict):
        return Unlearnable.MALFORMED
    role = message.get("role")
    if not isinstance(role, str) or role not in ROLES:
        return Unlearnable.MALFORMED
    content = message.get("content")
    if isinstance(content, str) or content is None:
        return None
    if not isinstance(content, list):
        return Unlearnable.MALFORMED
    texts = all(
        isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)
        for part in content
    )
    return None if texts else Unlearnable.NOT_TEXT


def _normalise(value: Any) -> Any:
    if isinstance(value, str):
        return " ".join(unicodedata.normalize("NFC", value).split())
    if isinstance(value, (dict, Mapping)):  # a dict is known to be one at once
        return {str(key): _normalise(item) for key, item in value.items()}
    if isinstance(value, (list, Sequence)):
        return [_normalise(item) for item in value]
    return value
