"""Somebody who looks at pages: cookies, forms and redirects as a browser has them, without a socket."""

from __future__ import annotations

import asyncio
import re
from html import unescape

import httpx

from reporting.fhir.http import Api
from reporting.web.app import web_app
from reporting.web.database import users
from reporting.web.people import Role
from service.database.pool import transaction
from service.passcodes import digest_of

BASE = "https://semblance.hospital.example"
PASSCODE = "correct horse battery"


class Browser:
    """Keeps cookies, follows redirects, and fills forms in."""

    def __init__(self, api: Api, base: str = BASE, address: str = "127.0.0.1") -> None:
        self._app = web_app(api)
        self._address = address
        self._base = base
        self.cookies = httpx.Cookies()
        self.page = httpx.Response(0)

    def ask(self, method: str, path: str, *, follow: bool = True, **more: object) -> httpx.Response:
        async def asked() -> httpx.Response:
            transport = httpx.ASGITransport(app=self._app, client=(self._address, 4711))
            client = httpx.AsyncClient(
                transport=transport, base_url=self._base, cookies=self.cookies, follow_redirects=follow
            )
            async with client:
                answer = await client.request(method, path, **more)
                self.cookies = client.cookies
                return answer

        self.page = asyncio.run(asked())
        return self.page

    def get(self, path: str, **more: object) -> httpx.Response:
        return self.ask("GET", f"/ui{path}", **more)

    def send(self, path: str, fields: dict[str, str], **more: object) -> httpx.Response:
        """Send the form of the page that is open, with its token."""
        return self.ask("POST", f"/ui{path}", data={"form_token": self.form_token, **fields}, **more)

    @property
    def form_token(self) -> str:
        found = re.search(r'name="form_token" value="([0-9a-f]+)"', self.page.text)
        return found[1] if found else ""

    @property
    def text(self) -> str:
        """What the page says, without its markup."""
        return " ".join(unescape(re.sub(r"<[^>]+>", " ", self.page.text)).split())

    def log_in(self, name: str, passcode: str = PASSCODE) -> httpx.Response:
        self.get("/login")
        return self.send("/login", {"name": name, "passcode": passcode})

    def open(self, path: str, purpose: str = "TREAT") -> httpx.Response:
        """A page of a patient, with the purpose where it is asked for."""
        self.get(path)
        if 'name="purpose"' in self.page.text:
            patient = re.search(r'name="patient" value="([^"]+)"', self.page.text)
            assert patient is not None
            self.send("/purpose", {"purpose": purpose, "patient": patient[1], "next": path})
        return self.page


def add_user(api: Api, name: str, *roles: Role) -> None:
    with transaction(api.pool) as connection:
        users.add(
            connection,
            name=name,
            full_name=f"{name.title()} of the test",
            roles=[role.value for role in roles],
            passcode=digest_of(PASSCODE.encode()),
        )
