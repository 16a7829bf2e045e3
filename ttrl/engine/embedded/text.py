"""Between text and tokens: prompts in, answers out piece by piece."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

UNFINISHED = "\ufffd"
"""What a decoder writes for a character of which only some bytes have come."""


class Language:
    """The model's tokenizer and chat template."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self.size = len(tokenizer)
        self.longest_token = max(map(len, tokenizer.get_vocab()))
        # A first call settles the tokenizer's own state, which threads would otherwise race for.
        self.encode("a", special=False)

    def render(self, messages: Sequence[dict[str, Any]], **shaping: Any) -> str:
        """The prompt's text. Raises what the template raises: jinja2's TemplateError, ValueError,
        TypeError."""
        text = self._tokenizer.apply_chat_template(list(messages), tokenize=False, **shaping)
        return str(text)

    def encode(self, text: str, *, special: bool) -> list[int]:
        """Token ids; `special` adds what the tokenizer puts around a plain text."""
        return list(self._tokenizer.encode(text, add_special_tokens=special))

    def decode(self, token_ids: Sequence[int]) -> str:
        """An answer's text, without the special tokens."""
        return str(
            self._tokenizer.decode(
                list(token_ids), skip_special_tokens=True, clean_up_tokenization_spaces=False
            )
        )

    @functools.lru_cache(maxsize=65536)  # noqa: B019 - there is one for the life of the process
    def token(self, token_id: int) -> str:
        """One token alone, special or not."""
        return str(self._tokenizer.decode([token_id], clean_up_tokenization_spaces=False))


class Detokenizer:
    """The text of an answer as its tokens come, and where a stop string ends it."""

    def __init__(self, language: Language) -> None:
        self.text = ""
        self._language = language
        self._ids: list[int] = []
        self._context = self._written = 0

    def push(self, token: int, stops: Sequence[str]) -> str | None:
        """Add a token. When a stop string is complete, cut the text before it and return it."""
        self._ids.append(token)
        before = len(self.text)
        self._write(final=False)
        found = [
            (at, stop)
            for stop in stops
            if (at := self.text.find(stop, max(0, before - len(stop) + 1))) >= 0
        ]
        if not found:
            return None
        at, stop = min(found)
        self.text, self._ids = self.text[:at], []
        return stop

    def close(self) -> None:
        """Write what an unfinished character held back."""
        if self._ids:
            self._write(final=True)

    def _write(self, *, final: bool) -> None:
        # A token's text can depend on the one before: decode both, keep what is new.
        known = self._language.decode(self._ids[self._context : self._written])
        whole = self._language.decode(self._ids[self._context :])
        if final or not whole.endswith(UNFINISHED):
            self.text += whole[len(known) :]
            self._context, self._written = self._written, len(self._ids)
