"""Settings by name, and the rules of changing them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.consent.policy import Policy, PolicyError, SettingRefused, change, hidden_settings


def test_absent_settings_are_at_their_defaults() -> None:
    assert Policy.from_mapping({}) == Policy()
    plain = Policy().to_mapping()
    assert plain["recording_enabled"] is True
    assert plain["two_party_rule"] == "either"
    assert plain["location_basis"] == "area_code"


def test_nested_and_dotted_names_are_the_same() -> None:
    nested = Policy.from_mapping({"never_record": {"enabled": True, "states": ["nh", "US-CA"]}})
    dotted = Policy.from_mapping({"never_record.enabled": "on", "never_record.states": ["New Hampshire", "CA"]})
    assert nested == dotted
    assert nested.never_record_states == {"US-NH", "US-CA"}


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"recording": True}, "recording"),
        ({"recording_enabled": "maybe"}, "recording_enabled"),
        ({"recording_enabled": 1}, "recording_enabled"),
        ({"two_party_rule": "all"}, "two_party_rule"),
        ({"never_record": []}, "never_record"),
        ({"never_record": {"states": "US-NH"}}, "never_record.states"),
        ({"never_record": {"states": ["Bavaria"]}}, "never_record.states"),
        ({"never_record": {"who": 1}}, "never_record.who"),
        ({"international": {"countries": ["XX"]}}, "international.countries"),
        ({"international": {"countries": ["GB"]}, "allowed_countries": ["CA"]}, "international.countries"),
        ({"jurisdiction_overrides": {"US-TX": "one_party"}}, "jurisdiction_overrides.US-TX"),
        ({"never_record.enabled": True, "never_record": {"enabled": True}}, "never_record.enabled"),
    ],
)
def test_what_cannot_be_used_is_named(settings: dict[str, Any], key: str) -> None:
    with pytest.raises(PolicyError) as caught:
        Policy.from_mapping(settings)
    assert caught.value.key == key


@pytest.mark.parametrize(
    ("toggle", "members", "value"),
    [
        ("never_record.enabled", "never_record.states", ["US-NH"]),
        ("international.enabled", "international.countries", ["CA"]),
    ],
)
def test_a_toggle_with_an_empty_set_waits_and_one_that_is_emptied_goes_off(
    toggle: str, members: str, value: list[str]
) -> None:
    family = toggle.split(".")[0]

    def state(policy: Policy) -> tuple[bool, bool]:
        return getattr(policy, f"{family}_enabled"), getattr(policy, f"{family}_pending")

    waiting = change(Policy(), toggle, True)
    assert state(waiting) == (False, True)
    chosen = change(waiting, members, value)
    assert state(chosen) == (True, False)
    cleared = change(chosen, members, [])
    assert state(cleared) == (False, False)
    assert state(change(cleared, members, value)) == (False, False)
    assert state(change(waiting, toggle, False)) == (False, False)
    assert state(change(change(cleared, members, value), toggle, True)) == (True, False)


@pytest.mark.parametrize("switch", ["agent_side_only", "skip_two_party_states"])
def test_the_two_party_rule_cannot_be_chosen_while_hidden_and_comes_back(switch: str) -> None:
    chosen = change(Policy(), "two_party_rule", "prospect")
    hidden = change(chosen, switch, True)
    assert "two_party_rule" in hidden_settings(hidden)
    with pytest.raises(SettingRefused):
        change(hidden, "two_party_rule", "user")
    back = change(hidden, switch, False)
    assert back.two_party_rule == "prospect"
    assert not hidden_settings(back)


def test_the_basis_is_hidden_by_agent_side_only_alone() -> None:
    assert "location_basis" in hidden_settings(change(Policy(), "agent_side_only", True))
    assert "location_basis" not in hidden_settings(change(Policy(), "skip_two_party_states", True))


def test_only_settings_can_be_changed() -> None:
    for name in ("version", "never_record.pending", "nothing", "never_record"):
        with pytest.raises(PolicyError):
            change(Policy(), name, True)


SETTINGS: dict[str, st.SearchStrategy[Any]] = {
    "recording_enabled": st.booleans(),
    "inbound_enabled": st.booleans(),
    "two_party_rule": st.sampled_from(["either", "prospect", "user"]),
    "location_basis": st.sampled_from(["state", "area_code"]),
    "location_conflict": st.sampled_from(["basis", "stricter"]),
    "agent_side_only": st.booleans(),
    "skip_two_party_states": st.booleans(),
    "never_record.enabled": st.booleans(),
    "never_record.states": st.lists(st.sampled_from(["US-NH", "US-CA", "CA-ON"]), max_size=3),
    "international.enabled": st.booleans(),
    "international.countries": st.lists(st.sampled_from(["CA", "GB"]), max_size=2),
}


@given(st.lists(st.sampled_from(sorted(SETTINGS)).flatmap(lambda k: SETTINGS[k].map(lambda v: (k, v))), max_size=12))
def test_any_run_of_changes_leaves_a_policy_that_reads_back(changes: list[tuple[str, Any]]) -> None:
    policy = Policy()
    for name, value in changes:
        try:
            policy = change(policy, name, value)
        except SettingRefused:
            assert name in hidden_settings(policy)
        assert policy.never_record_states or not policy.never_record_enabled
        assert policy.international_countries or not policy.international_enabled
        assert Policy.from_mapping(policy.to_mapping()) == policy
