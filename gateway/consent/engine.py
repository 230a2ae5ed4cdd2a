"""The consent decision: which legs of a call may be captured. Twelve rules in order; the first that speaks decides.

A pure function: the same facts, policy, data and date always give the same answer, and it never raises.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Any, NamedTuple

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


Verdict = tuple[Mode, Reason] | None
"""What a rule said; None when it did not speak."""


@dataclass(frozen=True)
class ConsentData:
    """The reference data."""

    area_codes: AreaCodes
    jurisdictions: Jurisdictions


class Step(NamedTuple):
    """One rule looked at. The wording is made when somebody reads it: most decisions are never read."""

    rule: int
    template: str
    values: tuple[Any, ...] = ()
    verdict: Verdict = None

    @property
    def saw(self) -> str:
        """What the rule looked at, in words."""
        return self.template.format(*map(_words, self.values))

    @property
    def said(self) -> str:
        """``mode: reason``, or "" when the rule did not speak."""
        return f"{self.verdict[0]}: {self.verdict[1]}" if self.verdict else ""


def _words(value: Any) -> Any:
    return sorted(value) if isinstance(value, frozenset) else list(value) if isinstance(value, tuple) else value


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


class _Case:
    """One call under one policy: everything derived once, the trace collected."""

    __slots__ = (
        "data", "facts", "home", "known", "location", "on", "place", "policy", "state", "trace", "user_country",
        "user_state",
    )  # fmt: skip

    def __init__(self, policy: Policy, facts: Facts, data: ConsentData, on: date) -> None:
        self.policy, self.facts, self.data, self.on = policy, facts, data, on
        self.trace: list[Step] = []
        self.location: tuple[str, ...] = ()
        self.state = parse_state(facts.prospect_state) if facts.prospect_state else None
        self.user_country, implied = parse_country(facts.user_country) if facts.user_country else (None, None)
        self.user_state = parse_state(facts.user_state) if facts.user_state else implied
        self.place = place = locate(facts.prospect_number, data.area_codes)
        self.home = place.country
        """The prospect's country; a +1 number without a place is domestic to a user in a +1 country."""
        if place.domestic and self.user_country in NANP_COUNTRIES:
            self.home = self.user_country
        self.known = place.regions
        """Every known location of the prospect: the list's state, each region of the number."""
        if self.state and self.state not in place.regions:
            self.known = (self.state, *place.regions)

    def notes(self) -> str:
        """What of the facts could not be used."""
        facts = self.facts
        given = (
            ("prospect_state", facts.prospect_state, parse_state(facts.prospect_state), "state"),
            ("user_country", facts.user_country, self.user_country, "country"),
            ("user_state", facts.user_state, parse_state(facts.user_state), "state"),
        )
        return "".join(
            f"; {name} {value!r} is no {kind}, counted as missing"
            for name, value, parsed, kind in given
            if value and parsed is None
        )

    def two_party(self, region: str) -> bool:
        return (
            region in self.policy.two_party_overrides
            or self.data.jurisdictions.consent(region, self.on) is Consent.TWO_PARTY
        )

    def see(self, rule: int, verdict: Verdict, template: str, *values: Any) -> Verdict:
        self.trace.append(Step(rule, template, values, verdict))
        return verdict


def _rule_1(case: _Case) -> Verdict:
    on = case.policy.recording_enabled
    return case.see(1, None if on else (Mode.NONE, Reason.RECORDING_DISABLED), "recording_enabled {}", on)


def _rule_2(case: _Case) -> Verdict:
    direction, on = case.facts.direction, case.policy.inbound_enabled
    covered = direction == "outbound" or (direction == "inbound" and on)
    verdict = None if covered else (Mode.NONE, Reason.INBOUND_NOT_COVERED)
    return case.see(2, verdict, "direction {}, inbound_enabled {}", direction, on)


def _rule_3(case: _Case) -> Verdict:
    place, home = case.place, case.home
    verdict = None if home is not None else (Mode.NONE, Reason.PROSPECT_UNKNOWN)
    return case.see(3, verdict, "number {}, country {}{}", place.e164, home, place.why and f", {place.why}")


def _rule_4(case: _Case) -> Verdict:
    """Tells, too, what of the facts counts as missing."""
    country = case.user_country
    verdict = (Mode.NONE, Reason.USER_LOCATION_UNKNOWN) if country is None else None
    facts = case.facts
    odd = (
        (country is None and facts.user_country)
        or (case.state is None and facts.prospect_state)
        or (case.user_state is None and facts.user_state)
    )
    return case.see(4, verdict, "user_country {}{}", country, case.notes() if odd else "")


def _rule_5(case: _Case) -> Verdict:
    policy, known = case.policy, case.known
    if not policy.never_record_enabled:
        return case.see(5, None, "never_record off")
    verdict: Verdict = None
    if not policy.never_record_states.isdisjoint(known):
        verdict = Mode.NONE, Reason.NEVER_RECORD_STATE
    elif not known and case.home in ("US", "CA"):
        verdict = Mode.NONE, Reason.NEVER_RECORD_LOCATION_UNKNOWN
    return case.see(5, verdict, "known locations {}, never recorded {}", known, policy.never_record_states)


def _rule_6(case: _Case) -> Verdict:
    home, user, policy = case.home, case.user_country, case.policy
    verdict: Verdict
    if home == user:
        verdict = None
    elif user != "US":
        verdict = Mode.NONE, Reason.INTERNATIONAL_USER_OUTSIDE_US
    elif policy.international_enabled and home in policy.international_countries:
        verdict = Mode.AGENT_ONLY, Reason.INTERNATIONAL_ALLOWED
    else:
        verdict = Mode.NONE, Reason.INTERNATIONAL_NOT_ALLOWED
    return case.see(6, verdict, "prospect in {}, user in {}", home, user)


def _rule_7(case: _Case) -> Verdict:
    covered = case.home in ("US", "CA")
    return case.see(7, None if covered else (Mode.NONE, Reason.COUNTRY_NOT_COVERED), "country {}", case.home)


def _rule_8(case: _Case) -> Verdict:
    """Settles the location; never decides."""
    policy = case.policy
    if policy.agent_side_only:
        case.location = case.known
        return case.see(8, None, "basis hidden, all known locations {}", case.known)
    if policy.location_basis is LocationBasis.STATE:
        state = case.state
        case.location = (state,) if state is not None and state[:2] == case.home else ()
    else:
        case.location = case.place.regions
    if policy.location_conflict is LocationConflict.STRICTER:
        return case.see(8, None, "basis {}: {}, stricter of {}", policy.location_basis, case.location, case.known)
    return case.see(8, None, "basis {}: {}", policy.location_basis, case.location)


def _prospect_two_party(case: _Case) -> bool | None:
    """The class of the prospect's location; None: the location is unknown."""
    policy = case.policy
    all_of_them = policy.agent_side_only or policy.location_conflict is LocationConflict.STRICTER
    if any(map(case.two_party, case.known if all_of_them else case.location)):
        return True
    return False if case.location else None


def _rule_9(case: _Case) -> Verdict:
    if not case.policy.skip_two_party_states:
        return case.see(9, None, "skip_two_party_states off")
    two_party = _prospect_two_party(case)
    verdict: Verdict = None
    if two_party:
        verdict = Mode.NONE, Reason.TWO_PARTY_STATE_SKIPPED
    elif two_party is None:
        verdict = Mode.NONE, Reason.SKIP_LOCATION_UNKNOWN
    return case.see(9, verdict, "prospect two-party: {}", two_party)


def _rule_10(case: _Case) -> Verdict:
    on = case.policy.agent_side_only
    return case.see(10, (Mode.AGENT_ONLY, Reason.AGENT_SIDE_ONLY) if on else None, "agent_side_only {}", on)


def _rule_11(case: _Case) -> Verdict:
    verdict: Verdict = None
    if not case.location:
        by_state = case.policy.location_basis is LocationBasis.STATE
        reason = Reason.PROSPECT_STATE_MISSING if by_state else Reason.PROSPECT_LOCATION_UNKNOWN
        verdict = Mode.AGENT_ONLY, reason
    return case.see(11, verdict, "location {}", case.location)


def _rule_12(case: _Case) -> Verdict:
    rule = TwoPartyRule.EITHER if case.policy.skip_two_party_states else case.policy.two_party_rule
    prospect, state = _prospect_two_party(case), case.user_state
    user = state is None or state[:2] != case.user_country or case.two_party(state)
    verdict: Verdict
    if rule is TwoPartyRule.USER and user:
        verdict = Mode.AGENT_ONLY, Reason.USER_TWO_PARTY
    elif prospect:
        verdict = Mode.AGENT_ONLY, Reason.PROSPECT_TWO_PARTY
    elif rule is TwoPartyRule.EITHER and user:
        verdict = Mode.AGENT_ONLY, Reason.USER_TWO_PARTY
    else:
        verdict = Mode.BOTH, Reason.ONE_PARTY
    saw = "rule {}, prospect two-party {}, user in {} two-party {}"
    return case.see(12, verdict, saw, rule, prospect, state, user)


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


def prospect_two_party(policy: Policy, facts: Facts, data: ConsentData, now: datetime | date) -> bool:
    """Whether the prospect's location, as rule 8 finds it, is two-party; one that is not known counts as two-party.

    For what is said to the prospect; it decides nothing about capture. Never raises: what goes wrong inside is True."""
    try:
        case = _Case(policy, facts, data, now.astimezone(UTC).date() if isinstance(now, datetime) else now)
        _rule_8(case)
        return _prospect_two_party(case) is not False
    except Exception:
        return True


def engine_error(cause: str, data: Any, now: datetime | date) -> Decision:
    """The answer when deciding failed."""
    version = getattr(getattr(data, "jurisdictions", None), "version", "")
    time = now.isoformat() if isinstance(now, date) else ""
    step = Step(0, "{}", (cause,), (Mode.NONE, Reason.ENGINE_ERROR))
    return Decision(Mode.NONE, Reason.ENGINE_ERROR, 0, (step,), Resolved(), None, str(version), time)


def place_of(number: str, data: ConsentData) -> Place:
    """Where a number is, for pages and lists."""
    return locate(number, data.area_codes)
