"""What the gateway costs: `python -m benchmarks.gateway`.

A stand-in engine that answers at once, the gateway with its recorder and a store, and the load each
run in a process of their own. Direct requests and requests through the gateway alternate within one
run, so that whatever else the machine does falls on both. The last line is JSON.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import multiprocessing
import socket
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import Any

import click
import uvicorn
import uvloop
from starlette.types import ASGIApp, Receive, Scope, Send

from serve.gateway.app import Gateway
from serve.gateway.live import Live
from serve.gateway.recorder import Recorder
from serve.gateway.server import ConnectionWatch
from ttrl.config import Config
from ttrl.metrics import Metrics
from ttrl.store import Store
from ttrl.store.questions import Recorded

MARK_MS = 3.0
"""What the gateway may add to the median answer, asked by one client."""

PIECES = 8
"""Pieces of a streamed answer."""

ROUNDS = 10
"""How often direct and gateway take turns at full load."""


async def stand_in(scope: Scope, receive: Receive, send: Send) -> None:
    """An engine that thinks of nothing and says so at once."""
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body", False):
            break
    await (_stream(send) if b'"stream": true' in body else _answer(send))


ANSWER = json.dumps(
    {"choices": [{"index": 0, "message": {"role": "assistant", "content": "4" * 200}}]}
).encode()


async def _answer(send: Send) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(ANSWER))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": ANSWER})


async def _stream(send: Send) -> None:
    headers = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for _ in range(PIECES):
        piece = b'data: {"choices": [{"index": 0, "delta": {"content": "4"}}]}\n\n'
        await send({"type": "http.response.body", "body": piece, "more_body": True})
        await asyncio.sleep(0)
    await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})


def run_engine(ports: Pipe) -> None:
    """The engine's process."""
    serve(stand_in, ports, lifespan="off", http="httptools")


def run_gateway(ports: Pipe, engine_url: str, directory: str) -> None:
    """The gateway's process."""
    with Store.open(Path(directory)) as store:

        def write(batch: Sequence[Recorded]) -> None:
            store.questions.record(batch, holdout=0.1)

        recorder = Recorder(write)
        metrics = Metrics()
        gateway = Gateway(
            Config(),
            engine_url,
            Live("model", "model"),
            recorder,
            metrics,
            lifespan=lambda: recording(recorder),
        ).app()
        watched = ConnectionWatch(Config().gateway, metrics.serving).protocol()
        serve(gateway, ports, lifespan="on", http=watched)


@asynccontextmanager
async def recording(recorder: Recorder) -> AsyncIterator[None]:
    """The recorder's writer, for as long as the server runs."""
    writer = asyncio.create_task(recorder.run())
    yield
    await recorder.drain(10)
    writer.cancel()


def serve(application: ASGIApp, ports: Pipe, *, lifespan: Any, http: Any) -> None:
    """Runs uvicorn on a free port, which it sends to the parent."""
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        application,
        loop="uvloop",
        http=http,
        log_level="error",
        access_log=False,
        lifespan=lifespan,
    )
    ports.send(listening.getsockname()[1])
    uvicorn.Server(config).run(sockets=[listening])


@contextmanager
def process(target: Callable[..., None], *args: object) -> Iterator[int]:
    """Runs a server in a process of its own: its port."""
    ours, theirs = multiprocessing.Pipe()
    child = multiprocessing.get_context("spawn").Process(target=target, args=(theirs, *args))
    child.start()
    try:
        yield ours.recv()
    finally:
        child.terminate()
        child.join()


@dataclass
class Client:
    """One kept connection, speaking just enough HTTP to cost little itself."""

    port: int
    stream: bool
    _streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = field(default=None)

    async def ask(self, number: int) -> tuple[float, float]:
        """Asks one question: seconds to the first byte of the answer, and to its end."""
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self.port)
        reader, writer = self._streams
        began = time.perf_counter()
        writer.write(self._request(number))
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise click.ClickException("the answer was not 200")
        first = await self._first(reader, head)
        return first - began, time.perf_counter() - began

    async def _first(self, reader: asyncio.StreamReader, head: bytes) -> float:
        """Reads the answer: when its first byte came."""
        _, found, rest = head.lower().partition(b"content-length:")
        if found:
            await reader.readexactly(int(rest.partition(b"\r\n")[0]))
            return time.perf_counter()
        first = None
        while size := int(await reader.readline(), 16):
            await reader.readexactly(size + 2)
            first = first or time.perf_counter()
        await reader.readline()
        return first or time.perf_counter()

    def _request(self, number: int) -> bytes:
        messages = [{"role": "user", "content": f"What is {number} plus {number}?"}]
        asked = {"model": "model", "stream": self.stream, "messages": messages}
        body = json.dumps(asked).encode()
        return (
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n"
            b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
        )

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()


numbers = itertools.count()


async def alternate(ports: dict[str, int], requests: int, *, stream: bool) -> dict[str, list[Any]]:
    """One client: direct, gateway, direct, gateway... All times of each."""
    clients = {name: Client(port, stream) for name, port in ports.items()}
    times: dict[str, list[Any]] = {name: [] for name in ports}
    warming = max(1, requests // 10)
    for turn in range(warming + requests):
        for name, client in clients.items():
            took = await client.ask(next(numbers))
            if turn >= warming:
                times[name].append(took)
    for client in clients.values():
        client.close()
    return times


async def throughput(
    ports: dict[str, int], requests: int, concurrency: int, *, stream: bool
) -> dict[str, float]:
    """Many clients, in turns: requests a second of each."""
    clients = {
        name: [Client(port, stream) for _ in range(concurrency)] for name, port in ports.items()
    }
    seconds = dict.fromkeys(ports, 0.0)
    share = max(1, requests // ROUNDS // concurrency)
    for turn in range(ROUNDS + 1):
        for name, many in clients.items():
            began = time.perf_counter()
            await asyncio.gather(*(several(client.ask, share) for client in many))
            seconds[name] += time.perf_counter() - began if turn else 0.0
    for client in itertools.chain(*clients.values()):
        client.close()
    return {name: ROUNDS * share * concurrency / took for name, took in seconds.items()}


async def several(ask: Callable[[int], Awaitable[object]], times: int) -> None:
    """The same client again and again."""
    for _ in range(times):
        await ask(next(numbers))


def quantile_ms(seconds: list[float], per_cent: int) -> float:
    """A percentile, in milliseconds."""
    return statistics.quantiles(seconds, n=100)[per_cent - 1] * 1000


def latencies(times: dict[str, list[Any]], which: int) -> dict[str, float]:
    """Direct, gateway and the difference, at the median and the 99th percentile."""
    table: dict[str, float] = {}
    for per_cent in (50, 99):
        for name, took in times.items():
            table[f"{name}_p{per_cent}_ms"] = quantile_ms([pair[which] for pair in took], per_cent)
        added = table[f"gateway_p{per_cent}_ms"] - table[f"direct_p{per_cent}_ms"]
        table[f"added_p{per_cent}_ms"] = added
    return table


async def measure(ports: dict[str, int], requests: int, concurrency: int) -> dict[str, float]:
    """Everything, unary and streamed."""
    result: dict[str, float] = {}
    for prefix, stream in (("", False), ("stream_", True)):
        times = await alternate(ports, requests, stream=stream)
        rates = await throughput(ports, requests, concurrency, stream=stream)
        table = latencies(times, which=1)
        if stream:
            first = latencies(times, which=0)
            table["added_first_byte_p50_ms"] = first["added_p50_ms"]
            table["added_first_byte_p99_ms"] = first["added_p99_ms"]
        table |= {f"{name}_rps": rate for name, rate in rates.items()}
        table["ratio"] = rates["gateway"] / rates["direct"]
        result |= {prefix + name: value for name, value in table.items()}
    return result


@click.command()
@click.option("--requests", default=2000, help="Requests in each measurement.")
@click.option("--concurrency", default=32, help="Clients at full load.")
@click.option("--smoke", is_flag=True, help="Only see that it runs.")
def main(requests: int, concurrency: int, smoke: bool) -> None:
    """Measure what the gateway adds to an answer."""
    if smoke:
        requests, concurrency = 40, 4
    with (
        tempfile.TemporaryDirectory() as directory,
        process(run_engine) as engine,
        process(run_gateway, f"http://127.0.0.1:{engine}", directory) as gateway,
    ):
        ports = {"direct": engine, "gateway": gateway}
        result = uvloop.run(measure(ports, requests, concurrency))
    rounded = {name: round(value, 3) for name, value in result.items()}
    met = result["added_p50_ms"] < MARK_MS
    click.echo(f"added at p50: {result['added_p50_ms']:.2f} ms; the mark is {MARK_MS:g} ms")
    click.echo(
        json.dumps({"requests": requests, "concurrency": concurrency, "mark_met": met, **rounded})
    )


if __name__ == "__main__":
    main()
