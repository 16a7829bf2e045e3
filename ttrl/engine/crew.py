"""Many questions asked of the engine side by side, by threads that hold nobody up."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import TypeVar

Item = TypeVar("Item")
Found = TypeVar("Found")


def each(work: Callable[[Item], Found], items: Sequence[Item], *, width: int) -> Iterator[Found]:
    """What `work` makes of each item, in order, by at most `width` threads; raises what it raises.
    Whoever stops listening starts no more of it.

    Not a ThreadPoolExecutor, which keeps a process from ending until the last of its threads has:
    a request under way may take minutes, and a run that is stopped has seconds.
    """
    futures: list[Future[Found]] = [Future() for _ in items]
    todo = deque(zip(futures, items, strict=True))
    for _ in range(min(width, len(items))):
        threading.Thread(target=_labour, args=(work, todo), name="crew", daemon=True).start()
    try:
        for future in futures:
            yield future.result()
    finally:
        todo.clear()


def one(work: Callable[[], Found]) -> Future[Found]:
    """What `work` will have found, by a thread of its own that holds nobody up. Who wants it no
    more leaves it to its end."""
    future: Future[Found] = Future()
    future.set_running_or_notify_cancel()
    todo = deque([(future, None)])
    threading.Thread(
        target=_labour, args=(lambda _: work(), todo), name="crew", daemon=True
    ).start()
    return future


def _labour(work: Callable[[Item], Found], todo: deque[tuple[Future[Found], Item]]) -> None:
    while True:
        try:
            future, item = todo.popleft()
        except IndexError:
            return
        try:
            future.set_result(work(item))
        except BaseException as error:  # noqa: BLE001 - raised again where the answer is awaited
            future.set_exception(error)
