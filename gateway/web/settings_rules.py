"""Changing a setting: who may, what then follows, who is told. The one way for API and page alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.consent.places import REGIONS
from gateway.consent.policy import Policy, change, hidden_settings
from gateway.store.errors import Conflict
from gateway.store.policies import settings_of
from gateway.store.records import OrganizationPolicy
from gateway.web.context import Web
from gateway.web.problems import Problem
from gateway.web.roles import Principal, Scope

ENABLED = "recording_enabled"
_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class Changed:
    """What came of a change."""

    policy: OrganizationPolicy
    changes: tuple[str, ...]
    """One sentence for each setting that is different now; none when all was so already."""


def allowed_change(principal: Principal, policy: Policy, setting: str, value: Any) -> Policy:
    """The policy with the setting changed. Raises Problem 403, PolicyError, SettingRefused.

    Settings are the admins' (and of managers with admin rights). Recording is switched off by them, and on again by
    support, who may do nothing else here.
    """
    support = setting == ENABLED and principal.may(Scope.RECORDING_ENABLE)
    if not principal.may(Scope.POLICY_WRITE) and not support:
        raise Problem(403, "settings are changed by admins, and by managers with admin rights")
    wanted = change(policy, setting, value)
    if wanted.recording_enabled and not policy.recording_enabled and not support:
        raise Problem(403, "recording was switched off; only support can switch it on again")
    if policy.recording_enabled and not wanted.recording_enabled and not principal.may(Scope.POLICY_WRITE):
        raise Problem(403, "support switches recording on again, not off")
    return wanted


async def change_setting(
    web: Web, principal: Principal, setting: str, value: Any, *, after: int | None = None
) -> Changed:
    """Store one changed setting as a new version of the policy, and let live calls follow.

    ``after``: the version that the change was made on; 409 when it is not the newest any more. Raises Problem,
    PolicyError (422), SettingRefused (409), StoreError.
    """
    for attempt in range(_ATTEMPTS):
        current = await web.store.policies.current(principal.organization)
        wanted = allowed_change(principal, current.policy, setting, value)
        if after is not None and after != current.version:
            raise Conflict(f"the policy is at version {current.version}, not {after}: somebody else has changed it")
        lines = describe(settings_of(current.policy), settings_of(wanted))
        if not lines and settings_of(wanted) == settings_of(current.policy):
            return Changed(current, ())
        try:
            await web.store.policies.append(principal.organization, wanted, after=current.version, by=principal.actor)
        except Conflict:
            if after is not None or attempt == _ATTEMPTS - 1:
                raise
            continue
        await web.policy_changed()
        return Changed(await web.store.policies.current(principal.organization), tuple(lines))
    raise AssertionError("unreachable")


_NAMES = {
    "recording_enabled": "Enable call recordings",
    "inbound_enabled": "Record inbound calls",
    "two_party_rule": "Two-party consent",
    "location_basis": "Record calls based on",
    "location_conflict": "When state and area code disagree",
    "agent_side_only": "Don't record the prospect's side for all calls",
    "skip_two_party_states": "Don't record calls in two-party consent states",
    "never_record.enabled": "Never record calls for specific states",
    "never_record.states": "States never recorded",
    "international.enabled": "Record calls made to international countries (user side only)",
    "international.countries": "Countries recorded",
    "allowed_countries": "Allowed countries",
    "jurisdiction_overrides": "Treated as two-party",
}
_VALUES = {
    "either": "either location", "prospect": "prospect location", "user": "user location",
    "state": "the prospect's state", "area_code": "the phone's area code",
    "basis": "the basis decides", "stricter": "the stricter one decides",
}  # fmt: skip


def setting_name(setting: str) -> str:
    """As the page calls it."""
    return _NAMES.get(setting, setting)


def describe(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Sentences that say what changed."""
    lines = []
    for setting in dict.fromkeys((*before, *after)):
        old, new = before.get(setting), after.get(setting)
        if old == new:
            continue
        family, _, part = setting.partition(".")
        if part == "pending":
            if new and not after.get(f"{family}.enabled"):
                lines.append(f"{setting_name(f'{family}.enabled')}: on once the first choice is made")
            elif old and not after.get(f"{family}.enabled"):
                lines.append(f"{setting_name(f'{family}.enabled')}: off")
        else:
            lines.append(f"{setting_name(setting)}: {_said(new)}")
    return lines


def _said(value: Any) -> str:
    if value is None:
        return "any"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, list):
        return ", ".join(place_name(item) for item in value) or "none"
    return _VALUES.get(str(value), str(value))


def place_name(code: str) -> str:
    """``US-NH`` -> ``New Hampshire``; a country's code as it is."""
    return REGIONS.get(code, code)


def policy_view(found: OrganizationPolicy, web: Web) -> dict[str, Any]:
    """The policy as API and page show it."""
    return {
        "organization": found.organization,
        "version": found.version,
        "settings": settings_of(found.policy),
        "hidden": sorted(hidden_settings(found.policy)),
        "support_contact": web.support_contact,
    }
