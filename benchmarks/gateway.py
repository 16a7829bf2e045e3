"""What the gateway costs: `python -m benchmarks.gateway`, and `--peers` for others beside it.

A stand-in engine that answers at once, each proxy, and the clients run in processes of their own.
The processor time of a proxy (user and system, with its children) tells more than its rate, since
engine and clients share the machine with it; what it adds to an answer is taken from requests that
go through it and directly in turns. With recording on, the time that its questions take on their
way into the store is counted too. The last line is JSON.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import multiprocessing
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection as Pipe
from pathlib import Path

import click
import httptools
import psutil
import uvloop

from serve.daemon.process import Loop, background
from serve.daemon.workers import Workers
from serve.gateway.app import Gateway
from serve.gateway.live import Live
from serve.gateway.recorder import Recorder
from serve.gateway.server import favour_answers, own_url, server_for
from ttrl.config import Config
from ttrl.config.loading import override
from ttrl.metrics import Metrics
from ttrl.store import Store

STREAMS = 64
FEW, MANY = 32, 256
"""Clients at once."""
ROUNDS = 10
"""How often all streams begin at once."""
START_SECONDS = 120.0
PIECES = 8
"""Pieces of a streamed answer."""
ANSWER = json.dumps(
    {"choices": [{"index": 0, "message": {"role": "assistant", "content": "4" * 200}}]}
).encode()
WHOLE = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (
    len(ANSWER),
    ANSWER,
)
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
PIECE = b'data: {"choices": [{"index": 0, "delta": {"content": "4"}}]}\n\n'
LAST = b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"
MODELS = b'{"object": "list", "data": [{"id": "model", "object": "model"}]}'


class Engine(asyncio.Protocol):
    """An engine that thinks of nothing and says so at once."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport
        self.parser = httptools.HttpRequestParser(self)
        self.body, self.loop = bytearray(), asyncio.get_running_loop()

    def data_received(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:  # some ask whether it speaks HTTP/2
            self.transport.close()

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        if self.parser.get_method() == b"GET":  # what routers ask before they trust an engine
            head = (
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
            )
            self.transport.write(head % len(MODELS) + MODELS)
        elif b'"stream":true' in self.body.replace(b" ", b""):
            self.transport.write(HEAD)
            self.piece(PIECES)
        else:
            self.transport.write(WHOLE)
        self.body.clear()

    def piece(self, left: int) -> None:
        """Each piece in a turn of its own, as an engine's tokens come."""
        if not left:
            self.transport.write(LAST)
            return
        self.transport.write(b"%x\r\n%b\r\n" % (len(PIECE), PIECE))
        self.loop.call_soon(self.piece, left - 1)


def run_engine(ports: Pipe) -> None:
    """The engine's process."""

    async def serve() -> None:
        server = await asyncio.get_running_loop().create_server(
            Engine, "127.0.0.1", 0, backlog=1024
        )
        ports.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    uvloop.run(serve())


def run_gateway(
    ports: Pipe, engine_url: str, directory: str, record: bool = True, workers: int = 1
) -> None:
    """The gateway's process, which starts its further workers."""
    settings = {
        "model.name": "model",
        "record.enabled": record,
        "state_dir": directory,
        "gateway.workers": workers,
    }
    config = override(Config(), settings)
    with Store.open(config.state_dir) as store:
        metrics, live = Metrics(), Live("model", "model")
        recorder = Recorder(partial(store.questions.record, holdout=0.1), metrics=metrics)
        listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
        # A worker that is asked for metrics asks here, until it is the first that accepts.
        url = own_url(listening)
        others = Workers(config, listening, engine_url, url, live, metrics, lambda: True)

        @asynccontextmanager
        async def recording() -> AsyncIterator[None]:
            async with background(recorder=Loop(recorder.run), **others.loops()):
                while len(live.elsewhere) < workers - 1:  # noqa: ASYNC110 - reports set it
                    await asyncio.sleep(0.05)
                yield
                await recorder.drain(10)

        gateway = Gateway(
            config, engine_url, live, recorder, metrics, lifespan=recording, scrape=others.scrape
        )
        server = server_for(config, gateway.app(), metrics.serving)
        ports.send(listening.getsockname()[1])
        favour_answers()
        uvloop.run(server.serve(sockets=[listening]))


@dataclass(frozen=True)
class Proxy:
    """One that is measured; `records` says that its questions go into a store."""

    name: str
    port: int
    process: psutil.Process
    records: bool = False

    @property
    def _all(self) -> list[psutil.Process]:
        return [self.process, *self.process.children(recursive=True)]

    def cpu(self) -> float:
        """Return the seconds of processor time that it has had."""
        return sum(sum(each.cpu_times()[:2]) for each in self._all)

    def mebibytes(self) -> float:
        """Return its memory, shared pages counted once."""
        return sum(each.memory_full_info().pss for each in self._all) / 2**20

    def settle(self) -> int:
        """Wait until all that it recorded is in the store; return how much was dropped."""
        while True:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics") as answer:
                lines = [line.rpartition(" ") for line in answer.read().decode().splitlines()]
            found = {name: float(value) for name, _, value in lines if not name.startswith("#")}
            if not found["ttrl_recorder_queue_questions"]:
                return int(found['ttrl_questions_skipped_total{reason="queue_full"}'])
            time.sleep(0.05)


@contextmanager
def ours(name: str, target: Callable[..., None], *args: object, records: bool) -> Iterator[Proxy]:
    """Run a server of ours in a process of its own."""
    here, there = multiprocessing.Pipe()
    child = multiprocessing.get_context("spawn").Process(target=target, args=(there, *args))
    child.start()
    try:
        yield Proxy(name, here.recv(), psutil.Process(child.pid), records)
    finally:
        child.terminate()
        child.join()


def nginx(engine: int, port: int, folder: Path, _: Path | None) -> list[str] | None:
    (folder / "nginx.conf").write_text(f"""
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log stderr crit;
events {{ worker_connections 4096; }}
http {{
  access_log off; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  upstream engine {{ server 127.0.0.1:{engine}; keepalive 512; }}
  server {{
    listen 127.0.0.1:{port} backlog=1024; keepalive_requests 10000000;
    location / {{
      proxy_pass http://engine; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_buffering off;
    }}
  }}
}}""")
    program = shutil.which("nginx")
    return (
        None if program is None else [program, "-p", str(folder), "-c", str(folder / "nginx.conf")]
    )


def haproxy(engine: int, port: int, folder: Path, _: Path | None) -> list[str] | None:
    (folder / "haproxy.cfg").write_text(f"""
global
  nbthread 1
  maxconn 4096
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 3600s
  http-reuse always
frontend clients
  bind 127.0.0.1:{port}
  default_backend engine
backend engine
  server engine 127.0.0.1:{engine}
""")
    program = shutil.which("haproxy")
    return None if program is None else [program, "-db", "-f", str(folder / "haproxy.cfg")]


def sglang_router(engine: int, port: int, _: Path, python: Path | None) -> list[str] | None:
    return None if not _installed(python, "sglang_router") else [
        str(python), "-m", "sglang_router.launch_router", "--host", "127.0.0.1",
        "--port", str(port), "--worker-urls", f"http://127.0.0.1:{engine}",
        "--policy", "round_robin", "--log-level", "error", "--prometheus-port", str(_free_port()),
    ]  # fmt: skip


def litellm(engine: int, port: int, folder: Path, python: Path | None) -> list[str] | None:
    (folder / "litellm.yaml").write_text(f"""
model_list:
  - model_name: model
    litellm_params:
      model: hosted_vllm/model
      api_base: http://127.0.0.1:{engine}/v1
general_settings:
  dangerously_permit_weak_or_unset_master_key: true
""")
    return None if not _installed(python, "litellm") else [
        str(python), "-c", "from litellm import run_server; run_server()",
        "--config", str(folder / "litellm.yaml"), "--host", "127.0.0.1", "--port", str(port),
    ]  # fmt: skip


PEERS = (nginx, haproxy, sglang_router, litellm)
Command = Callable[[int, int, Path, Path | None], list[str] | None]


def _installed(python: Path | None, module: str) -> bool:
    words = [str(python), "-c", f"import {module}"]
    return python is not None and not subprocess.run(words, capture_output=True).returncode


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
        return port


@contextmanager
def peer(command: Command, engine: int, python: Path | None) -> Iterator[Proxy | None]:
    """Run one of the others, as its users would, if it is installed."""
    name, port = command.__name__, _free_port()
    with tempfile.TemporaryDirectory() as folder:
        words = command(engine, port, Path(folder), python)
        if not words:
            click.echo(f"{name}: not installed, left out")
            yield None
            return
        with (Path(folder) / "log").open("w") as log:
            child = subprocess.Popen(words, stdout=log, stderr=log)
            try:
                began = time.monotonic()
                while not answers(port):
                    if child.poll() is not None or time.monotonic() - began > START_SECONDS:
                        said = (Path(folder) / "log").read_text()[-2000:]
                        raise click.ClickException(f"{name} does not start: {said}")
                    time.sleep(0.5)
                yield Proxy(name, port, psutil.Process(child.pid))
            finally:
                child.terminate()
                child.wait()


def answers(port: int) -> bool:
    async def ask() -> bool:
        try:
            await one(port, stream=False)
        except (OSError, click.ClickException):
            return False
        return True

    return uvloop.run(ask())


numbers = itertools.count()


def request(stream: bool) -> bytes:
    """Return a question that nobody has asked before."""
    number = next(numbers)
    said = '"stream": true, ' if stream else ""
    body = (
        f'{{"model": "model", {said}"messages": '
        f'[{{"role": "user", "content": "What is {number} plus {number}?"}}]}}'
    ).encode()
    return (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n"
        b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
    )


@dataclass(eq=False)
class Client(asyncio.Protocol):
    """One kept connection, speaking just enough HTTP to cost little itself. `ended` gets the
    seconds to the first byte of each answer, and to its end."""

    ended: Callable[[Client, float, float], None]
    failed: Callable[[Exception], None]
    _seen: bytearray = field(default_factory=bytearray)
    _length: int | None = None
    """Of head and body, once that is known; 0 where pieces come."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self.failed(click.ClickException("a connection was closed"))

    def ask(self, stream: bool) -> None:
        self._seen, self._length, self._first = bytearray(), None, 0.0
        self._began = time.perf_counter()
        self.transport.write(request(stream))

    def data_received(self, data: bytes) -> None:
        self._seen += data
        if self._length is None:
            if (end := self._seen.find(b"\r\n\r\n")) < 0:
                return
            head = bytes(self._seen[:end]).lower()
            if not head.startswith(b"http/1.1 200"):
                self.failed(click.ClickException("the answer was not 200"))
                return
            _, found, rest = head.partition(b"content-length:")
            self._length = end + 4 + int(rest.partition(b"\r\n")[0]) if found else 0
            self._head = end + 4
        if not self._first and len(self._seen) > self._head:
            self._first = time.perf_counter() - self._began
        whole = self._seen.endswith(b"\r\n0\r\n\r\n") or self._seen.endswith(b"\n0\r\n\r\n")
        if len(self._seen) >= self._length if self._length else whole:
            self.ended(self, self._first, time.perf_counter() - self._began)


Times = list[tuple[float, float]]


async def load(
    port: int, clients: int, *, requests: int, seconds: float = 3600.0, stream: bool = False
) -> tuple[Times, float]:
    """Ask with so many clients, each again as soon as it has its answer, until that many requests
    or seconds are over; return the times of all, and how long it took."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()
    times: Times = []
    left, open_ = requests, clients

    def failed(error: Exception) -> None:
        if not done.done():
            done.set_exception(error)

    def ended(client: Client, first: float, whole: float) -> None:
        nonlocal left, open_
        times.append((first, whole))
        if left > 0 and time.perf_counter() < until:
            left -= 1
            client.ask(stream)
            return
        client.failed = lambda _: None  # it may be closed while others still wait
        open_ -= 1
        if not open_ and not done.done():
            done.set_result(None)

    made = partial(loop.create_connection, partial(Client, ended, failed), "127.0.0.1", port)
    connected = [(await made())[1] for _ in range(clients)]
    began = time.perf_counter()
    until, left = began + seconds, left - clients
    for client in connected:
        client.ask(stream)
    try:
        await done
    finally:
        took = time.perf_counter() - began
        for client in connected:
            client.failed = lambda _: None
            client.transport.abort()
    return times, took


async def one(port: int, *, stream: bool) -> None:
    await load(port, 1, requests=1, stream=stream)


def milliseconds(seconds: Sequence[float], percent: int) -> float:
    return statistics.quantiles(seconds, n=100, method="inclusive")[percent - 1] * 1000


def turn(proxy: Proxy, engine: int, requests: int, seconds: float) -> dict[str, float]:
    """Measure a proxy once."""
    found: dict[str, float] = {}
    for clients in (FEW, MANY):
        before = proxy.cpu()
        times, took = uvloop.run(load(proxy.port, clients, requests=requests, seconds=seconds))
        found["dropped"] = proxy.settle() if proxy.records else 0
        found[f"cpu_us_{clients}"] = (proxy.cpu() - before) / len(times) * 1e6
        found[f"rps_{clients}"] = len(times) / took
        found[f"p50_{clients}_ms"] = milliseconds([whole for _, whole in times], 50)
        found[f"p99_{clients}_ms"] = milliseconds([whole for _, whole in times], 99)

    alone: dict[int, list[float]] = {engine: [], proxy.port: []}
    for port in (engine, proxy.port) * 4:
        times, _ = uvloop.run(load(port, 1, requests=requests // 8 + 2, seconds=seconds / 4))
        alone[port] += [whole for _, whole in times][1:]  # the first connects to the engine
    for percent in (50, 99):
        through, direct = (milliseconds(alone[port], percent) for port in (proxy.port, engine))
        found[f"added_p{percent}_ms"] = through - direct

    times, _ = uvloop.run(load(proxy.port, STREAMS, requests=STREAMS, stream=True))
    found["first_chunk_ms"] = statistics.median(first for first, _ in times) * 1000
    found["last_first_chunk_ms"] = max(first for first, _ in times) * 1000
    found["mib"] = proxy.mebibytes()
    return found


@click.command()
@click.option(
    "--rounds",
    default=5,
    help="How often all take turns; medians are shown, and the least processor time.",
)
@click.option("--requests", default=2000, help="Requests in each measurement, at most.")
@click.option("--seconds", default=5.0, help="Time for each measurement, at most.")
@click.option("--workers", default=1, help="Processes of ours that share the port.")
@click.option("--peers", is_flag=True, help="Measure the others that are installed, too.")
@click.option(
    "--peers-python",
    type=click.Path(exists=True, path_type=Path),
    help="A Python that has sglang-router and litellm[proxy].",
)
@click.option("--smoke", is_flag=True, help="Only see that it runs.")
def main(
    rounds: int,
    requests: int,
    seconds: float,
    workers: int,
    peers: bool,
    peers_python: Path | None,
    smoke: bool,
) -> None:
    """Measure what the gateway adds to an answer."""
    if smoke:
        rounds, requests, seconds = 1, MANY, 1.0
    with ExitStack() as stack:
        engine = stack.enter_context(ours("engine", run_engine, records=False)).port
        url, proxies = f"http://127.0.0.1:{engine}", []
        for name, record in (("ttrl, recording", True), ("ttrl, not recording", False)):
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            gateway = ours(name, run_gateway, url, folder, record, workers, records=record)
            proxies.append(stack.enter_context(gateway))
        for command in PEERS if peers else ():
            other = stack.enter_context(peer(command, engine, peers_python))
            proxies += [] if other is None else [other]
        found: dict[str, dict[str, list[float]]] = {proxy.name: {} for proxy in proxies}
        for proxy in proxies:  # warm
            uvloop.run(load(proxy.port, FEW, requests=requests, seconds=seconds))
        for _, proxy in itertools.product(range(rounds), proxies):
            for figure, value in turn(proxy, engine, requests, seconds).items():
                found[proxy.name].setdefault(figure, []).append(value)
    rows = {
        # Other work on the machine only adds processor time.
        name: {k: (min if k.startswith("cpu") else statistics.median)(v) for k, v in row.items()}
        for name, row in found.items()
    }
    for figure in next(iter(rows.values())):
        click.echo(f"{figure:20}" + "".join(f"{row[figure]:14.2f}" for row in rows.values()))
    click.echo(f"{'':20}" + "".join(f"{name.removeprefix('ttrl, '):>14}" for name in rows))
    click.echo(json.dumps(summary(rows)))


def summary(rows: dict[str, dict[str, float]]) -> dict[str, float | None]:
    """Return what the marks speak of, recording; requests a second are those of a core."""
    recording, plain = rows["ttrl, recording"], rows["ttrl, not recording"]

    def ratio(name: str) -> float | None:
        other = rows.get(name)
        return None if other is None else round(other["cpu_us_32"] / recording["cpu_us_32"], 3)

    return {
        "rps_per_core": round(1e6 / recording["cpu_us_32"]),
        "ratio_to_litellm": ratio("litellm"),
        "ratio_to_sglang_router": ratio("sglang_router"),
        "added_p50_ms": round(recording["added_p50_ms"], 3),
        "cpu_us": round(recording["cpu_us_32"], 1),
        "cpu_us_not_recording": round(plain["cpu_us_32"], 1),
        "first_chunk_ms": round(recording["first_chunk_ms"], 2),
    }


if __name__ == "__main__":
    main()
