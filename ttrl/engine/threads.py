"""Work done in daemon threads: requests to the engine side by side.

Not a ThreadPoolExecutor, which keeps a process from ending until the last of its threads has: a
request may take minutes, and a run that is stopped has seconds.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_in_order(
    work: Callable[[Item], Result], items: Sequence[Item], *, width: int
) -> Generator[Result, None, None]:
    """Yield the result of `work` for each item, in order, computed by at most `width` threads;
    raise what it raises. After the generator is closed no further item is begun."""
    futures: list[Future[Result]] = [Future() for _ in items]
    queue = deque(zip(futures, items, strict=True))

    def worker() -> None:
        with suppress(IndexError):
            while True:
                future, item = queue.popleft()
                _fulfil(future, partial(work, item))

    for _ in range(min(width, len(items))):
        threading.Thread(target=worker, name="request", daemon=True).start()
    try:
        for future in futures:
            yield future.result()
    finally:
        queue.clear()


def map_as_done(
    work: Callable[[Item], Result], items: deque[Item], *, width: int
) -> Generator[tuple[Item, Result], None, None]:
    """Yield each item with the result of `work`, as they come, computed by at most `width` threads;
    raise what it raises. Takes the items out of the queue, and those that are appended meanwhile as
    well. After the generator is closed no further item is begun."""
    done: SimpleQueue[tuple[Item, Future[Result]]] = SimpleQueue()

    def one(item: Item) -> None:
        future: Future[Result] = Future()
        _fulfil(future, partial(work, item))
        done.put((item, future))

    begun = 0
    while items or begun:
        while items and begun < width:
            threading.Thread(
                target=one, args=[items.popleft()], name="request", daemon=True
            ).start()
            begun += 1
        item, future = done.get()
        begun -= 1
        yield item, future.result()


def submit(work: Callable[[], Result]) -> Future[Result]:
    """Do `work` in a thread of its own. It cannot be cancelled: drop the future instead."""
    future: Future[Result] = Future()
    future.set_running_or_notify_cancel()
    threading.Thread(target=_fulfil, args=(future, work), name="request", daemon=True).start()
    return future


def _fulfil(future: Future[Result], work: Callable[[], Result]) -> None:
    try:
        future.set_result(work())
    except BaseException as error:  # noqa: BLE001 - raised again by future.result()
        future.set_exception(error)
