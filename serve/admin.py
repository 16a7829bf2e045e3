"""The admin address: the routes for `ttrl` on the same machine, with the token from the state
directory, metrics for whoever reaches it, and the operator's page, which is server-rendered and
whole without JavaScript."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any
from urllib.parse import parse_qs

from sqlalchemy.exc import DBAPIError
from starlette.applications import Starlette
from starlette.convertors import IntegerConvertor, register_url_convertor
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from jobs.probes import confirm
from serve import html, operations
from serve.daemon.core import Core
from serve.daemon.housekeeping import remove_files
from serve.daemon.schedule import Clock
from serve.gateway.request import HANDLERS, Refused, Unexpected, parse
from serve.gateway.shadow import Shadow
from serve.operations import Refusal
from serve.state import Owner
from serve.views import UNEASY, WORDS, pair_report, report, tally
from ttrl.config.loading import ConfigError
from ttrl.store import StoreDamaged, StoreError
from ttrl.store.adapters import AdapterGone
from ttrl.store.database import OUTAGE, NotFound, cause
from ttrl.store.questions import QuestionState
from ttrl.store.runs import RunBusy, Trigger
from ttrl.versions import AdapterDamaged

log = logging.getLogger(__name__)

COOKIE = "ttrl-session"
WRONG_SECONDS = 0.5
"""After which somebody with a wrong key is told so."""
SESSION_SECONDS = 12 * 3600.0
MAX_FORM = 64 * 1024
RUNS, QUESTIONS, ANSWERS = 10, 50, 8
"""How many of each are shown."""
REFUSALS: Mapping[type[Exception], tuple[int, str]] = {
    RunBusy: (409, "run_under_way"),
    ConfigError: (400, "bad_setting"),
    StoreDamaged: (503, "store_damaged"),
}
"""Status and code of what `ttrl` is told when no run can be started."""
Handler = Callable[[Request], Awaitable[Response]]
Read = Callable[[Request], dict[str, Any]]
Push = Callable[[Request, dict[str, str]], str | Awaitable[str]]
"""What a button does with a form; the page to go to afterwards."""


def app(routes: Sequence[Route], hosts: Sequence[str]) -> Starlette:
    """What answers at the admin address; `hosts` are the names under which it may be asked for, so
    that no other site's name can be made to point here."""
    return Starlette(
        routes=routes,
        middleware=[
            Middleware(Unexpected),
            Middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False),
        ],
        exception_handlers=HANDLERS,
    )


def routes(core: Core, clock: Clock, watch: Shadow, owner: Owner) -> list[Route]:
    """What `ttrl` asks of a running daemon: each for who has the token."""
    assert owner.token is not None
    token = owner.token.encode()

    async def status(_: Request) -> dict[str, Any]:
        stored = await asyncio.to_thread(report, core.store, core.config)
        next_run, shadow = await asyncio.to_thread(clock.next_run), watch.report()
        return stored | {
            "url": owner.url,
            "page": owner.page,
            "next_run": next_run,
            "engine_up": core.engine.up,
            "engine_url": core.engine.url,
            "schedule": clock.decision,
            "answering": core.live.current.version,
            "shadow": shadow and asdict(shadow),
            "store_damage": core.damage,
        }

    async def settings(_: Request) -> dict[str, Any]:
        return core.config.model_dump(mode="json")

    async def start_run(request: Request) -> dict[str, Any]:
        body = parse(await request.body() or b"{}")
        return {"run": (await core.runs.start(Trigger.OPERATOR, body)).id}

    async def stop_run(_: Request) -> dict[str, Any]:
        return {"stopped": await core.runs.stop()}

    async def reconcile(_: Request) -> dict[str, Any]:
        core.reconciler.wake()
        return {"answering": core.live.current.version}

    async def prune(_: Request) -> dict[str, Any]:
        return {"removed": await remove_files(core)}

    def route(method: str, path: str, handler: Callable[[Request], Awaitable[object]]) -> Route:
        async def answer(request: Request) -> Response:
            given = request.headers.get("authorization", "").removeprefix("Bearer ")
            if not hmac.compare_digest(given.encode(), token):
                raise Refused(401, "The admin token is required.", code="unauthorized")
            try:
                return JSONResponse(await handler(request))
            except (RunBusy, ConfigError, StoreDamaged) as error:
                status, code = REFUSALS[type(error)]
                raise Refused(status, str(error), code=code) from None
            except OUTAGE as error:
                message = f"cannot use the store now: {cause(error)}"
                raise Refused(503, message, code="store_unavailable") from None

        return Route(path, answer, methods=[method])

    return [
        route("GET", "/admin/status", status),
        route("GET", "/admin/config", settings),
        route("POST", "/admin/runs", start_run),
        route("POST", "/admin/runs/stop", stop_run),
        route("POST", "/admin/reconcile", reconcile),
        route("POST", "/admin/prune", prune),
    ]


class Door:
    """Who may see the page and push its buttons: whoever has the admin key. Nothing is stored: all
    follows from the key, and is worth nothing under another one."""

    def __init__(self, key: str) -> None:
        self._key = hashlib.sha256(key.encode()).digest()

    def opens(self, given: str) -> bool:
        return hmac.compare_digest(hashlib.sha256(given.encode()).digest(), self._key)

    def session(self, now: float) -> str:
        """What the browser keeps: until when it is let in (Unix seconds), and that we say so."""
        until = str(int(now + SESSION_SECONDS))
        return f"{until}.{self._sign('session', until)}"

    def admits(self, session: str, now: float) -> bool:
        """Whether the browser brought a session of ours that still holds."""
        until, _, signature = session.partition(".")
        ours = hmac.compare_digest(signature.encode(), self._sign("session", until).encode())
        return ours and until.isdigit() and now < int(until)

    def token(self, session: str) -> str:
        """What each form of this session brings back: other sites cannot know it."""
        return self._sign("form", session)

    def takes(self, session: str, token: str) -> bool:
        return hmac.compare_digest(token.encode(), self.token(session).encode())

    def _sign(self, what: str, text: str) -> str:
        return hmac.new(self._key, f"{what} {text}".encode(), "sha256").hexdigest()


class _Row(IntegerConvertor):
    """The id of a row, in a path: as many digits as Python and every database can read."""

    regex = "[0-9]{1,18}"


register_url_convertor("row", _Row())


def _row_id(text: str) -> int | None:
    return int(text) if re.fullmatch(_Row.regex, text) else None


async def _fields(request: Request) -> dict[str, str]:
    """A form's fields; nothing where there is none, or more than a form of ours can be."""
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_FORM:
            return {}
    try:
        fields = parse_qs(body.decode("utf-8", "replace"), max_num_fields=20)
    except ValueError:  # more of them
        return {}
    return {name: values[-1] for name, values in fields.items()}


class Page:
    def __init__(self, core: Core, clock: Clock, watch: Shadow, key: str) -> None:
        self._core, self._clock, self._watch = core, clock, watch
        self._store = core.store
        self._door = Door(key)

    def routes(self) -> list[Route]:
        seen: Mapping[str, tuple[str, Read]] = {
            "/": ("home", self._home),
            "/questions": ("questions", self._questions),
            "/questions/{id:row}": ("question", self._question),
            "/runs/{id:row}": ("report", self._run),
            "/label": ("label", self._label),
        }
        pushed: Mapping[str, Push] = {
            "/adapt": self._adapt,
            "/stop": self._stop,
            "/pause": partial(self._pause, True),
            "/resume": partial(self._pause, False),
            "/rollback": self._roll_back,
            "/promote": self._promote,
            "/label/{id:row}": self._judge,
        }
        return [
            Route("/login", self._login, methods=["GET", "POST"]),
            Route("/logout", self._logout, methods=["POST"]),
            *(Route(path, self._seen(template, read)) for path, (template, read) in seen.items()),
            *(Route(path, self._pushed(push), methods=["POST"]) for path, push in pushed.items()),
        ]

    def _seen(self, template: str, read: Read) -> Handler:
        """A page, read and drawn in a thread, since users' answers must not wait for it."""

        async def draw(request: Request) -> Response:
            return await asyncio.to_thread(
                lambda: self._show(request, f"{template}.html", **read(request))
            )

        return self._checked(draw)

    def _checked(self, handler: Handler) -> Handler:
        """Only for who is let in; if it cannot be answered, a sentence: also while the store is
        away."""

        async def checked(request: Request) -> Response:
            if not self._door.admits(request.cookies.get(COOKIE, ""), time.time()):
                return RedirectResponse("/login", 303)
            try:
                return await handler(request)
            except NotFound as error:
                status, message = 404, str(error)
            except (
                Refusal, RunBusy, ConfigError, AdapterDamaged, AdapterGone, StoreDamaged,
            ) as error:  # fmt: skip
                status, message = 409, str(error)
            except (DBAPIError, StoreError):
                live = self._core.live.current.version
                status = 503
                message = f"The store cannot be used now. Users are still served by {live}."
            return self._show(request, "message.html", status, message=message)

        return checked

    def _pushed(self, handler: Push) -> Handler:
        """Only from our own forms; then back to a page."""

        async def push(request: Request) -> Response:
            form = await _fields(request)
            if not self._door.takes(request.cookies[COOKIE], form.get("token", "")):
                message = "The form has expired; go back and reload the page."
                return self._show(request, "message.html", 403, message=message)
            where = await asyncio.to_thread(handler, request, form)
            where = where if isinstance(where, str) else await where
            self._core.reconciler.wake()
            return RedirectResponse(where, 303)

        return self._checked(push)

    def _show(self, request: Request, template: str, status: int = 200, **values: Any) -> Response:
        """A page that browsers let do nothing but what we wrote: only styles and scripts with the
        nonce are used."""
        nonce = secrets.token_urlsafe(16)
        token = self._door.token(request.cookies.get(COOKIE, ""))
        page = html.templates().get_template(template)
        text = page.render(nonce=nonce, token=token, now=time.time(), **values)
        headers = {
            "content-security-policy": (
                f"default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; "
                "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
            ),
            "cache-control": "no-store",
            "referrer-policy": "same-origin",
            "x-content-type-options": "nosniff",
        }
        return HTMLResponse(text, status, headers)

    async def _login(self, request: Request) -> Response:
        given = request.query_params.get("key") or (await _fields(request)).get("key", "")
        if not self._door.opens(given):
            status = 401 if given else 200
            if given:
                log.warning("somebody tried a wrong key at the admin page")
                await asyncio.sleep(WRONG_SECONDS)
            return self._show(request, "login.html", status, wrong=bool(given))
        answer = RedirectResponse("/", 303)
        answer.set_cookie(
            COOKIE,
            self._door.session(time.time()),
            max_age=int(SESSION_SECONDS),
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
        return answer

    async def _logout(self, _: Request) -> Response:
        answer = RedirectResponse("/login", 303)
        answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
        return answer

    def _home(self, _: Request) -> dict[str, Any]:
        store, monitor = self._store, self._watch.report()
        facts = html.facts(
            store,
            engine_up=self._core.engine.up,
            answering=self._core.live.current.version,
            uneasy=monitor.nearest if monitor and monitor.nearness >= UNEASY else None,
            damage=self._core.damage,
        )
        mood, sentence = html.sentence(facts)
        return {
            **report(store, self._core.config),
            "facts": facts,
            "mood": mood,
            "sentence": sentence,
            "progress": html.progress(facts),
            "next_run": self._clock.next_run(),
            "schedule": self._clock.decision,
            "versions": html.versions(store),
            "runs": store.runs.newest(RUNS),
            "monitor": monitor,
        }

    def _run(self, request: Request) -> dict[str, Any]:
        return html.run_values(self._store, request.path_params["id"])

    def _questions(self, request: Request) -> dict[str, Any]:
        kind = request.query_params.get("state") or None
        before = _row_id(request.query_params.get("before", ""))
        rows = self._store.questions.page(QUESTIONS, before=before, kind=kind)
        more = rows[-1].id if len(rows) == QUESTIONS else None
        return {"rows": rows, "kind": kind, "states": [*QuestionState, "probe"], "more": more}

    def _question(self, request: Request) -> dict[str, Any]:
        question = self._store.questions.get(request.path_params["id"])
        votes = self._store.votes.newest(question.id)
        return {
            "question": question,
            "votes": [{**vote, "rows": tally(vote, ANSWERS)} for vote in votes],
            "samples": self._store.votes.samples(votes[0]["id"]) if votes else [],
        }

    def _label(self, request: Request) -> dict[str, Any]:
        waiting = self._store.comparisons.waiting()
        pair = pair_report(waiting[0]) if waiting else None
        last = _row_id(request.query_params.get("last", ""))
        return {"pair": pair, "count": len(waiting), "words": WORDS, "last": last}

    async def _adapt(self, _request: Request, _form: dict[str, str]) -> str:
        run = await self._core.runs.start(Trigger.OPERATOR, {})
        return f"/runs/{run.id}"

    async def _stop(self, _request: Request, _form: dict[str, str]) -> str:
        await self._core.runs.stop()
        return "/"

    def _pause(self, paused: bool, _request: Request, _form: dict[str, str]) -> str:
        operations.pause(self._store, paused)
        return "/"

    def _roll_back(self, _request: Request, form: dict[str, str]) -> str:
        """Only what the operator saw: another version may have gone live since."""
        operations.roll_back(self._store, "rolled back on the page", form.get("version", ""))
        return "/"

    def _promote(self, _request: Request, form: dict[str, str]) -> str:
        operations.promote(self._core.config, self._store, form.get("version", ""))
        return "/"

    def _judge(self, request: Request, form: dict[str, str]) -> str:
        """Versions that judgements prove better are wanted once no pair of theirs waits, since to
        do so at once would tell which side was which."""
        word, pair_id = form.get("word", ""), request.path_params["id"]
        answer = form.get("answer", "").strip()
        if (word not in WORDS and word != "undo") or (answer and word != "neither"):
            raise Refusal("Unknown judgement.")
        operations.judge(self._store, pair_id, None if word == "undo" else word, answer)
        if not self._store.comparisons.waiting():
            confirm(self._store, self._core.config.gate)
        return "/label" if word == "undo" else f"/label?last={pair_id}"
