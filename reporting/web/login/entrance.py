"""Who comes in: the session a browser brings, the form of a login, and the way out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from starlette.responses import RedirectResponse, Response

from reporting.fhir.http import Api
from reporting.web.asking import PATH, Asked, is_own_page, next_of
from reporting.web.database import sessions, users
from reporting.web.database.sessions import NewSession, StoredSession
from reporting.web.login.oidc import WAY_S, Issuer, OidcError
from reporting.web.login.passcode import WITHIN_S, Refusal, log_in
from reporting.web.page import Deed, PageProblemError, Seen
from reporting.web.people import Role, Visitor, Way, roles_of
from reporting.web.texts.catalogue import LANGUAGES
from reporting.web.tokens import (
    BEFORE_COOKIE,
    FORM_FIELD,
    LANGUAGE_COOKIE,
    OIDC_COOKIE,
    SESSION_COOKIE,
    digest,
    form_token,
    is_form_token,
    new_token,
)
from reporting.web.use import note, note_login
from service.config import LOOPBACK
from service.database.pool import transaction
from service.records import LedgerEvent

_YEAR_S = 365 * 24 * 3600
_WAYS = {"none": Way.MACHINE, "passcode": Way.PASSCODE, "oidc": Way.OIDC}  # sessions of others have ended
_THIS_MACHINE = "this machine"


@dataclass(frozen=True, kw_only=True)
class Session:
    """Somebody who is in."""

    visitor: Visitor
    token: str
    form_token: str
    is_new: bool = False

    @property
    def token_sha256(self) -> bytes:
        """As the database knows it."""
        return digest(self.token)

    def kept(self, response: Response, asked: Asked) -> Response:
        """The same answer; a new session is left with the browser."""
        if self.is_new:
            _leave_cookie(response, asked, SESSION_COOKIE, self.token)
        return response


@dataclass(frozen=True, kw_only=True)
class Door:
    """The page of the login."""

    form_token: str
    token: str  # of the browser before the login
    facts: Mapping[str, Any] = field(default_factory=dict)
    status: int = 200

    def kept(self, response: Response, asked: Asked) -> Response:
        """The same answer; its form is this browser's alone."""
        _leave_cookie(response, asked, BEFORE_COOKIE, self.token)
        if self.status == 429:
            response.headers["Retry-After"] = f"{WITHIN_S:.0f}"
        return response


def _leave_cookie(response: Response, asked: Asked, name: str, value: str) -> None:
    response.set_cookie(name, value, path=asked.root, secure=asked.is_secure, httponly=True, samesite="lax")


def who(api: Api, asked: Asked) -> Session | Response:
    """The session of a request; or the answer to who has none: the login, or where there is none, why.

    Raises:
        DatabaseUnavailableError: The database is away.
        PageProblemError: 403: no login is configured, and this is not this machine.
    """
    is_open = api.settings.web_login == "none"
    if is_open and not (is_alone(api) and asked.is_of_this_machine):
        raise PageProblemError(
            403, "No login is configured: the dashboard is for a browser on its own machine alone."
        )
    token = asked.request.cookies.get(SESSION_COOKIE, "")
    if token:
        with transaction(api.pool) as connection:
            found = sessions.find(connection, digest(token), api.settings.web_session_idle_s)
            if found is not None:
                sessions.touch(connection, digest(token))
        if found is not None and found.way == _WAYS[api.settings.web_login]:
            return _session(api, found, token)
    if is_open:
        return _of_this_machine(api, asked)
    return RedirectResponse(f"{asked.root}/login?{_next(asked)}", status_code=303)


def is_alone(api: Api) -> bool:
    """Whether the API itself is for this machine alone."""
    return api.settings.fhir_auth_file is None and api.settings.api_host in LOOPBACK


def _next(asked: Asked) -> str:
    path = asked.request.url.path.removeprefix(asked.root) or "/"
    query = asked.request.url.query
    if asked.request.method != "GET" or path in ("/", "/live"):
        return ""
    return urlencode({"next": f"{path}?{query}" if query else path})


def _session(api: Api, found: StoredSession, token: str, *, is_new: bool = False) -> Session:
    visitor = Visitor(
        name=found.user_name, full_name=found.full_name, roles=roles_of(found.roles), way=Way(found.way)
    )
    return Session(visitor=visitor, token=token, form_token=form_token(api.page_key, token), is_new=is_new)


def _of_this_machine(api: Api, asked: Asked) -> Session:
    """A session of whoever sits at this machine, where no login is configured."""
    found = StoredSession(
        user_name=_THIS_MACHINE,
        full_name="",
        roles=tuple(role.value for role in Role),
        way=Way.MACHINE.value,
    )
    token = begin(api, asked, found)
    return _session(api, found, token, is_new=True)


def begin(api: Api, asked: Asked, found: StoredSession) -> str:
    """Begin a session of somebody who was let in; returns what their browser keeps."""
    token = new_token()
    with transaction(api.pool) as connection:
        sessions.begin(
            connection,
            NewSession(
                token_sha256=digest(token),
                user_name=found.user_name,
                full_name=found.full_name,
                roles=found.roles,
                way=found.way,
                peer_address=asked.peer,
            ),
            api.settings.web_session_s,
        )
    note_login(api, LedgerEvent.LOGGED_IN, who=found.user_name, peer=asked.peer, way=found.way)
    return token


def enter(api: Api, asked: Asked, form: Mapping[str, str]) -> Door | Response:
    """The login: its form, or what it brings."""
    if api.settings.web_login == "none":
        return RedirectResponse(f"{asked.root}/", status_code=303)
    query = asked.request.query_params
    target = next_of(form.get("next", query.get("next", "/")))
    if asked.request.method != "POST" or api.settings.web_login != "passcode":
        return _door(api, asked, {"next": target, "said": "", "name": ""})
    before = asked.request.cookies.get(BEFORE_COOKIE, "")
    if not is_own_page(asked) or not is_form_token(api.page_key, before, form.get(FORM_FIELD, "")):
        said = "The form is too old. Log in again."
        return _door(api, asked, {"next": target, "said": said, "name": ""}, status=403)
    if not asked.is_secure and not asked.is_of_this_machine:
        said = "A passcode is not taken over a connection that others can read: call this page by https."
        return _door(api, asked, {"next": target, "said": said, "name": ""}, status=403)
    name = form.get("name", "")[:200]
    tried = log_in(api.pool, name, form.get("passcode", ""), asked.peer)
    if tried.user is None:
        reason = tried.refusal or Refusal.WRONG
        note_login(
            api, LedgerEvent.LOGIN_REFUSED, who=name, peer=asked.peer, way="passcode", reason=reason.value
        )
        if reason is Refusal.TOO_MANY:
            said, status = "Too many tries. Wait a quarter of an hour.", 429
        else:
            said, status = "Name or passcode is wrong.", 401
        return _door(api, asked, {"next": target, "said": said, "name": name}, status=status)
    stored = StoredSession(
        user_name=tried.user.name,
        full_name=tried.user.full_name,
        roles=tried.user.roles,
        way=Way.PASSCODE.value,
    )
    response = RedirectResponse(asked.root + target, status_code=303)
    _leave_cookie(response, asked, SESSION_COOKIE, begin(api, asked, stored))
    response.delete_cookie(BEFORE_COOKIE, path=asked.root)
    return response


def out(asked: Asked, issuer: Issuer) -> Response:
    """To the issuer's login."""
    target = next_of(asked.request.query_params.get("next", "/"))
    outward = issuer.begin(f"{asked.base_url}{PATH}/oidc/back", target)
    response = RedirectResponse(outward.url, status_code=303)
    response.set_cookie(
        OIDC_COOKIE,
        outward.cookie,
        max_age=WAY_S,
        path=asked.root,
        secure=asked.is_secure,
        httponly=True,
        samesite="lax",
    )
    return response


def back(api: Api, asked: Asked, issuer: Issuer) -> Response:
    """From the issuer's login.

    Raises:
        OidcError: It vouches for nobody; that is written down.
    """
    try:
        vouched = issuer.back(dict(asked.request.query_params), asked.request.cookies.get(OIDC_COOKIE, ""))
    except OidcError as exc:
        note_login(api, LedgerEvent.LOGIN_REFUSED, who="", peer=asked.peer, way="oidc", reason=exc.reason)
        raise
    stored = StoredSession(
        user_name=vouched.name,
        full_name=vouched.full_name,
        roles=tuple(sorted(role.value for role in vouched.roles)),
        way=Way.OIDC.value,
    )
    response = RedirectResponse(asked.root + next_of(vouched.next), status_code=303)
    _leave_cookie(response, asked, SESSION_COOKIE, begin(api, asked, stored))
    response.delete_cookie(OIDC_COOKIE, path=asked.root)
    return response


def _door(api: Api, asked: Asked, facts: Mapping[str, Any], status: int = 200) -> Door:
    token = asked.request.cookies.get(BEFORE_COOKIE, "") or new_token()
    with transaction(api.pool) as connection:
        has_users = bool(users.everyone(connection))
    said = asked.texts(facts["said"]) if facts["said"] else ""
    return Door(
        token=token,
        form_token=form_token(api.page_key, token),
        facts={**facts, "said": said, "has_users": has_users, "login": api.settings.web_login},
        status=status,
    )


def leave(api: Api, asked: Asked, session: Session) -> Response:
    """End a session."""
    with transaction(api.pool) as connection:
        sessions.end(connection, session.token_sha256)
    visitor = session.visitor
    note_login(api, LedgerEvent.LOGGED_OUT, who=visitor.name, peer=asked.peer, way=visitor.way.value)
    response = RedirectResponse(f"{asked.root}/login", status_code=303)
    response.delete_cookie(SESSION_COOKIE, path=asked.root)
    response.headers["Clear-Site-Data"] = '"cache"'
    return response


def give_purpose(api: Api, asked: Asked, session: Session, form: Mapping[str, str]) -> Response:
    """Write down what a patient is opened for, and go on to the page."""
    purpose, patient = form["purpose"], form["patient"][:64]
    note(
        api,
        who=session.visitor.name,
        peer=asked.peer,
        page="POST /ui/purpose",
        deed=Deed.VIEW,
        seen=Seen(patients=(patient,), purpose=purpose, note="purpose given"),
    )
    with transaction(api.pool) as connection:
        sessions.give_purpose(connection, session.token_sha256, patient, purpose)
    return RedirectResponse(asked.root + next_of(form.get("next", "/")), status_code=303)


def speak(asked: Asked, form: Mapping[str, str]) -> Response:
    """Another language from now on; of no consequence beyond, and so open to everybody."""
    response = RedirectResponse(asked.root + next_of(form.get("next", "/")), status_code=303)
    if form.get("language") in LANGUAGES and is_own_page(asked):
        response.set_cookie(
            LANGUAGE_COOKIE,
            form["language"],
            max_age=_YEAR_S,
            path=asked.root,
            secure=asked.is_secure,
            samesite="lax",
        )
    return response
