"""Tab "Audit log": who changed what, and whether the log is whole."""

from __future__ import annotations

import json
from typing import Any

from nicegui import ui

from gateway.store.audit import AuditEntry
from gateway.web.page import words
from gateway.web.page.desk import Desk, alert
from gateway.web.problems import Problem
from gateway.web.roles import Principal, Scope

PAGE = 50


def audit_tab(desk: Desk) -> None:
    """The log, the newest first."""
    state: dict[str, Any] = {"before": None}
    with ui.element("div").classes("tp-card tp-filters"):
        ui.button("Check the log", on_click=lambda: desk.act(check)).props("unelevated no-caps color=primary")
        ui.link("Export as JSON lines", "/api/v1/audit/export").props("download")
    box = ui.element("ul").classes("tp-list").props('aria-label="Audit log"')
    more = ui.button("Show more", on_click=lambda: desk.act(load)).props("flat no-caps color=primary")

    async def check(principal: Principal) -> None:
        broken = await desk.web.store.audit.verify(_reader(principal).organization)
        whole = "The log is whole: every entry is as it was written."
        alert(whole if broken is None else f"The log is broken: {broken}",
              good=broken is None)  # fmt: skip

    async def load(principal: Principal) -> None:
        organization = _reader(principal).organization
        found = await desk.web.store.audit.entries(organization, limit=PAGE + 1, before=state["before"])
        with box:
            for entry in found[:PAGE]:
                _item(entry)
        state["before"] = found[PAGE - 1].sequence if len(found) > PAGE else None
        more.set_visibility(len(found) > PAGE)

    ui.timer(0.05, lambda: desk.act(load), once=True)


def _reader(principal: Principal) -> Principal:
    if not principal.may(Scope.AUDIT_READ):
        raise Problem(403, "the audit log is not yours to read")
    return principal


def _item(entry: AuditEntry) -> None:
    with ui.element("li").classes("tp-item"):
        ui.label(words.when(entry.at)).classes("tp-soft")
        ui.label(entry.actor).classes("tp-strong")
        ui.label(f"{entry.action} {entry.target}".strip())
        for line in _lines(entry):
            ui.label(line).classes("tp-hint tp-wide")


def _lines(entry: AuditEntry) -> list[str]:
    before = entry.before if isinstance(entry.before, dict) else {}
    after = entry.after if isinstance(entry.after, dict) else {}
    return [
        f"{name}: {_short(before[name])} → {_short(after.get(name))}"
        if name in before
        else f"{name}: {_short(after[name])}"
        for name in dict.fromkeys((*before, *after))
    ]


def _short(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else value
