"""The consent decision: which legs of a call may be captured. Twelve rules in order; the first that speaks decides.

A pure function: the same facts, policy, data and date always give the same answer, and it never raises.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Any

from gateway.consent.facts import Facts
from gateway.consent.jurisdictions import Consent, Jurisdictions
from gateway.consent.places import NANP_COUNTRIES, AreaCodes, Place, locate, parse_country, parse_state
from gateway.consent.policy import LocationBasis, LocationConflict, Policy, TwoPartyRule


class Mode(StrEnum):
    """Which legs may be captured."""

    NONE = "none"
    AGENT_ONLY = "agent_only"
    BOTH = "both"


class Reason(StrEnum):
    """Why; the codes of CONSENT.md."""

    ENGINE_ERROR = "engine_error"
    RECORDING_DISABLED = "recording_disabled"
    INBOUND_NOT_COVERED = "inbound_not_covered"
    PROSPECT_UNKNOWN = "prospect_unknown"
    USER_LOCATION_UNKNOWN = "user_location_unknown"
    NEVER_RECORD_STATE = "never_record_state"
    NEVER_RECORD_LOCATION_UNKNOWN = "never_record_location_unknown"
    INTERNATIONAL_USER_OUTSIDE_US = "international_user_outside_us"
    INTERNATIONAL_ALLOWED = "international_allowed"
    INTERNATIONAL_NOT_ALLOWED = "international_not_allowed"
    COUNTRY_NOT_COVERED = "country_not_covered"
    TWO_PARTY_STATE_SKIPPED = "two_party_state_skipped"
    SKIP_LOCATION_UNKNOWN = "skip_location_unknown"
    AGENT_SIDE_ONLY = "agent_side_only"
    PROSPECT_STATE_MISSING = "prospect_state_missing"
    PROSPECT_LOCATION_UNKNOWN = "prospect_location_unknown"
    PROSPECT_TWO_PARTY = "prospect_two_party"
    USER_TWO_PARTY = "user_two_party"
    ONE_PARTY = "one_party"


@dataclass(frozen=True)
class ConsentData:
    """The reference data."""

    area_codes: AreaCodes
    jurisdictions: Jurisdictions


@dataclass(frozen=True, slots=True)
class Step:
    """One rule looked at: what it saw, what it said ("" when it did not speak)."""

    rule: int
    saw: str
    said: str = ""


@dataclass(frozen=True, slots=True)
class Resolved:
    """Where everybody is, as far as it could be told."""

    prospect_number: str | None = None
    prospect_country: str | None = None
    number_regions: tuple[str, ...] = ()
    list_state: str | None = None
    user_country: str | None = None
    user_state: str | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer."""

    mode: Mode
    reason: Reason
    rule: int
    trace: tuple[Step, ...]
    locations: Resolved
    policy_version: int | str | None
    jurisdictions_version: str
    time: str

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        where = self.locations
        return {
            "mode": str(self.mode),
            "reason": str(self.reason),
            "rule": self.rule,
            "trace": [{"rule": s.rule, "saw": s.saw, "said": s.said} for s in self.trace],
            "locations": {
                "prospect_number": where.prospect_number,
                "prospect_country": where.prospect_country,
                "number_regions": list(where.number_regions),
                "list_state": where.list_state,
                "user_country": where.user_country,
                "user_state": where.user_state,
            },
            "policy_version": self.policy_version,
            "jurisdictions_version": self.jurisdictions_version,
            "time": self.time,
        }


Verdict = tuple[Mode, Reason] | None


class _Case:
    """One call under one policy: everything derived once, the trace collected."""

    __slots__ = (
        "data", "facts", "home", "location", "notes", "on", "place", "policy", "state", "trace", "user_country",
        "user_state",
    )  # fmt: skip

    def __init__(self, policy: Policy, facts: Facts, data: ConsentData, on: date) -> None:
        self.policy, self.facts, self.data, self.on = policy, facts, data, on
        self.trace: list[Step] = []
        self.location: tuple[str, ...] = ()
        self.state = parse_state(facts.prospect_state)
        country, implied = parse_country(facts.user_country)
        self.user_country = country
        self.user_state = parse_state(facts.user_state) or (implied if not facts.user_state else None)
        self.place = locate(facts.prospect_number, data.area_codes)
        self.home = self._country()
        self.notes = self._notes()

    def _country(self) -> str | None:
        """The prospect's country; a +1 number without a place is domestic to a user in a +1 country."""
        if self.place.domestic and self.user_country in NANP_COUNTRIES:
            return self.user_country
        return self.place.country

    def _notes(self) -> str:
        notes = []
        if self.facts.prospect_state and self.state is None:
            notes.append(f"prospect_state {self.facts.prospect_state!r} is no state, counted as missing")
        if self.facts.user_country and self.user_country is None:
            notes.append(f"user_country {self.facts.user_country!r} is no country, counted as missing")
        if self.facts.user_state and parse_state(self.facts.user_state) is None:
            notes.append(f"user_state {self.facts.user_state!r} is no state, counted as missing")
        return "; ".join(notes)

    @property
    def known(self) -> tuple[str, ...]:
        """Every known location of the prospect: the list's state, each region of the number."""
        listed = (self.state,) if self.state else ()
        return listed + tuple(r for r in self.place.regions if r not in listed)

    def two_party(self, region: str) -> bool:
        return (
            region in self.policy.two_party_overrides
            or self.data.jurisdictions.consent(region, self.on) is Consent.TWO_PARTY
        )

    def see(self, rule: int, saw: str, verdict: Verdict) -> Verdict:
        self.trace.append(Step(rule, saw, f"{verdict[0]}: {verdict[1]}" if verdict else ""))
        return verdict


def _rule_1(case: _Case) -> Verdict:
    on = case.policy.recording_enabled
    return case.see(1, f"recording_enabled {on}", None if on else (Mode.NONE, Reason.RECORDING_DISABLED))


def _rule_2(case: _Case) -> Verdict:
    direction, on = case.facts.direction, case.policy.inbound_enabled
    covered = direction == "outbound" or (direction == "inbound" and on)
    return case.see(
        2, f"direction {direction}, inbound_enabled {on}", None if covered else (Mode.NONE, Reason.INBOUND_NOT_COVERED)
    )


def _rule_3(case: _Case) -> Verdict:
    place = case.place
    saw = f"number {place.e164 or '?'}, country {case.home}, {place.why}".rstrip(", ")
    return case.see(3, saw, None if case.home is not None else (Mode.NONE, Reason.PROSPECT_UNKNOWN))


def _rule_4(case: _Case) -> Verdict:
    missing = case.user_country is None
    saw = f"user_country {case.user_country}" + (f" ({case.notes})" if case.notes else "")
    return case.see(4, saw, (Mode.NONE, Reason.USER_LOCATION_UNKNOWN) if missing else None)


def _rule_5(case: _Case) -> Verdict:
    policy, known = case.policy, case.known
    if not policy.never_record_enabled:
        return case.see(5, "never_record off", None)
    saw = f"known locations {list(known)}, never recorded {sorted(policy.never_record_states)}"
    if any(region in policy.never_record_states for region in known):
        return case.see(5, saw, (Mode.NONE, Reason.NEVER_RECORD_STATE))
    unknown = not known and case.home in ("US", "CA")
    return case.see(5, saw, (Mode.NONE, Reason.NEVER_RECORD_LOCATION_UNKNOWN) if unknown else None)


def _rule_6(case: _Case) -> Verdict:
    saw = f"prospect in {case.home}, user in {case.user_country}"
    if case.home == case.user_country:
        return case.see(6, saw, None)
    if case.user_country != "US":
        return case.see(6, saw, (Mode.NONE, Reason.INTERNATIONAL_USER_OUTSIDE_US))
    if case.policy.international_enabled and case.home in case.policy.international_countries:
        return case.see(6, saw, (Mode.AGENT_ONLY, Reason.INTERNATIONAL_ALLOWED))
    return case.see(6, saw, (Mode.NONE, Reason.INTERNATIONAL_NOT_ALLOWED))


def _rule_7(case: _Case) -> Verdict:
    covered = case.home in ("US", "CA")
    return case.see(7, f"country {case.home}", None if covered else (Mode.NONE, Reason.COUNTRY_NOT_COVERED))


def _rule_8(case: _Case) -> Verdict:
    """Settles the location; never decides."""
    policy = case.policy
    if policy.agent_side_only:
        case.location = case.known
        return case.see(8, f"basis hidden, all known locations {list(case.known)}", None)
    if policy.location_basis is LocationBasis.STATE:
        listed = case.state is not None and case.state[:2] == case.home
        case.location = (case.state,) if listed and case.state else ()
    else:
        case.location = case.place.regions
    saw = f"basis {policy.location_basis}: {list(case.location)}"
    if policy.location_conflict is LocationConflict.STRICTER:
        saw += f", stricter of {list(case.known)}"
    return case.see(8, saw, None)


def _class(case: _Case) -> bool | None:
    """Whether the prospect counts as two-party; None: the location is unknown."""
    hidden = case.policy.agent_side_only
    stricter = hidden or case.policy.location_conflict is LocationConflict.STRICTER
    looked_at = case.known if stricter else case.location
    if any(case.two_party(region) for region in looked_at):
        return True
    return False if (case.location or (hidden and case.known)) else None


def _rule_9(case: _Case) -> Verdict:
    if not case.policy.skip_two_party_states:
        return case.see(9, "skip_two_party_states off", None)
    two_party = _class(case)
    saw = f"prospect two-party: {two_party}"
    if two_party:
        return case.see(9, saw, (Mode.NONE, Reason.TWO_PARTY_STATE_SKIPPED))
    return case.see(9, saw, (Mode.NONE, Reason.SKIP_LOCATION_UNKNOWN) if two_party is None else None)


def _rule_10(case: _Case) -> Verdict:
    on = case.policy.agent_side_only
    return case.see(10, f"agent_side_only {on}", (Mode.AGENT_ONLY, Reason.AGENT_SIDE_ONLY) if on else None)


def _rule_11(case: _Case) -> Verdict:
    reason = (
        Reason.PROSPECT_STATE_MISSING
        if case.policy.location_basis is LocationBasis.STATE
        else Reason.PROSPECT_LOCATION_UNKNOWN
    )
    return case.see(11, f"location {list(case.location)}", None if case.location else (Mode.AGENT_ONLY, reason))


def _rule_12(case: _Case) -> Verdict:
    rule = TwoPartyRule.EITHER if case.policy.skip_two_party_states else case.policy.two_party_rule
    prospect = bool(_class(case))
    state = case.user_state
    user = state is None or state[:2] != case.user_country or case.two_party(state)
    saw = f"rule {rule}, prospect two-party {prospect}, user in {state} two-party {user}"
    prospect_said = (Mode.AGENT_ONLY, Reason.PROSPECT_TWO_PARTY)
    user_said = (Mode.AGENT_ONLY, Reason.USER_TWO_PARTY)
    if rule is TwoPartyRule.USER and user:
        return case.see(12, saw, user_said)
    if prospect:
        return case.see(12, saw, prospect_said)
    if rule is TwoPartyRule.EITHER and user:
        return case.see(12, saw, user_said)
    return case.see(12, saw, (Mode.BOTH, Reason.ONE_PARTY))


RULES: tuple[Callable[[_Case], Verdict], ...] = (
    _rule_1, _rule_2, _rule_3, _rule_4, _rule_5, _rule_6, _rule_7, _rule_8, _rule_9, _rule_10, _rule_11, _rule_12,
)  # fmt: skip


def decide(policy: Policy, facts: Facts, data: ConsentData, now: datetime | date) -> Decision:
    """The decision for one call. Never raises: what goes wrong inside is ``none``, ``engine_error``, rule 0."""
    try:
        return _decide(policy, facts, data, now)
    except Exception as error:
        return engine_error(f"{type(error).__name__}: {error}", data, now)


def _decide(policy: Policy, facts: Facts, data: ConsentData, now: datetime | date) -> Decision:
    on = now.astimezone(UTC).date() if isinstance(now, datetime) else now
    case = _Case(policy, facts, data, on)
    for rule in RULES:
        verdict = rule(case)
        if verdict is not None:
            break
    else:
        raise AssertionError("no rule spoke")
    where = Resolved(case.place.e164, case.home, case.place.regions, case.state, case.user_country, case.user_state)
    return Decision(
        verdict[0], verdict[1], case.trace[-1].rule, tuple(case.trace), where, policy.version,
        data.jurisdictions.version, now.isoformat(),
    )  # fmt: skip


def engine_error(cause: str, data: Any, now: datetime | date) -> Decision:
    """The answer when deciding failed."""
    version = getattr(getattr(data, "jurisdictions", None), "version", "")
    time = now.isoformat() if isinstance(now, date) else ""
    step = Step(0, cause, f"{Mode.NONE}: {Reason.ENGINE_ERROR}")
    return Decision(Mode.NONE, Reason.ENGINE_ERROR, 0, (step,), Resolved(), None, str(version), time)


def place_of(number: str, data: ConsentData) -> Place:
    """Where a number is, for pages and lists."""
    return locate(number, data.area_codes)
