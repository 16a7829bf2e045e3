"""The page's routes: what is shown, and the buttons."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from sqlalchemy.exc import DBAPIError
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from jobs import confirm
from serve import plots, report
from serve.core import Core
from serve.labels import WORDS, judged
from serve.live import BASE
from serve.page import look, sentence, web
from serve.page.door import SESSION_SECONDS, Door
from serve.page.rows import row_id
from serve.schedule import PAUSED, Clock
from serve.tally import tally
from serve.watch import Watch
from ttrl.adapters import AdapterDamaged, verify
from ttrl.settings import ConfigError
from ttrl.store import StoreDamaged, StoreError
from ttrl.store.adapters import AdapterGone, Author
from ttrl.store.questions import QuestionState
from ttrl.store.runs import RunBusy, Trigger

COOKIE = "ttrl-session"
Handler = Callable[[Request], Awaitable[Response]]


class Refusal(Exception):
    """A button that cannot be pushed now; says why."""


class Page:
    """The operator's page."""

    def __init__(self, core: Core, clock: Clock, watch: Watch, key: str) -> None:
        self._core = core
        self._store = core.store
        self._clock = clock
        self._watch = watch
        self._door = Door(key)
        self._templates = web.environment()

    def routes(self) -> list[BaseRoute]:
        """What it answers to."""
        shown = {
            "/": self._home,
            "/questions": self._questions,
            "/questions/{id:row}": self._question,
            "/runs/{id:row}": self._run,
            "/label": self._label,
        }
        pushed = {
            "/adapt": self._adapt,
            "/stop": self._stop,
            "/pause": self._pause,
            "/resume": self._resume,
            "/rollback": self._roll_back,
            "/promote": self._promote,
            "/label/{id:row}": self._judge,
        }
        return [
            Route("/login", self._login, methods=["GET", "POST"]),
            *(Route(path, self._seen(handler)) for path, handler in shown.items()),
            *(
                Route(path, self._done(handler), methods=["POST"])
                for path, handler in pushed.items()
            ),
        ]

    def _seen(self, handler: Handler) -> Handler:
        async def checked(request: Request) -> Response:
            if not self._admitted(request):
                return RedirectResponse("/login", 303)
            return await self._answered(request, handler(request))

        return checked

    async def _answered(self, request: Request, work: Awaitable[Response]) -> Response:
        """What came of it, or a sentence: also while the store is away."""
        try:
            return await work
        except KeyError as error:
            status, said = 404, str(error.args[0])
        except (
            Refusal, RunBusy, ConfigError, AdapterDamaged, AdapterGone, StoreDamaged,
        ) as error:  # fmt: skip
            status, said = 409, str(error)
        except (DBAPIError, StoreError):
            live = self._core.live.current.version
            status, said = 503, f"The store cannot be used now. Users are served by {live}."
        return self._show(request, "said.html", status, said=said)

    def _done(self, handler: Callable[[Request, dict[str, str]], Awaitable[str]]) -> Handler:
        """Only for who is let in, and only from our own forms; then back to a page."""

        async def checked(request: Request) -> Response:
            if not self._admitted(request):
                return RedirectResponse("/login", 303)
            form = await web.form(request)
            if not self._door.takes(request.cookies[COOKIE], form.get("token", "")):
                return self._show(request, "said.html", 403, said="That form is not of this page.")

            async def push() -> Response:
                return RedirectResponse(await handler(request, form), 303)

            return await self._answered(request, push())

        return checked

    def _admitted(self, request: Request) -> bool:
        return self._door.admits(request.cookies.get(COOKIE, ""), time.time())

    async def _login(self, request: Request) -> Response:
        given = request.query_params.get("key") or (await web.form(request)).get("key", "")
        if not self._door.opens(given):
            status = 401 if given else 200
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

    async def _home(self, request: Request) -> Response:
        return self._show(request, "home.html", **await asyncio.to_thread(self._state))

    def _state(self) -> dict[str, Any]:
        guard = self._watch.report()
        uneasy = guard["nearest"] if guard and guard["nearness"] >= look.UNEASY else None
        facts = sentence.facts(
            self._store,
            engine_up=self._core.engine.up,
            answering=self._core.live.current.version,
            uneasy=uneasy,
            damage=self._core.damage,
        )
        mood, said = sentence.sentence(facts)
        return {
            "facts": facts,
            "mood": mood,
            "sentence": said,
            "progress": sentence.progress(facts),
            "next_run": self._clock.next_run(),
            "schedule": self._clock.said,
            "versions": look.versions(self._store),
            "runs": self._store.runs.newest(look.RUNS),
            "questions": self._store.questions.counts(),
            "guard": guard,
            "served_name": self._core.config.served_name,
        }

    async def _run(self, request: Request) -> Response:
        page = await asyncio.to_thread(
            report.render,
            self._store,
            request.path_params["id"],
            nonce=web.nonce(request),
            token=self._door.token(request.cookies[COOKIE]),
        )
        return web.page(request, page, 200)

    async def _questions(self, request: Request) -> Response:
        kind = request.query_params.get("state") or None
        rows = await asyncio.to_thread(
            self._store.questions.page,
            look.QUESTIONS,
            before=row_id(request.query_params.get("before", "")),
            kind=kind,
        )
        states = [*QuestionState, "probe"]
        more = rows[-1].id if len(rows) == look.QUESTIONS else None
        return self._show(request, "questions.html", rows=rows, kind=kind, states=states, more=more)

    async def _question(self, request: Request) -> Response:
        def read() -> dict[str, Any]:
            question = self._store.questions.get(request.path_params["id"])
            votes = self._store.votes.newest(question.id)
            said = self._store.votes.samples(votes[0]["id"]) if votes else []
            return {
                "question": question,
                "turns": look.turns(question.question),
                "votes": [{**vote, "rows": tally(vote, look.ANSWERS)} for vote in votes],
                "samples": said,
            }

        return self._show(request, "question.html", **await asyncio.to_thread(read))

    async def _label(self, request: Request) -> Response:
        waiting = await asyncio.to_thread(self._store.comparisons.waiting)
        pair = look.pair_of(waiting[0]) if waiting else None
        return self._show(
            request, "label.html", pair=pair, count=len(waiting), words=WORDS,
            last=row_id(request.query_params.get("last", "")),
        )  # fmt: skip

    async def _adapt(self, _request: Request, _form: dict[str, str]) -> str:
        run = await self._core.runs.start(Trigger.OPERATOR, {})
        return f"/runs/{run.id}"

    async def _stop(self, _request: Request, _form: dict[str, str]) -> str:
        await self._core.runs.stop()
        return "/"

    async def _pause(self, _request: Request, _form: dict[str, str]) -> str:
        await asyncio.to_thread(self._store.set_fact, PAUSED, str(time.time()))
        return "/"

    async def _resume(self, _request: Request, _form: dict[str, str]) -> str:
        await asyncio.to_thread(self._store.set_fact, PAUSED, None)
        return "/"

    async def _roll_back(self, _request: Request, form: dict[str, str]) -> str:
        """Only what the operator saw: another version may have gone live since."""

        def back() -> bool:
            return self._store.adapters.roll_back(
                author=Author.OPERATOR,
                reason="rolled back on the page",
                only=form.get("version", ""),
            )

        if not await asyncio.to_thread(back):
            raise Refusal("Another version is live by now; look again.")
        self._core.reconciler.wake()
        return "/"

    async def _promote(self, _request: Request, form: dict[str, str]) -> str:
        name = form.get("version", "")

        def promote() -> None:
            chosen = None if name == BASE else self._store.adapters.get(name).name
            if chosen is not None:
                verify(self._core.config.state_dir / "adapters" / chosen)
            if chosen != self._store.adapters.wanted().adapter:
                reason = "promoted on the page"
                self._store.adapters.want(chosen, author=Author.OPERATOR, reason=reason)

        await asyncio.to_thread(promote)
        self._core.reconciler.wake()
        return "/"

    async def _judge(self, request: Request, form: dict[str, str]) -> str:
        """Versions that judgements prove better are wanted once no pair of theirs waits, since to
        do so at once would tell which side was which."""
        word, pair_id = form.get("word", ""), request.path_params["id"]
        answer = form.get("answer", "").strip()
        if (word not in WORDS and word != "undo") or (answer and word != "neither"):
            raise Refusal("That is no judgement.")

        def judge() -> None:
            stored = self._store.comparisons.get(pair_id)
            found = None if word == "undo" else judged(stored, word)
            self._store.comparisons.judge(stored, found, answer)
            if not self._store.comparisons.waiting():
                confirm.run(self._store)

        await asyncio.to_thread(judge)
        self._core.reconciler.wake()
        return "/label" if word == "undo" else f"/label?last={pair_id}"

    def _show(self, request: Request, template: str, status: int = 200, **values: Any) -> Response:
        session = request.cookies.get(COOKIE, "")
        page = self._templates.get_template(template).render(
            nonce=web.nonce(request),
            token=self._door.token(session),
            plots=plots,
            now=time.time(),
            **values,
        )
        return web.page(request, page, status)
