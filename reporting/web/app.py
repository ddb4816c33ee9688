"""The ASGI application of the dashboard: who asks is known, may do it, and it is written down."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any
from urllib.parse import quote, urlencode

import structlog
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from reporting.fhir.http import Api
from reporting.terminology import PURPOSES
from reporting.web.asking import HEADERS, PATH, Asked, asked_of, form_of, has_nul, is_own_page
from reporting.web.drawn import DrawnCharts
from reporting.web.live import live
from reporting.web.login import entrance
from reporting.web.login.oidc import OidcError, issuer_of
from reporting.web.page import (
    Answer,
    Deed,
    Moved,
    Page,
    PageProblemError,
    PurposeNeededError,
    Seen,
    Sent,
    Shown,
    Visit,
    menu,
)
from reporting.web.pages.table import PAGES
from reporting.web.people import Visitor
from reporting.web.render import rendered
from reporting.web.tokens import FORM_FIELD, is_form_token
from reporting.web.use import note
from service.database.budget import budget
from service.errors import DatabaseUnavailableError

_log = structlog.get_logger(__name__)

# What somebody is told whom the issuer does not vouch for; the ledger says why.
_NOT_LET_IN = "You are not let in: the login did not succeed, or gives you no role."

Endpoint = Callable[[Request], Awaitable[Response]]


def web_app(api: Api) -> Mount:
    """Make the application; it is served below PATH.

    Args:
        api: Database, store and audit, shared with the FHIR API.
    """
    dashboard = Dashboard(api)
    static = StaticFiles(packages=[("reporting.web", "static")])
    routes = [
        Mount("/static", app=static),
        Route("/login", dashboard.enter, methods=["GET", "POST"]),
        Route("/oidc/begin", dashboard.out),
        Route("/oidc/back", dashboard.back),
        Route("/logout", dashboard.leave, methods=["POST"]),
        Route("/language", dashboard.speak, methods=["POST"]),
        Route("/purpose", dashboard.purpose, methods=["POST"]),
        Route("/live", dashboard.live),
        *(Route(page.path, dashboard.serve(page), methods=[page.method]) for page in PAGES),
    ]
    app = Starlette(
        routes=routes, exception_handlers={HTTPException: dashboard.not_found, Exception: dashboard.failed}
    )
    return Mount(PATH, app=_WithHeaders(app))


class _WithHeaders:
    """Gives every answer the headers that keep pages what they are."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def send_with(message: Any) -> None:
            if message["type"] == "http.response.start":
                given = {name.lower() for name, _ in message["headers"]}
                own = [
                    (name.lower().encode(), value.encode())
                    for name, value in HEADERS.items()
                    if name.lower().encode() not in given
                ]
                message = {**message, "headers": [*message["headers"], *own]}
            await send(message)

        await self._app(scope, receive, send_with)


class Dashboard:
    """The pages over one API.

    Args:
        api: What they are made from.
    """

    def __init__(self, api: Api) -> None:
        self._api = api
        self._drawn = DrawnCharts()
        self._issuer = issuer_of(api.settings, api.page_key)

    def _asked(self, request: Request) -> Asked:
        return asked_of(request, self._api.settings, self._api.site.zone)

    def serve(self, page: Page) -> Endpoint:
        """The endpoint of a page."""

        async def endpoint(request: Request) -> Response:
            asked = self._asked(request)
            if has_nul(request):
                return self._problem(asked, None, PageProblemError(400, "The address is malformed."))
            form = {}
            if request.method == "POST":
                try:
                    form = dict(await form_of(request))
                except PageProblemError as exc:
                    return self._problem(asked, None, exc)
            return await run_in_threadpool(self._serve, page, asked, form)

        return endpoint

    def _serve(self, page: Page, asked: Asked, form: dict[str, str]) -> Response:
        try:
            with budget(self._api.settings.api_request_timeout_s):
                found = entrance.who(self._api, asked)
                if isinstance(found, Response):
                    return found
                return self._answered(page, asked, form, found)
        except PageProblemError as exc:
            return self._problem(asked, None, exc)
        except DatabaseUnavailableError:
            return self._problem(asked, None, PageProblemError(503, "The database cannot be reached now."))
        except Exception as exc:  # noqa: BLE001 - the border: every failure is answered, and none ends the process
            return self._failed(asked, exc)

    def _answered(
        self, page: Page, asked: Asked, form: dict[str, str], session: entrance.Session
    ) -> Response:
        visitor = session.visitor
        if not visitor.may(page.need):
            self._note(asked, visitor, page, Seen(note="not allowed"), 403)
            problem = PageProblemError(403, "Your roles do not allow this page.")
            return self._problem(asked, visitor, problem, session)
        if page.method == "POST" and not self._is_ours(asked, session.token, form):
            self._note(asked, visitor, page, Seen(note="a form that is not ours"), 403)
            problem = PageProblemError(403, "The form is too old. Open the page again.")
            return self._problem(asked, visitor, problem, session)
        visit = Visit(
            api=self._api,
            root=asked.root,
            path=asked.request.url.path.removeprefix(asked.root) or "/",
            parameters={name: str(value) for name, value in asked.request.path_params.items()},
            query=dict(asked.request.query_params),
            form=form,
            visitor=visitor,
            token_sha256=session.token_sha256,
            peer=asked.peer,
            form_token=session.form_token,
            texts=asked.texts,
            zone=asked.texts.zone,
            drawn=self._drawn,
        )
        try:
            answer = page.handler(visit)
        except PurposeNeededError as exc:
            return self._ask_purpose(asked, session, exc.patient)
        except PageProblemError as exc:
            self._note(asked, visitor, page, Seen(note=exc.text), exc.status)
            return self._problem(asked, visitor, exc, session)
        if page.deed is Deed.ACT:
            self._drawn.forget()
        if answer.seen is not None:
            self._note(asked, visitor, page, answer.seen, 200)
        return self._response(asked, session, answer)

    def _response(self, asked: Asked, session: entrance.Session, answer: Answer) -> Response:
        if isinstance(answer, Moved):
            response: Response = RedirectResponse(asked.root + answer.path, status_code=303)
        elif isinstance(answer, Sent):
            response = Response(answer.body, media_type=answer.media_type)
            if answer.file_name:
                named = quote(answer.file_name)
                response.headers["Content-Disposition"] = f"attachment; filename*=UTF-8''{named}"
            if answer.keep_s:
                response.headers["Cache-Control"] = f"private, max-age={answer.keep_s}"
        else:
            response = self._page(asked, session, answer)
        return session.kept(response, asked)

    def _page(self, asked: Asked, session: entrance.Session | None, shown: Shown) -> Response:
        visitor = session.visitor if session else None
        known = {
            "root": asked.root,
            "path": asked.request.url.path.removeprefix(asked.root) or "/",
            "visitor": visitor,
            "form_token": session.form_token if session else "",
            "menu": menu(PAGES, visitor) if visitor else [],
            "zone": str(asked.texts.zone),
            "organisation": self._api.settings.organisation,
            "is_open": self._api.settings.web_login == "none",
        }
        body = rendered(shown.template, asked.texts, {**known, **shown.facts})
        headers = {"Vary": "Cookie, Accept-Language"}
        return Response(body, shown.status, headers=headers, media_type="text/html")

    def _problem(
        self,
        asked: Asked,
        _visitor: Visitor | None,
        problem: PageProblemError,
        session: entrance.Session | None = None,
    ) -> Response:
        text = asked.texts(problem.text, **problem.values)
        facts = {"status": problem.status, "text": text}
        return self._page(asked, session, Shown(template="problem.html", facts=facts, status=problem.status))

    def _ask_purpose(self, asked: Asked, session: entrance.Session, patient: str) -> Response:
        target = asked.request.url.path.removeprefix(asked.root) or "/"
        query = str(asked.request.url.query)
        facts = {
            "purposes": list(PURPOSES.items()),
            "patient": patient,
            "next": f"{target}?{query}" if query and asked.request.method == "GET" else target,
        }
        return session.kept(self._page(asked, session, Shown(template="purpose.html", facts=facts)), asked)

    def _is_ours(self, asked: Asked, token: str, form: dict[str, str]) -> bool:
        brought = form.get(FORM_FIELD, "")
        return is_own_page(asked) and is_form_token(self._api.page_key, token, brought)

    def _note(self, asked: Asked, visitor: Visitor, page: Page, seen: Seen, status: int) -> None:
        where = asked.request.url.path.removeprefix(asked.root) or "/"
        query = urlencode(list(asked.request.query_params.multi_items()))
        note(
            self._api,
            who=visitor.name,
            peer=asked.peer,
            page=f"{asked.request.method} {PATH}{where}",
            deed=page.deed,
            seen=replace(seen, query=f"?{query} {seen.query}".strip() if query else seen.query),
            status=status,
        )

    async def enter(self, request: Request) -> Response:
        """``/login``: the form, and what it brings."""
        return await self._form(request, self._enter)

    def _enter(self, asked: Asked, form: dict[str, str]) -> Response:
        found = entrance.enter(self._api, asked, form)
        if isinstance(found, Response):
            return found
        return self._before(asked, found)

    def _before(self, asked: Asked, shown: entrance.Door) -> Response:
        facts = {**shown.facts, "form_token": shown.form_token}
        response = self._page(asked, None, Shown(template="login.html", facts=facts, status=shown.status))
        return shown.kept(response, asked)

    async def out(self, request: Request) -> Response:
        """``/oidc/begin``: to the issuer's login."""
        return await self._form(request, self._out)

    def _out(self, asked: Asked, _form: dict[str, str]) -> Response:
        if self._issuer is None:
            raise PageProblemError(404, "There is no such page.")
        try:
            return entrance.out(asked, self._issuer)
        except OidcError as exc:
            _log.warning("login-issuer", error=exc.reason)
            raise PageProblemError(502, "The login of your organisation does not answer.") from exc

    async def back(self, request: Request) -> Response:
        """``/oidc/back``: from the issuer's login."""
        return await self._form(request, self._back)

    def _back(self, asked: Asked, _form: dict[str, str]) -> Response:
        if self._issuer is None:
            raise PageProblemError(404, "There is no such page.")
        try:
            return entrance.back(self._api, asked, self._issuer)
        except OidcError as exc:
            _log.warning("login-refused", error=exc.reason)
            raise PageProblemError(403, _NOT_LET_IN) from exc

    async def leave(self, request: Request) -> Response:
        """``/logout``."""
        return await self._form(request, self._leave)

    def _leave(self, asked: Asked, form: dict[str, str]) -> Response:
        found = entrance.who(self._api, asked)
        if isinstance(found, Response):
            return found
        if not self._is_ours(asked, found.token, form):
            return self._problem(
                asked,
                found.visitor,
                PageProblemError(403, "The form is too old. Open the page again."),
                found,
            )
        return entrance.leave(self._api, asked, found)

    async def purpose(self, request: Request) -> Response:
        """``/purpose``: what a patient is opened for."""
        return await self._form(request, self._purpose)

    def _purpose(self, asked: Asked, form: dict[str, str]) -> Response:
        found = entrance.who(self._api, asked)
        if isinstance(found, Response):
            return found
        if not self._is_ours(asked, found.token, form):
            problem = PageProblemError(403, "The form is too old. Open the page again.")
            return self._problem(asked, found.visitor, problem, found)
        if form.get("purpose") not in PURPOSES or not form.get("patient"):
            return self._problem(
                asked, found.visitor, PageProblemError(400, "Choose what you open the patient for."), found
            )
        return entrance.give_purpose(self._api, asked, found, form)

    async def speak(self, request: Request) -> Response:
        """``/language``: pages in another language from now on."""
        return await self._form(request, entrance.speak)

    async def live(self, request: Request) -> Response:
        """``/live``: numbers as they change."""
        asked = self._asked(request)
        try:
            found = await run_in_threadpool(entrance.who, self._api, asked)
        except PageProblemError as exc:
            return Response(status_code=exc.status)
        if isinstance(found, Response) or found.is_new:
            return Response(status_code=401)
        return live(self._api, request, found.token_sha256, asked.texts)

    async def _form(self, request: Request, work: Callable[[Asked, dict[str, str]], Response]) -> Response:
        asked = self._asked(request)
        try:
            form = dict(await form_of(request)) if request.method == "POST" else {}
            return await run_in_threadpool(work, asked, form)
        except PageProblemError as exc:
            return self._problem(asked, None, exc)
        except DatabaseUnavailableError:
            return self._problem(asked, None, PageProblemError(503, "The database cannot be reached now."))

    async def not_found(self, request: Request, exc: Exception) -> Response:
        """There is no such page, or not by that method."""
        status = exc.status_code if isinstance(exc, HTTPException) else 404
        text = "There is no such page." if status == 404 else "This page cannot be asked for in this way."
        return self._problem(self._asked(request), None, PageProblemError(status, text))

    async def failed(self, request: Request, exc: Exception) -> Response:
        """What fails outside of a page."""
        return self._failed(self._asked(request), exc)

    def _failed(self, asked: Asked, exc: Exception) -> Response:
        """Whatever else happens is answered in words and written into the log."""
        _log.error("page-failed", path=asked.request.url.path, error=type(exc).__name__, exc_info=exc)
        return self._problem(asked, None, PageProblemError(500, "This page failed."))
