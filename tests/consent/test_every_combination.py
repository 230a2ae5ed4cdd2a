"""Every combination of policy switches, users, prospects and directions against an oracle of another style.

The oracle never parses: each prospect and user below carries by hand what the contract derives. It holds the rules as
a table of (rule, when, answer) over sets of words, and looks for the first row whose words are all there.
"""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass
from datetime import date
from typing import Any

import pytest

from gateway.consent.engine import decide
from gateway.consent.facts import Facts
from gateway.consent.policy import LocationBasis, LocationConflict, Policy, TwoPartyRule
from scripts.bench_decide import reference_data

ON = date(2026, 11, 24)
TWO_PARTY = {
    "CA", "CT", "DE", "FL", "IL", "MD", "MA", "MI", "MT", "NV", "NH", "OR", "PA", "VT", "WA", "PR", "VI", "GU",
    "AS", "MP",
}  # fmt: skip


@dataclass(frozen=True)
class Prospect:
    """``country``: of the number, "+1" for a +1 number without a place, "" for none. Regions by hand."""

    number: str | None
    country: str
    regions: frozenset[str] = frozenset()
    listed: str | None = None
    listed_code: str = ""


def at(number: str | None, country: str, regions: str = "", listed: str | None = None, code: str = "") -> Prospect:
    return Prospect(number, country, frozenset(regions.split()), listed, code)


PROSPECTS = (
    at("+12125550123", "US", "US-NY"),
    at("(415) 555-0123", "US", "US-CA"),
    at("603-555-0123", "US", "US-NH"),
    at("+12125550123", "US", "US-NY", "new hampshire", "US-NH"),
    at("+12125550123", "US", "US-NY", "US-TX", "US-TX"),
    at("+12125550123", "US", "US-NY", "ca", "US-CA"),
    at("+14155550123", "US", "US-CA", "NY", "US-NY"),
    at("+16035550123", "US", "US-NH", "Texas", "US-TX"),
    at("+12125550123", "US", "US-NY", "Ontario", "CA-ON"),
    at("+12125550123", "US", "US-NY", "Bavaria"),
    at("+17875550123", "US", "US-PR"),
    at("+12025550123", "US", "US-DC", "US-DC", "US-DC"),
    at("+18005550123", "+1"),
    at("+18005550123", "+1", "", "US-TX", "US-TX"),
    at("+18005550123", "+1", "", "US-CA", "US-CA"),
    at("+18005550123", "+1", "", "CA-BC", "CA-BC"),
    at("+12995550123", "+1"),
    at("+14165550123", "CA", "CA-ON"),
    at("+18675550123", "CA", "CA-NT CA-NU CA-YT", "US-TX", "US-TX"),
    at("+19025550123", "CA", "CA-NS CA-PE", "PE", "CA-PE"),
    at("+12425550123", "BS"),
    at("+442079460123", "GB"),
    at("+442079460123", "GB", "", "US-NH", "US-NH"),
    at("911", ""),
    at("not a number", "", "", "US-TX", "US-TX"),
    at(None, ""),
)
USERS: tuple[tuple[str | None, str | None, str | None, str], ...] = (
    # country and state as given, country, state
    ("US", "US-TX", "US", "US-TX"),
    ("US", "California", "US", "US-CA"),
    ("us", None, "US", ""),
    ("US", "CA-ON", "US", "CA-ON"),
    ("CA", "ON", "CA", "CA-ON"),
    ("GB", None, "GB", ""),
    ("BS", None, "BS", ""),
    (None, "US-TX", None, "US-TX"),
)
NEVER = (None, frozenset({"US-NH"}), frozenset({"US-TX", "US-CA", "CA-NU"}))
ABROAD = (None, frozenset({"CA", "BS"}), frozenset({"GB"}))


def two_party(region: str) -> bool:
    country, _, code = region.partition("-")
    return country != "US" or code in TWO_PARTY


def words(setting: dict[str, Any], user: tuple[Any, ...], prospect: Prospect, direction: str) -> set[str]:
    """What holds for a call, in words."""
    _, _, user_country, user_state = user
    country = prospect.country
    if country == "+1":
        country = user_country if user_country in ("US", "CA", "BS") else ""
    known = prospect.regions | ({prospect.listed_code} - {""})
    if setting["side"]:
        located, judged = known, known
    else:
        listed = {prospect.listed_code} if prospect.listed_code.startswith(f"{country}-") and country else set()
        located = listed if setting["basis"] == "state" else prospect.regions
        judged = known if setting["conflict"] == "stricter" else located
    holds = {
        "off": not setting["on"],
        "inbound": direction == "inbound" and not setting["inbound"],
        "nowhere": not country,
        "homeless": user_country is None,
        "never": bool(setting["never"]) and bool(known & (setting["never"] or set())),
        "never unknown": bool(setting["never"]) and not known and country in ("US", "CA"),
        "abroad": country != user_country,
        "american": user_country == "US",
        "chosen": country in (setting["abroad"] or ()),
        "covered": country in ("US", "CA"),
        "skip": setting["skip"],
        "side": setting["side"],
        "located": bool(located),
        "by state": setting["basis"] == "state",
        "strict": any(two_party(region) for region in judged),
        "user strict": not user_state.startswith(f"{user_country}-") or two_party(user_state),
        "rule user": setting["rule"] == "user" and not setting["skip"],
        "rule prospect": setting["rule"] == "prospect" and not setting["skip"],
    }
    return {word if held else f"not {word}" for word, held in holds.items()}


TABLE: tuple[tuple[int, str, str, str], ...] = (
    (1, "off", "none", "recording_disabled"),
    (2, "inbound", "none", "inbound_not_covered"),
    (3, "nowhere", "none", "prospect_unknown"),
    (4, "homeless", "none", "user_location_unknown"),
    (5, "never", "none", "never_record_state"),
    (5, "never unknown", "none", "never_record_location_unknown"),
    (6, "abroad, not american", "none", "international_user_outside_us"),
    (6, "abroad, chosen", "agent_only", "international_allowed"),
    (6, "abroad", "none", "international_not_allowed"),
    (7, "not covered", "none", "country_not_covered"),
    (9, "skip, strict", "none", "two_party_state_skipped"),
    (9, "skip, not located", "none", "skip_location_unknown"),
    (10, "side", "agent_only", "agent_side_only"),
    (11, "not located, by state", "agent_only", "prospect_state_missing"),
    (11, "not located", "agent_only", "prospect_location_unknown"),
    (12, "rule user, user strict", "agent_only", "user_two_party"),
    (12, "strict", "agent_only", "prospect_two_party"),
    (12, "not rule prospect, user strict", "agent_only", "user_two_party"),
    (12, "", "both", "one_party"),
)
ROWS = tuple((rule, frozenset(when.split(", ")) - {""}, (mode, reason, rule)) for rule, when, mode, reason in TABLE)


def settings() -> list[dict[str, Any]]:
    names = ("on", "inbound", "rule", "basis", "conflict", "side", "skip", "never", "abroad")
    values = (
        (True, False), (True, False), ("either", "prospect", "user"), ("state", "area_code"), ("basis", "stricter"),
        (False, True), (False, True), NEVER, ABROAD,
    )  # fmt: skip
    return [dict(zip(names, chosen, strict=True)) for chosen in itertools.product(*values)]


def policy_of(setting: dict[str, Any]) -> Policy:
    return Policy(
        recording_enabled=setting["on"],
        inbound_enabled=setting["inbound"],
        two_party_rule=TwoPartyRule(setting["rule"]),
        location_basis=LocationBasis(setting["basis"]),
        location_conflict=LocationConflict(setting["conflict"]),
        agent_side_only=setting["side"],
        skip_two_party_states=setting["skip"],
        never_record_enabled=setting["never"] is not None,
        never_record_states=setting["never"] or frozenset(),
        international_enabled=setting["abroad"] is not None,
        international_countries=setting["abroad"] or frozenset(),
    )


SEEN: Counter[str] = Counter()


@pytest.mark.parametrize("rule", ["either", "prospect", "user"])
def test_the_engine_agrees_with_the_oracle_everywhere(rule: str) -> None:
    data = reference_data()
    cases = [
        (user, prospect, direction, Facts(direction, prospect.number, prospect.listed, user[0], user[1]))
        for user in USERS
        for prospect in PROSPECTS
        for direction in ("outbound", "inbound")
    ]
    compared = 0
    for setting in settings():
        if setting["rule"] != rule:
            continue
        policy = policy_of(setting)
        for user, prospect, direction, facts in cases:
            holds = words(setting, user, prospect, direction)
            wanted = next(answer for _, when, answer in ROWS if when <= holds)
            got = decide(policy, facts, data, ON)
            assert (got.mode.value, got.reason.value, got.rule) == wanted, (setting, facts)
            SEEN[got.reason.value] += 1
            compared += 1
    assert compared >= 100_000


def test_every_reason_was_seen() -> None:
    """Runs after the comparison above, in this file's order; a single selected test compares a third of it itself."""
    if not SEEN:
        test_the_engine_agrees_with_the_oracle_everywhere("user")
        test_the_engine_agrees_with_the_oracle_everywhere("prospect")
    assert set(SEEN) == {reason for _, _, _, reason in TABLE}
