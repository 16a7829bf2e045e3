"""A recorder that writes while a test looks on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from serve.gateway.recorder import Recorder
from tests.standin import DEADLINE


@asynccontextmanager
async def writing(recorder: Recorder) -> AsyncIterator[None]:
    writer = asyncio.create_task(recorder.run())
    try:
        yield
    finally:
        writer.cancel()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not condition():  # noqa: ASYNC110 - what is waited for is set by a thread
            await asyncio.sleep(0.001)
