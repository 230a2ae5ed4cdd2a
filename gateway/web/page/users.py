"""Tab "Users": who calls from where, and who may do what."""

from __future__ import annotations

from html import escape
from typing import Any

from nicegui import ui

from gateway.consent.places import REGIONS
from gateway.store.accounts import User
from gateway.web.page import words
from gateway.web.page.desk import Desk, alert, badge, heading
from gateway.web.problems import Problem
from gateway.web.roles import Principal, Scope, roles_to_give
from gateway.web.routes.users import NewUser, UserChanges, add, change


def users_tab(desk: Desk) -> None:
    """The list, and a form for one."""
    with ui.element("div").classes("tp-card tp-filters"):
        ui.label("The user's location decides with the prospect's what is recorded: keep it right.").classes("tp-grow")
        if desk.shown.may(Scope.USERS_WRITE):
            ui.button("Add a user", on_click=lambda: form(None)).props("unelevated no-caps color=primary")
    box = ui.element("ul").classes("tp-list").props('aria-label="Users"')

    async def load(principal: Principal) -> None:
        if not principal.may(Scope.USERS_READ):
            raise Problem(403, "users are not yours to see")
        found = await desk.web.store.accounts.users(principal.organization)
        box.clear()
        with box:
            for user in found:
                item(user)

    def item(user: User) -> None:
        agent = user.agent
        with ui.element("li").classes("tp-item"):
            ui.label(agent.username).classes("tp-strong")
            ui.label(agent.display_name)
            ui.label(words.ROLES.get(user.role, user.role) + (" with admin rights" if user.admin_rights else ""))
            ui.label(REGIONS.get(agent.state or "", agent.state or agent.country or "no location")).classes("tp-soft")
            if user.dids:
                ui.label(", ".join(user.dids)).classes("tp-soft")
            if not agent.enabled:
                badge("disabled", "off")
            ui.element("span").classes("tp-grow")
            if user.role in roles_to_give(desk.shown.identity) and desk.shown.may(Scope.USERS_WRITE):
                ui.button("Edit", on_click=lambda: form(user)).props("outline no-caps color=primary").props(
                    f'aria-label="Edit {escape(agent.username)}"'
                )

    def form(user: User | None) -> None:
        _form(desk, user, lambda: desk.act(load))

    ui.timer(0.05, lambda: desk.act(load), once=True)


def _form(desk: Desk, user: User | None, done: Any) -> None:
    """A dialog to make a user, or to change one."""
    agent = user.agent if user is not None else None
    roles = sorted(roles_to_give(desk.shown.identity))
    with ui.dialog() as dialog, ui.card().classes("tp-dialog"):
        heading("Add a user" if user is None else f"Edit {escape(agent.username if agent else '')}")
        name = ui.input("User name").props("outlined dense").classes("tp-wide")
        name.set_visibility(user is None)
        display = (
            ui.input("Full name", value=agent.display_name if agent else "").props("outlined dense").classes("tp-wide")
        )
        role = ui.select({r: words.ROLES[r] for r in roles}, value=user.role if user else "agent", label="Role")
        role.props("outlined dense").classes("tp-wide")
        rights = ui.switch("Admin rights (of a manager)", value=user.admin_rights if user else False)
        rights.set_visibility(desk.shown.identity.role == "admin")
        country = ui.input("Country (US, CA, …)", value=(agent.country if agent else "US") or "")
        country.props("outlined dense").classes("tp-wide")
        state = ui.select(
            {"": "Not known", **dict(sorted(REGIONS.items(), key=lambda item: item[1]))},
            value=(agent.state if agent else "") or "", label="User location (state or province)", with_input=True,
        ).props("outlined dense").classes("tp-wide")  # fmt: skip
        did = ui.input("Add a number that rings here").props("outlined dense").classes("tp-wide")
        sip = (
            ui.input("New SIP password", password=True)
            .props('outlined dense autocomplete="new-password"')
            .classes("tp-wide")
        )
        web = ui.input("New password for this page", password=True)
        web.props('outlined dense autocomplete="new-password"').classes("tp-wide")
        enabled = ui.switch("Enabled", value=agent.enabled if agent else True)

        async def save(principal: Principal) -> bool:
            if not principal.may(Scope.USERS_WRITE):
                raise Problem(403, "users are not yours to change")
            giver = principal.identity.role
            given: dict[str, Any] = {
                "display_name": display.value or "", "role": role.value, "country": country.value or "",
                "state": state.value or "", "enabled": enabled.value,
                "add_dids": [did.value.strip()] if (did.value or "").strip() else [],
                "sip_password": sip.value or None, "web_password": web.value or None,
                "admin_rights": rights.value if role.value == "manager" and giver == "admin" else None,
            }  # fmt: skip
            if user is None:
                await add(desk.web, principal, NewUser(username=name.value or "", **given))
            else:
                await change(desk.web, principal, user.agent.username, UserChanges(**given))
            return True

        async def submit() -> None:
            if await desk.act(save):
                alert(f"Saved: user {name.value if user is None else user.agent.username}.")
                dialog.close()
                await done()

        with ui.row():
            ui.button("Save", on_click=submit).props("unelevated no-caps color=primary")
            ui.button("Cancel", on_click=dialog.close).props("flat no-caps color=primary")
    dialog.on("hide", dialog.delete)
    dialog.open()
