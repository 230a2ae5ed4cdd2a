"""Tab "Settings": how calls are recorded. Every choice is saved at once, and says in plain words what it captures."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from typing import Any

from nicegui import ui
from phonenumbers import SUPPORTED_REGIONS

from gateway.consent.places import REGIONS
from gateway.consent.policy import Policy, hidden_settings
from gateway.web.page import words
from gateway.web.page.desk import Desk, alert, badge, heading
from gateway.web.page.recordings import trace_table
from gateway.web.problems import Problem
from gateway.web.roles import Principal, Scope
from gateway.web.routes.jurisdictions import rows
from gateway.web.routes.policy import Trial, trial
from gateway.web.settings_rules import change_setting, place_name


class SettingsTab:
    """The controls, kept in step with the policy; ``_show`` is the one place that draws it."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._policy: Policy | None = None
        self._controls: list[tuple[Any, Callable[[Policy], Any]]] = []
        self._texts: list[tuple[ui.label, Callable[[Policy], str]]] = []
        self._sections: list[tuple[ui.element, Callable[[Policy], bool]]] = []
        self._countries: ui.select | None = None
        self._all: ui.element

    def draw(self) -> None:
        """Make the controls; the policy comes a moment later, and nobody can touch what does not show it yet."""
        with ui.element("div").classes("tp-wide") as self._all:
            self._draw_main_switch()
            self._draw_two_party()
            self._draw_basis()
            self._draw_sides()
            self._draw_never_record()
            self._draw_international()
            self._draw_inbound()
            self._draw_trial()
        self._all.set_visibility(False)
        ui.timer(0.05, self.load, once=True)

    # -- the policy ------------------------------------------------------------------------------------------------

    async def load(self) -> None:
        """Read the policy and show it."""

        async def read(principal: Principal) -> Policy:
            if not principal.may(Scope.POLICY_READ):
                raise Problem(403, "settings are seen by admins, and by managers with admin rights")
            return (await self._desk.web.store.policies.current(principal.organization)).policy

        policy = await self._desk.act(read)
        if policy is not None:
            self._show(policy)

    def _show(self, policy: Policy) -> None:
        self._policy = policy
        if self._countries is not None:
            allowed = policy.allowed_countries if policy.allowed_countries is not None else SUPPORTED_REGIONS
            self._countries.set_options({code: code for code in sorted(allowed)})
        for control, value in self._controls:
            control.set_value(value(policy))
        for label, text in self._texts:
            label.set_text(text(policy))
            label.set_visibility(bool(text(policy)))
        for section, visible in self._sections:
            section.set_visibility(visible(policy))
        self._all.set_visibility(True)

    async def _save(self, setting: str, value: Any) -> None:
        """Autosave: what the control says now, told in an alert; refused changes are put back."""

        async def work(principal: Principal) -> None:
            done = await change_setting(self._desk.web, principal, setting, value)
            if done.changes:
                alert("Saved. " + ". ".join(done.changes) + ".")
            self._show(done.policy.policy)
            self._saved = True

        self._saved = False
        await self._desk.act(work)
        if not self._saved and self._policy is not None:
            self._show(self._policy)

    def _bind(self, control: Any, setting: str, value: Callable[[Policy], Any]) -> None:
        """Tie a control to a setting: it shows the policy's value, and saves what a person makes of it."""
        self._controls.append((control, value))

        async def changed() -> None:
            if self._policy is not None and control.value != value(self._policy):
                await self._save(setting, control.value)

        control.on_value_change(changed)

    # -- controls --------------------------------------------------------------------------------------------------

    def _switch(self, label: str, setting: str, value: Callable[[Policy], Any]) -> ui.switch:
        made = ui.switch(label).props("size=lg")
        self._bind(made, setting, value)
        return made

    def _text(self, text: Callable[[Policy], str], classes: str = "tp-hint") -> None:
        self._texts.append((ui.label("").classes(classes), text))

    def _choice(
        self, name: str, setting: str, options: dict[str, str], hints: dict[str, str], value: Callable[[Policy], Any]
    ) -> None:
        """Radio buttons, each with a line that says what it captures."""
        labels = {key: f"{label}\n{hints[key]}" for key, label in options.items()}
        radio = ui.radio(labels).props(f'aria-label="{escape(name)}"').classes("tp-choice")
        radio.add_slot(
            "label",
            """<span><span class="tp-strong">{{ props.label.split("\\n")[0] }}</span><br>
            <span class="tp-hint">{{ props.label.split("\\n")[1] }}</span></span>""",
        )
        self._bind(radio, setting, value)

    # -- sections --------------------------------------------------------------------------------------------------

    def _draw_main_switch(self) -> None:
        contact = self._desk.web.support_contact
        with ui.element("section").classes("tp-card"):
            heading("Call recording")
            self._switch("Enable call recordings", "recording_enabled", lambda p: p.recording_enabled)
            self._text(lambda p: "Calls are recorded as the settings below say." if p.recording_enabled else "")
            self._text(
                lambda p: "" if p.recording_enabled else f"Nothing is recorded. To switch recording on again, contact "
                f"{contact}.", "tp-alert",
            )  # fmt: skip

    def _draw_two_party(self) -> None:
        with ui.element("section").classes("tp-card") as section:
            heading("Call recording settings (two-party consent)")
            with ui.row().classes("items-center"):
                ui.label("How calls with two-party consent states are recorded.").classes("tp-hint")
                ui.button("Click here for the list of states", on_click=self._open_states).props(
                    "flat dense no-caps color=primary"
                )
            self._choice(
                "Two-party consent", "two_party_rule", words.RULES, words.RULE_HINTS, lambda p: str(p.two_party_rule)
            )
        self._sections.append((section, lambda p: "two_party_rule" not in hidden_settings(p)))

    def _draw_basis(self) -> None:
        with ui.element("section").classes("tp-card") as section:
            heading("Record calls based on")
            self._choice(
                "Record calls based on",
                "location_basis",
                words.BASES,
                words.BASIS_HINTS,
                lambda p: str(p.location_basis),
            )
            ui.label("When the state in the list and the area code disagree").classes("tp-strong")
            self._choice(
                "When state and area code disagree", "location_conflict", words.CONFLICTS, words.CONFLICT_HINTS,
                lambda p: str(p.location_conflict),
            )  # fmt: skip
        self._sections.append((section, lambda p: "location_basis" not in hidden_settings(p)))

    def _draw_sides(self) -> None:
        with ui.element("section").classes("tp-card"):
            heading("Prospect's side and two-party states")
            self._switch(
                "Don't record the prospect's side for all calls", "agent_side_only", lambda p: p.agent_side_only
            )
            self._text(lambda p: words.AGENT_SIDE_ONLY[p.agent_side_only])
            self._switch(
                "Don't record calls in two-party consent states", "skip_two_party_states",
                lambda p: p.skip_two_party_states,
            )  # fmt: skip
            self._text(lambda p: words.SKIP_TWO_PARTY[p.skip_two_party_states])

    def _draw_never_record(self) -> None:
        with ui.element("section").classes("tp-card"):
            heading("Never record calls")
            box = ui.checkbox("Never record calls (for specific states)")
            self._bind(box, "never_record.enabled", lambda p: p.never_record_enabled or p.never_record_pending)
            with ui.element("div").classes("tp-wide") as chooser:
                states = ui.select(
                    dict(sorted(REGIONS.items(), key=lambda item: item[1])), multiple=True, with_input=True, value=[],
                    label="Select states",
                ).props("use-chips outlined clearable").classes("tp-wide")  # fmt: skip
                self._bind_set(states, "never_record.states", lambda p: p.never_record_states)
            self._sections.append((chooser, lambda p: p.never_record_enabled or p.never_record_pending))
            self._text(
                lambda p: (
                    "Choose at least one state; until then this changes nothing." if p.never_record_pending else ""
                )
            )
            self._text(lambda p: _note(p), "tp-note")

    def _draw_international(self) -> None:
        with ui.element("section").classes("tp-card"):
            heading("International calls")
            self._switch("Record calls made to international countries (user side only)", "international.enabled",
                         lambda p: p.international_enabled or p.international_pending)  # fmt: skip
            with ui.element("div").classes("tp-wide") as chooser:
                self._countries = ui.select({}, multiple=True, with_input=True, value=[], label="Select countries")
                self._countries.props("use-chips outlined clearable").classes("tp-wide")
                self._bind_set(self._countries, "international.countries", lambda p: p.international_countries)
            self._sections.append((chooser, lambda p: p.international_enabled or p.international_pending))
            self._text(
                lambda p: (
                    "Choose at least one country; until then this changes nothing." if p.international_pending else ""
                )
            )
            self._text(_international)
            ui.label(words.OUTSIDE_US).classes("tp-hint")

    def _draw_inbound(self) -> None:
        with ui.element("section").classes("tp-card"):
            heading("Inbound calls")
            self._switch("Record inbound calls", "inbound_enabled", lambda p: p.inbound_enabled)
            self._text(lambda p: words.INBOUND[p.inbound_enabled])

    def _bind_set(self, control: ui.select, setting: str, value: Callable[[Policy], frozenset[str]]) -> None:
        """As ``_bind``, for a set of codes."""
        self._controls.append((control, lambda p: sorted(value(p))))

        async def changed() -> None:
            chosen = sorted(control.value or [])
            if self._policy is not None and chosen != sorted(value(self._policy)):
                await self._save(setting, chosen)

        control.on_value_change(changed)

    # -- try a number ----------------------------------------------------------------------------------------------

    def _draw_trial(self) -> None:
        with ui.element("section").classes("tp-card"):
            heading("Try a number")
            ui.label("What would be recorded of a call, by the settings as they are now?").classes("tp-hint")
            with ui.element("div").classes("tp-filters"):
                number = ui.input("Number to try").props("outlined dense clearable")
                user = ui.input("Called by (user name; empty: you)").props("outlined dense clearable")
                button = ui.button("Try").props("unelevated no-caps color=primary")
            shown = ui.element("div").classes("tp-wide").props('role="status" aria-live="polite"')

        async def work(principal: Principal) -> None:
            if not principal.may(Scope.POLICY_READ):
                raise Problem(403, "settings are seen by admins, and by managers with admin rights")
            given = Trial(number=(number.value or "").strip(), username=(user.value or "").strip() or None)
            found = await trial(self._desk.web, principal, given)
            shown.clear()
            with shown:
                badge(words.mode(found["mode"]), found["mode"])
                ui.label(words.reason(found["reason"]).capitalize() + ".").classes("tp-strong")
                trace_table(found["trace"])

        async def attempt() -> None:
            await self._desk.act(work)

        button.on_click(attempt)
        number.on("keydown.enter", attempt)

    def _open_states(self) -> None:
        """The list of two-party consent states as it is applied today."""
        if self._policy is None:
            return
        found = [row for row in rows(self._desk.web, self._policy) if row.consent == "two_party"]
        with ui.dialog() as dialog, ui.card().classes("tp-dialog"):
            heading("Two-party consent states")
            cells = [
                (row.name, (row.statute or "-") + " (your choice)" * row.overridden, row.reviewed) for row in found
            ]
            body = "".join(
                "<tr>" + "".join(f"<td>{escape(str(cell or '-'))}</td>" for cell in line) + "</tr>" for line in cells
            )
            names = "".join(f"<th scope='col'>{name}</th>" for name in ("State", "Statute", "Reviewed"))
            head = f"<thead><tr>{names}</tr></thead>"
            ui.html(f"<table class='tp-trace'>{head}<tbody>{body}</tbody></table>", sanitize=False).classes("tp-wide")
            ui.button("Close", on_click=dialog.close).props("flat no-caps color=primary")
        dialog.on("hide", dialog.delete)
        dialog.open()


def _note(policy: Policy) -> str:
    """Which states are never recorded, by name."""
    if not policy.never_record_enabled:
        return ""
    names = ", ".join(sorted(place_name(code) for code in policy.never_record_states))
    return f"Note: calls made to these states will not be recorded: {names}."


def _international(policy: Policy) -> str:
    """What is captured of calls abroad."""
    if not policy.international_enabled:
        return "International calls are not recorded."
    countries = ", ".join(sorted(policy.international_countries))
    return f"Calls of users in the United States to {countries}: only the user's side."
