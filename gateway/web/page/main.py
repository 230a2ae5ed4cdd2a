"""The page itself: header, tabs by role, and its place on the application."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import RedirectResponse, Response
from fastapi.staticfiles import StaticFiles
from nicegui import app as nicegui_app
from nicegui import ui
from nicegui.events import ValueChangeEventArguments
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.web.auth import COOKIE, principal_of_session
from gateway.web.context import Web
from gateway.web.page import login
from gateway.web.page.audit import audit_tab
from gateway.web.page.desk import Desk, alert
from gateway.web.page.live import live_tab
from gateway.web.page.recordings import recordings_tab
from gateway.web.page.settings import SettingsTab
from gateway.web.page.users import users_tab
from gateway.web.roles import Principal
from gateway.web.roles import Scope as Permission
from gateway.web.settings_rules import ENABLED, change_setting

_STATIC = Path(__file__).parent / "static"
_KEY = "twoparty.web"


class _Hand:
    """Tells the page which web a request came to: NiceGUI has one application for the whole process."""

    def __init__(self, app: ASGIApp, web: Web) -> None:
        self._app, self._web = app, web

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[_KEY] = self._web
        await self._app(scope, receive, send)


def install(app: FastAPI, web: Web) -> None:
    """Put the page under ``/`` of the API's application."""
    app.include_router(login.router)
    app.mount("/static", StaticFiles(directory=_STATIC), name="static")
    app.add_middleware(_Hand, web=web)
    nicegui_app.add_middleware(_OnlyOurs)
    ui.run_with(
        app, title="Twoparty", dark=None, language="en-US", tailwind=False, show_welcome_message=False,
        reconnect_timeout=10.0, binding_refresh_interval=None,
    )  # fmt: skip


class _OnlyOurs:
    """No page of NiceGUI's own 404 for strangers to look at: what is not known goes to the front."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "/")
        if scope["type"] == "http" and path not in ("/", "") and not path.startswith("/_nicegui"):
            await RedirectResponse("/", 303)(scope, receive, send)
            return
        await self._app(scope, receive, send)


@ui.page("/", title="Twoparty")
async def main(request: Request) -> Response | None:
    """The page of whoever is logged in; others go to the login."""
    web: Web = request.scope[_KEY]
    secret = request.cookies.get(COOKIE)
    principal = await principal_of_session(web, secret)
    if principal is None or secret is None:
        return RedirectResponse("/login", 303)
    ui.add_head_html('<link rel="stylesheet" href="/static/page.css"><script defer src="/static/player.js"></script>')
    desk = Desk(web, secret, principal)
    _header(principal)
    with ui.element("main").classes("tp-main"):
        await _banner(desk)
        _tabs(desk)
    return None


def _header(principal: Principal) -> None:
    identity = principal.identity
    dark = ui.dark_mode(None)
    ui.colors(primary="#0b6bcb", positive="#1b7a43", negative="#b3261e")
    ui.colors(primary="#0b6bcb", positive="#1b7a43", negative="#b3261e")
    with ui.element("header").classes("tp-header row"):
        ui.html("<h1>Twoparty</h1>", sanitize=False)
        ui.label(identity.organization).classes("tp-soft")
        ui.element("span").classes("tp-grow")
        ui.label(f"{identity.display_name or identity.username}, {identity.role}").classes("tp-soft")
        ui.button("Dark or light", on_click=lambda: dark.set_value(not dark.value)).props(
            "flat dense no-caps color=primary"
        )
        csrf = escape(principal.csrf_token or "")
        ui.html(
            f'<form method="post" action="/logout"><input type="hidden" name="csrf" value="{csrf}">'
            '<button type="submit" class="tp-button text-primary">Log out</button></form>', sanitize=False,
        )  # fmt: skip


async def _banner(desk: Desk) -> None:
    """While recording is off, everybody sees it; support can switch it on again here."""
    try:
        policy = (await desk.web.store.policies.current(desk.shown.organization)).policy
    except Exception:
        return
    if policy.recording_enabled:
        return
    with ui.element("div").classes("tp-alert").props('role="alert"') as box:
        ui.label("Call recording is switched off for the organization.")
        if not desk.shown.may(Permission.RECORDING_ENABLE):
            return

        async def enable(principal: Principal) -> None:
            done = await change_setting(desk.web, principal, ENABLED, True)
            alert("Saved. " + ". ".join(done.changes) + ".")
            box.set_visibility(False)

        ui.button("Switch recording on again", on_click=lambda: desk.act(enable)).props(
            "unelevated no-caps color=primary"
        )


def _tabs(desk: Desk) -> None:
    """A tab for each thing that the user may do; the others are not there."""
    may = desk.shown.may
    parts: list[tuple[str, bool, Callable[[], None]]] = [
        ("Live calls", may(Permission.CALLS_READ), lambda: live_tab(desk)),
        ("Recordings", may(Permission.RECORDINGS_READ), lambda: recordings_tab(desk)),
        ("Settings", may(Permission.POLICY_READ), lambda: SettingsTab(desk).draw()),
        ("Users", may(Permission.USERS_READ), lambda: users_tab(desk)),
        ("Audit log", may(Permission.AUDIT_READ), lambda: audit_tab(desk)),
    ]
    shown = [(name, draw) for name, visible, draw in parts if visible]
    drawn: set[str] = set()
    panels: dict[str, ui.tab_panel] = {}
    with ui.tabs().props("align=left no-caps outside-arrows mobile-arrows inline-label").classes("tp-wide") as tabs:
        for name, _ in shown:
            ui.tab(name)

    def open_tab(name: str) -> None:
        """A tab is drawn when it is first looked at."""
        if name not in drawn:
            drawn.add(name)
            with panels[name]:
                dict(shown)[name]()

    def changed(event: ValueChangeEventArguments[Any]) -> None:
        open_tab(str(event.value))

    tabs.on_value_change(changed)
    with ui.tab_panels(tabs).props("animated=false keep-alive").classes("tp-wide"):
        for name, _ in shown:
            panels[name] = ui.tab_panel(name)
    if shown:
        tabs.set_value(shown[0][0])
