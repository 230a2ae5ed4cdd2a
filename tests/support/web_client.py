"""Browsers and machines for tests of the web: clients with a session, or with a token, on an application in-process."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI

from gateway.b2bua.calls import LiveCall
from gateway.b2bua.gate import load_data
from gateway.b2bua.keys import Control
from gateway.store.store import Store
from gateway.web.app import PREFIX, make_app
from gateway.web.auth import COOKIE
from gateway.web.context import Web
from gateway.web.passwords import hash_password

PASSWORD = "correct horse battery"
HASH = hash_password(PASSWORD)
CONFIG = Path(__file__).parents[2] / "config"
TEXTS = tuple((CONFIG / name).read_text("utf-8") for name in ("area_codes.csv", "jurisdictions.toml"))

PEOPLE: dict[str, dict[str, Any]] = {
    "boss": {"role": "admin"},
    "mara": {"role": "manager", "admin_rights": True},
    "max": {"role": "manager"},
    "alice": {"role": "agent"},
    "sue": {"role": "support"},
}
"""One user for each kind of rights; of another organization with its name before theirs."""


@dataclass
class FakeLive:
    """The live calls that a test says there are."""

    calls: list[LiveCall] = field(default_factory=list)

    def live(self, organization: str) -> list[LiveCall]:
        return [call for call in self.calls if call.organization == organization]

    def control_capture(self, organization: str, call_id: str, control: Control, by: str) -> LiveCall | None:
        for index, call in enumerate(self.calls):
            if (call.organization, call.call_id) == (organization, call_id):
                self.calls[index] = replace(call, paused=control is Control.PAUSE)
                return self.calls[index]
        return None


class Browser:
    """A client that keeps its session's cookie and sends the CSRF token. Paths are under the API's prefix."""

    def __init__(self, app: FastAPI, token: str | None = None, host: str = "127.0.0.1") -> None:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        transport = httpx.ASGITransport(app, raise_app_exceptions=False, client=(host, 40000))
        self.http = httpx.AsyncClient(transport=transport, base_url="http://gateway.test", headers=headers)

    async def log_in(self, username: str, password: str = PASSWORD) -> httpx.Response:
        answer = await self.http.post(PREFIX + "/session", json={"username": username, "password": password})
        if answer.status_code == 200:
            self.http.headers["x-csrf-token"] = answer.json()["csrf_token"]
        return answer

    async def __call__(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        return await self.http.request(method, PREFIX + path, **arguments)

    async def get(self, path: str, status: int = 200, **query: Any) -> Any:
        answer = await self("GET", path, params=query)
        assert answer.status_code == status, answer.text
        return answer.json() if answer.content else None

    async def send(self, method: str, path: str, body: Any = None, status: int = 200) -> Any:
        answer = await self(method, path, json=body)
        assert answer.status_code == status, answer.text
        return answer.json() if answer.content else None

    async def set(self, setting: str, value: Any, status: int = 200) -> Any:
        return await self.send("PUT", f"/policy/{setting}", {"value": value}, status)


@dataclass
class Site:
    """An application, its store, and people of two organizations."""

    app: FastAPI
    web: Web
    live: FakeLive
    reviews: list[int]
    browsers: list[Browser] = field(default_factory=list)

    @property
    def store(self) -> Store:
        return self.web.store

    async def browser(self, username: str | None = None, token: str | None = None, host: str = "127.0.0.1") -> Browser:
        made = Browser(self.app, token, host)
        self.browsers.append(made)
        if username is not None:  # as a login does it, without the time that a password takes
            login = await self.store.access.login(username)
            assert login is not None
            secret, csrf = secrets.token_urlsafe(), secrets.token_urlsafe()
            await self.store.access.open_session(login.identity, secret, csrf, self.web.session_lifetime, host)
            made.http.cookies.set(COOKIE, secret)
            made.http.headers["x-csrf-token"] = csrf
        return made

    async def close(self) -> None:
        for browser in self.browsers:
            await browser.http.aclose()
        await self.web.close()
        await self.store.close()


async def make_site(url: str, recordings: Path) -> Site:
    """People of ``acme`` (boss, mara, max, alice, sue) and of ``other`` (other-boss …), in a new database."""
    store = await Store.open(url)
    live, reviews = FakeLive(), []

    async def review() -> None:
        reviews.append(1)

    web = Web(
        store=store, store_url=url, data=load_data(*TEXTS), reference_texts=(TEXTS[0], TEXTS[1]), live=live,
        policy_changed=review, recordings_root=recordings, realm="twoparty", support_contact="support@example.test",
        secure_cookies=False,
    )  # fmt: skip
    for organization, prefix in (("acme", ""), ("other", "other-")):
        for name, profile in PEOPLE.items():
            await store.accounts.add_user(
                prefix + name, organization, create_organization=True, password_hash=HASH, country="US", state="US-TX",
                **profile,
            )  # fmt: skip
    return Site(make_app(web), web, live, reviews)
