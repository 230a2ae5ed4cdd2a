"""One open page of one user: who they are (asked again before each action), and how errors are told."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from nicegui import ui

from gateway.web.auth import principal_of_session
from gateway.web.context import Web
from gateway.web.problems import of_exception
from gateway.web.roles import Principal


class LoggedOut(Exception):
    """The session has ended; the browser is on its way to the login."""


class Desk:
    """The page's hold on the web."""

    def __init__(self, web: Web, secret: str, principal: Principal) -> None:
        self.web = web
        self._secret = secret
        self._principal = principal

    @property
    def shown(self) -> Principal:
        """Who the page was made for; for what is drawn, never for what is done."""
        return self._principal

    async def principal(self) -> Principal:
        """Who acts now: sessions end and rights change while a page is open. Raises LoggedOut."""
        found = await principal_of_session(self.web, self._secret)
        if found is None:
            ui.navigate.to("/login")
            raise LoggedOut
        if found.scopes != self._principal.scopes:
            ui.navigate.reload()
        return found

    async def act(self, work: Callable[[Principal], Awaitable[Any]]) -> Any:
        """``work`` as the principal; what goes wrong is told in an alert. None then."""
        try:
            return await work(await self.principal())
        except LoggedOut:
            return None
        except Exception as error:
            alert(of_exception(error).detail, good=False)
            return None


def alert(text: str, *, good: bool = True) -> None:
    """A message that screen readers speak at once."""
    ui.notify(
        text, type="positive" if good else "negative", position="top", multi_line=True, close_button="Close",
        timeout=5000 if good else 10000,
    )  # fmt: skip


def heading(text: str) -> None:
    """A section's heading."""
    ui.html(f"<h2>{text}</h2>", sanitize=False)


def badge(text: str, kind: str) -> ui.label:
    """A short state in a pill."""
    return ui.label(text).classes(f"tp-badge tp-{kind}")
