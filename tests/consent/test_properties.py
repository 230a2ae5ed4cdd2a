"""What must hold for any facts and any policy."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.consent.engine import ConsentData, Mode, decide
from gateway.consent.facts import Facts
from gateway.consent.jurisdictions import Consent
from gateway.consent.places import REGIONS, locate, parse_state
from gateway.consent.policy import LocationBasis, LocationConflict, Policy, TwoPartyRule
from scripts.bench_decide import reference_data

DATA = reference_data()
ON = date(2026, 11, 24)
WIDTH = {Mode.NONE: 0, Mode.AGENT_ONLY: 1, Mode.BOTH: 2}

codes = st.one_of(st.sampled_from(sorted(DATA.area_codes.codes)), st.integers(200, 999).map(str))
numbers = st.one_of(
    codes.map(lambda code: f"+1{code}5550123"),
    st.sampled_from(["+442079460123", "+493012345678", "911", "", "x", "2125550123"]),
    st.none(),
)
states = st.one_of(st.none(), st.sampled_from(sorted(REGIONS)), st.sampled_from(["Bavaria", "texas", ""]))
countries = st.sampled_from(["US", "US", "US", "CA", "GB", "BS", "PR", None, "XX"])
facts_of_calls = st.builds(Facts, st.sampled_from(["outbound", "inbound"]), numbers, states, countries, states)
sets = st.frozensets(st.sampled_from(["US-NH", "US-CA", "US-TX", "CA-ON", "US-NY"]), max_size=3)
policies = st.builds(
    Policy,
    recording_enabled=st.sampled_from([True, True, True, False]),
    inbound_enabled=st.booleans(),
    two_party_rule=st.sampled_from(TwoPartyRule),
    location_basis=st.sampled_from(LocationBasis),
    location_conflict=st.sampled_from(LocationConflict),
    agent_side_only=st.booleans(),
    skip_two_party_states=st.booleans(),
    never_record_enabled=st.booleans(),
    never_record_states=sets,
    international_enabled=st.booleans(),
    international_countries=st.frozensets(st.sampled_from(["CA", "GB", "BS"]), max_size=2),
    two_party_overrides=sets,
)

TIGHTER: dict[str, Any] = {
    "recording_enabled": lambda policy: replace(policy, recording_enabled=False),
    "inbound_enabled": lambda policy: replace(policy, inbound_enabled=False),
    "two_party_rule": lambda policy: replace(policy, two_party_rule=TwoPartyRule.EITHER),
    "location_conflict": lambda policy: replace(policy, location_conflict=LocationConflict.STRICTER),
    "agent_side_only": lambda policy: replace(policy, agent_side_only=True),
    "skip_two_party_states": lambda policy: replace(policy, skip_two_party_states=True),
    "never_record.enabled": lambda policy: replace(policy, never_record_enabled=True),
    "never_record.states": lambda policy: replace(
        policy, never_record_states=policy.never_record_states | {"US-TX", "US-NY"}
    ),
    "international.enabled": lambda policy: replace(policy, international_enabled=False),
    "international.countries": lambda policy: replace(policy, international_countries=frozenset()),
    "overrides": lambda policy: replace(policy, two_party_overrides=frozenset(REGIONS)),
}


@settings(max_examples=1500)
@given(policies, facts_of_calls, st.sampled_from(sorted(TIGHTER)))
def test_a_switch_that_tightens_never_widens(policy: Policy, facts: Facts, switch: str) -> None:
    before = decide(policy, facts, DATA, ON)
    after = decide(TIGHTER[switch](policy), facts, DATA, ON)
    if switch == "two_party_rule" and policy.two_party_rule is TwoPartyRule.USER:
        assert after.mode is before.mode  # they capture the same, and differ in the reason
    if switch == "agent_side_only" and before.reason == "skip_location_unknown":
        # CONSENT.md 8 and 9: the basis that left the location unknown is hidden, and every known location counts
        assert after.mode in (Mode.NONE, Mode.AGENT_ONLY)
        return
    assert WIDTH[after.mode] <= WIDTH[before.mode], (before, after)


@settings(max_examples=1500)
@given(policies, facts_of_calls)
def test_both_only_if_every_known_and_needed_location_is_one_party(policy: Policy, facts: Facts) -> None:
    decision = decide(policy, facts, DATA, ON)
    if decision.mode is not Mode.BOTH:
        return
    place = locate(facts.prospect_number, DATA.area_codes)
    needed = {parse_state(facts.prospect_state)} if policy.location_basis is LocationBasis.STATE else set(place.regions)
    if policy.location_conflict is LocationConflict.STRICTER:
        needed |= set(place.regions) | ({parse_state(facts.prospect_state)} - {None})
    if policy.two_party_rule is not TwoPartyRule.PROSPECT or policy.skip_two_party_states:
        needed |= {decision.locations.user_state}
    assert needed
    assert None not in needed
    for region in needed:
        assert DATA.jurisdictions.consent(str(region), ON) is Consent.ONE_PARTY
        assert region not in policy.two_party_overrides


@settings(max_examples=500)
@given(policies, facts_of_calls)
def test_either_and_user_capture_the_same(policy: Policy, facts: Facts) -> None:
    either = decide(replace(policy, two_party_rule=TwoPartyRule.EITHER), facts, DATA, ON)
    user = decide(replace(policy, two_party_rule=TwoPartyRule.USER), facts, DATA, ON)
    assert either.mode is user.mode


@settings(max_examples=500)
@given(policies, facts_of_calls)
def test_the_same_in_gives_the_same_out_and_the_trace_tells_each_rule_in_order(policy: Policy, facts: Facts) -> None:
    moment = datetime(2026, 11, 24, 12, tzinfo=UTC)
    decision = decide(policy, facts, DATA, moment)
    assert decision == decide(policy, facts, DATA, moment)
    told = decision.as_dict()
    rules = [step["rule"] for step in told["trace"]]
    assert rules == list(range(1, decision.rule + 1))
    assert all(step["saw"] for step in told["trace"])
    assert [step["said"] for step in told["trace"]] == [""] * (len(rules) - 1) + [f"{decision.mode}: {decision.reason}"]
    assert told["jurisdictions_version"] == DATA.jurisdictions.version
    assert told["time"] == moment.isoformat()


anything = st.one_of(st.none(), st.text(max_size=30), st.integers(), st.floats(), st.booleans(), st.binary(max_size=5))


@settings(max_examples=1000)
@given(policies, st.tuples(anything, anything, anything, anything, anything))
def test_total_over_arbitrary_facts(policy: Policy, values: tuple[Any, ...]) -> None:
    decision = decide(policy, Facts(*values), DATA, ON)
    assert decision.mode in WIDTH
    assert decision.as_dict()["trace"]
    if values[0] not in ("outbound", "inbound"):
        assert decision.mode is Mode.NONE


def test_what_breaks_inside_is_none_and_says_so() -> None:
    for policy, data in ((None, DATA), (Policy(), None), (Policy(), ConsentData(None, None))):  # type: ignore[arg-type]
        decision = decide(policy, Facts("outbound", "+12125550123"), data, ON)  # type: ignore[arg-type]
        assert (decision.mode, decision.reason, decision.rule) == (Mode.NONE, "engine_error", 0)
        assert decision.as_dict()["trace"][0]["saw"]


def test_what_counts_as_missing_is_noted_in_the_trace() -> None:
    facts = Facts("outbound", "+12125550123", "Bavaria", "US", "Narnia")
    saw = " ".join(step["saw"] for step in decide(Policy(), facts, DATA, ON).as_dict()["trace"])
    assert "'Bavaria' is no state" in saw
    assert "'Narnia' is no state" in saw


def test_the_date_chooses_the_law() -> None:
    assert decide(Policy(), Facts("outbound", "+12125550123", None, "US", "US-TX"), DATA, date(1800, 1, 1)).mode == (
        Mode.AGENT_ONLY
    )
