"""Users who each ask questions that nobody else asks, and note what became of them."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from dataclasses import dataclass
from typing import Any

import openai

from serve.cli.demo import MODEL

AT_ONCE = 4
PAUSE_SECONDS = 0.2


@dataclass(frozen=True)
class Asked:
    """A question, when it was asked and answered (monotonic seconds), and what went wrong."""

    prompt: str
    began: float
    ended: float
    failure: str | None


class Users:
    """Ask until told to stop."""

    def __init__(self, url: str, seed: int) -> None:
        self._url = url
        self._random = random.Random(seed)
        self._numbers = itertools.count(1)
        self.asked: list[Asked] = []
        self.over = False

    def run(self) -> None:
        """All of them, in a thread of their own."""
        asyncio.run(self._all())

    async def _all(self) -> None:
        async with openai.AsyncOpenAI(
            base_url=f"{self._url}/v1", api_key="soak", max_retries=0, timeout=90
        ) as client:
            await asyncio.gather(*(self._one(client) for _ in range(AT_ONCE)))

    async def _one(self, client: openai.AsyncOpenAI) -> None:
        while not self.over:
            prompt, began = self._prompt(), time.monotonic()
            failure = None
            try:
                await self._ask(client, prompt, stream=self._random.random() < 0.5)
            except openai.OpenAIError as error:
                failure = f"{type(error).__name__} {getattr(error, 'status_code', '')}".strip()
                await asyncio.sleep(PAUSE_SECONDS)
            self.asked.append(Asked(prompt, began, time.monotonic(), failure))
            await asyncio.sleep(PAUSE_SECONDS * self._random.random())

    def _prompt(self) -> str:
        left, right = self._random.randint(100, 999), self._random.randint(100, 999)
        return f"Number {next(self._numbers)}: what is {left} plus {right}?"

    async def _ask(self, client: openai.AsyncOpenAI, prompt: str, *, stream: bool) -> None:
        asked: dict[str, Any] = {
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": 32,
        }
        if not stream:
            await client.chat.completions.create(model=MODEL, **asked)
            return
        ended = None
        async for piece in await client.chat.completions.create(model=MODEL, stream=True, **asked):
            ended = piece.choices[0].finish_reason if piece.choices else ended
        if ended is None:
            raise openai.OpenAIError("the stream was cut")
