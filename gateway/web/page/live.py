"""Tab "Live calls": who is talking, and what is captured of each side, now."""

from __future__ import annotations

from html import escape

from nicegui import ui

from gateway.b2bua.calls import LiveCall
from gateway.b2bua.keys import Control
from gateway.web.page import words
from gateway.web.page.desk import Desk, LoggedOut, badge
from gateway.web.problems import Problem
from gateway.web.roles import Principal, Scope
from gateway.web.routes.calls import control_live, live_calls

SECONDS = 1.0


def live_tab(desk: Desk) -> None:
    """Draws the list, and again whenever it differs."""
    shown: list[tuple[object, ...]] = []
    summary = ui.label("").props('role="status" aria-live="polite"').classes("tp-soft")
    box = ui.element("ul").classes("tp-list").props('aria-label="Live calls"')

    def draw(calls: list[LiveCall]) -> None:
        now = desk.web.now()
        count = len(calls)
        summary.set_text("No calls now." if not count else f"{count} call{'s' if count > 1 else ''} now.")
        box.clear()
        with box:
            for call in calls:
                with ui.element("li").classes("tp-item tp-card"):
                    ui.label(call.prospect_number).classes("tp-strong")
                    ui.label(f"{call.username}, {call.direction}")
                    up = call.answered_at is not None
                    time = words.duration((now - (call.answered_at or call.started_at)).total_seconds())
                    ui.label(f"talking for {time}" if up else f"ringing for {time}").classes("tp-soft")
                    _leg("Agent", call.agent_captured)
                    _leg("Prospect", call.prospect_captured)
                    ui.label(words.reason(call.reason)).classes("tp-hint")
                    _pause(call)

    async def refresh() -> None:
        try:
            calls = live_calls(desk.web, await desk.principal())
        except LoggedOut:
            timer.deactivate()
            return
        seconds = int(desk.web.now().timestamp()) if calls else 0
        state: list[tuple[object, ...]] = [
            (seconds,),
            *((c.call_id, c.mode, c.agent_captured, c.prospect_captured, c.paused) for c in calls),
        ]
        if state != shown or not summary.text:
            shown[:] = state
            draw(calls)

    def _pause(call: LiveCall) -> None:
        if call.paused:
            badge("Recording paused", "off")
        if not desk.shown.may(Scope.CALLS_CONTROL) or call.mode in (None, "none"):
            return
        control = Control.RESUME if call.paused else Control.PAUSE

        async def press() -> None:
            async def work(principal: Principal) -> None:
                if not principal.may(Scope.CALLS_CONTROL):
                    raise Problem(403, "you may not pause recordings")
                control_live(desk.web, principal, call.call_id, control)

            await desk.act(work)
            await refresh()

        label = "Resume recording" if call.paused else "Pause recording"
        ui.button(label, on_click=press).props("outline dense no-caps color=primary").props(
            f'aria-label="{escape(label)}: call with {escape(call.prospect_number)}"'
        )

    timer = ui.timer(SECONDS, refresh)


def _leg(name: str, captured: bool) -> None:
    badge(f"{name}: {'recording' if captured else 'not recorded'}", "on" if captured else "off")
