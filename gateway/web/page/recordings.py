"""Tab "Recordings": find them, hear them, see why they are as they are."""

from __future__ import annotations

from html import escape
from typing import Any

from nicegui import ui

from gateway.store.history import RecordingRow
from gateway.web.page import words
from gateway.web.page.desk import Desk, badge, heading
from gateway.web.problems import Problem
from gateway.web.roles import Principal
from gateway.web.routes.calls import call_filter
from gateway.web.routes.recordings import manifest_of

PAGE = 25


def recordings_tab(desk: Desk) -> None:
    """A filter, the list, and more of it."""
    state: dict[str, Any] = {"cursor": None}
    with ui.element("div").classes("tp-card"), ui.element("div").classes("tp-filters"):
        number = ui.input("Prospect's number").props("clearable outlined dense")
        user = ui.input("Agent").props("clearable outlined dense")
        user.set_visibility(desk.shown.own_only is None)
        mode = ui.select({"": "Any", **words.MODES}, value="", label="Recorded").props("outlined dense")
        ui.button("Search", on_click=lambda: load(first=True)).props("unelevated color=primary no-caps")
    told = ui.label("").props('role="status" aria-live="polite"').classes("tp-soft")
    box = ui.element("ul").classes("tp-list").props('aria-label="Recordings"')
    more = ui.button("Show more", on_click=lambda: load(first=False)).props("flat no-caps color=primary")

    async def load(first: bool) -> None:
        async def work(principal: Principal) -> None:
            wanted = call_filter(
                principal, user.value or None, (number.value or "").strip() or None, mode.value or None
            )
            cursor = None if first else state["cursor"]
            page = await desk.web.store.history.recordings(wanted, limit=PAGE, cursor=cursor)
            if first:
                box.clear()
            state["cursor"] = page.next
            more.set_visibility(page.next is not None)
            with box:
                for row in page.rows:
                    _item(desk, row)
            count = len(box.default_slot.children)
            told.set_text(f"{count} recordings{' so far' if page.next else ''}." if count else "No recordings found.")

        await desk.act(work)

    for field in (number, user):
        field.on("keydown.enter", lambda: load(first=True))
    ui.timer(0.05, lambda: load(first=True), once=True)


def _item(desk: Desk, row: RecordingRow) -> None:
    seconds = row.samples / row.sample_rate if row.sample_rate else None
    with ui.element("li").classes("tp-item"):
        ui.label(row.prospect_number).classes("tp-strong")
        ui.label(row.username or "-")
        ui.label(words.when(row.started_at)).classes("tp-soft")
        badge(words.mode(row.mode), row.mode)
        ui.label(words.duration(seconds) if row.channels else words.reason(row.reason)).classes("tp-soft")
        if row.outcome not in ("complete", "blocked"):
            badge(words.OUTCOMES.get(row.outcome, row.outcome), "off")
        ui.element("span").classes("tp-grow")
        label = "Play" if row.channels else "Why?"
        about = f"{label}: call with {row.prospect_number} at {words.when(row.started_at)}"
        ui.button(label, on_click=lambda: open_recording(desk, row)).props("outline no-caps color=primary").props(
            f'aria-label="{escape(about)}"'
        )


async def open_recording(desk: Desk, row: RecordingRow) -> None:
    """The player, and why the recording is as it is, in a dialog."""
    decisions = await desk.act(lambda principal: _decisions(desk, principal, row.call_id))
    manifest = await desk.act(lambda principal: _manifest(desk, principal, row.call_id))
    if decisions is None:
        return
    with ui.dialog().props('aria-label="Recording"') as dialog, ui.card().classes("tp-dialog"):
        heading(f"Call with {escape(row.prospect_number)}")
        ui.label(f"{row.username or '-'}, {words.when(row.started_at)}").classes("tp-soft")
        if row.channels:
            ui.html(f'<twoparty-player call="{escape(row.call_id)}"></twoparty-player>', sanitize=False).classes(
                "tp-wide"
            )
        else:
            ui.label("Nothing of this call was captured.")
        with ui.expansion("Why was it recorded like this?", value=not row.channels).classes("tp-wide"):
            for decision in decisions:
                _why(decision)
            for line in _events(manifest or {}):
                ui.label(line).classes("tp-note")
        ui.button("Close", on_click=dialog.close).props("flat no-caps color=primary")
    dialog.on("hide", dialog.delete)
    dialog.open()


async def _decisions(desk: Desk, principal: Principal, call_id: str) -> list[dict[str, Any]]:
    await desk.web.store.history.call(principal.organization, call_id, principal.own_only)
    return await desk.web.store.history.decisions(call_id)


async def _manifest(desk: Desk, principal: Principal, call_id: str) -> dict[str, Any]:
    try:
        return await manifest_of(desk.web, principal, call_id)
    except Problem:
        return {}


def _why(decision: dict[str, Any]) -> None:
    ui.label(f"{words.mode(decision['mode'])}: {words.reason(decision['reason'])}.").classes("tp-strong")
    versions = f"settings version {decision['policy_version']}, law data {decision['jurisdictions_version']}"
    about = f"Decided {words.when(decision['decided_at'])} by rule {decision['rule']}, {versions}."
    ui.label(about).classes("tp-soft")
    trace_table(decision["answer"].get("trace", []))


def trace_table(trace: list[dict[str, Any]]) -> None:
    """Each rule looked at: what it saw, what it said."""
    rows = "".join(
        f"<tr><td>{escape(str(step.get('rule', '')))}</td><td>{escape(str(step.get('saw', '')))}</td>"
        f"<td>{escape(words.said(step))}</td></tr>"
        for step in trace
    )
    head = "<thead><tr><th scope='col'>Rule</th><th scope='col'>Saw</th><th scope='col'>Said</th></tr></thead>"
    ui.html(f"<table class='tp-trace'>{head}<tbody>{rows}</tbody></table>", sanitize=False).classes("tp-wide")


def _events(manifest: dict[str, Any]) -> list[str]:
    """What happened during the call that the recording shows."""
    rate = (manifest.get("audio") or {}).get("sample_rate") or 8000
    lines = [
        f"At {words.duration(event.get('sample', 0) / rate)} the capture was narrowed to: "
        f"{words.mode(event.get('mode')).lower()} ({event.get('reason', '')})."
        for event in manifest.get("events", [])
        if event.get("event") == "narrow"
    ]
    lines += [
        f"From {words.duration(begin / rate)} to {words.duration(end / rate)} the recording was paused."
        for begin, end in manifest.get("pauses", [])
    ]
    lines += words.quality(manifest.get("legs") or {})
    return lines + [f"Missing: {problem}." for problem in manifest.get("problems", [])]
