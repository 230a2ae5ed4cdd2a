"""The organization's settings, and the rules of changing them that need no web page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from gateway.consent.places import parse_country, parse_state


class PolicyError(Exception):
    """A policy that cannot be used; ``key`` names the setting."""

    def __init__(self, key: str, reason: str) -> None:
        self.key, self.reason = key, reason
        super().__init__(f"{key}: {reason}")


class SettingRefused(PolicyError):
    """A change that the settings do not allow now (an API answers 409)."""


class TwoPartyRule(StrEnum):
    EITHER = "either"
    PROSPECT = "prospect"
    USER = "user"


class LocationBasis(StrEnum):
    STATE = "state"
    AREA_CODE = "area_code"


class LocationConflict(StrEnum):
    BASIS = "basis"
    STRICTER = "stricter"


@dataclass(frozen=True)
class Policy:
    """The settings of CONSENT.md, at their defaults. Pending toggles were switched on with an empty set."""

    recording_enabled: bool = True
    inbound_enabled: bool = False
    two_party_rule: TwoPartyRule = TwoPartyRule.EITHER
    location_basis: LocationBasis = LocationBasis.AREA_CODE
    location_conflict: LocationConflict = LocationConflict.BASIS
    agent_side_only: bool = False
    skip_two_party_states: bool = False
    never_record_enabled: bool = False
    never_record_states: frozenset[str] = frozenset()
    international_enabled: bool = False
    international_countries: frozenset[str] = frozenset()
    allowed_countries: frozenset[str] | None = None
    """None: no restriction."""
    two_party_overrides: frozenset[str] = frozenset()
    never_record_pending: bool = False
    international_pending: bool = False
    version: int | str | None = None

    @classmethod
    def from_mapping(cls, settings: Mapping[str, Any]) -> Policy:
        """Settings by their names, nested or dotted, absent ones at their defaults. Raises PolicyError."""
        if not isinstance(settings, Mapping):
            raise PolicyError("policy", "must be an object")
        values: dict[str, Any] = {}
        for key, value in _flat(settings):
            if key not in _FIELDS:
                raise PolicyError(key, "no such setting")
            if key in values:
                raise PolicyError(key, "given twice")
            values[key] = value
        policy = cls(**{_FIELDS[k][0]: _FIELDS[k][1](k, v) for k, v in values.items()})
        _check_countries(policy)
        return policy

    def to_mapping(self) -> dict[str, Any]:
        """The reverse of ``from_mapping``."""
        plain: dict[str, Any] = {}
        for key, (name, _) in _FIELDS.items():
            value = getattr(self, name)
            if name in ("allowed_countries", "version") and value is None:
                continue
            plain[key] = sorted(value) if isinstance(value, frozenset) else value
        return {k: str(v) if isinstance(v, StrEnum) else v for k, v in plain.items()}


def _flat(settings: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    for key, value in settings.items():
        if key in ("never_record", "international"):
            if not isinstance(value, Mapping):
                raise PolicyError(key, "must be an object")
            yield from ((f"{key}.{inner}", item) for inner, item in value.items())
        else:
            yield str(key), value


def _switch(key: str, value: Any) -> bool:
    if value is True or value is False:
        return bool(value)
    if isinstance(value, str) and value.lower() in ("on", "off"):
        return value.lower() == "on"
    raise PolicyError(key, f"{value!r} is neither on nor off")


def _choice(kind: type[StrEnum]) -> Any:
    def parse(key: str, value: Any) -> StrEnum:
        try:
            return kind(value)
        except ValueError:
            raise PolicyError(key, f"{value!r} is none of {', '.join(kind)}") from None

    return parse


def _set(parse: Any, what: str) -> Any:
    def read(key: str, value: Any) -> frozenset[str]:
        if isinstance(value, str | Mapping) or not isinstance(value, Iterable):
            raise PolicyError(key, "must be a list")
        found = set()
        for item in value:
            code = parse(item)
            if code is None:
                raise PolicyError(key, f"{item!r} is not {what}")
            found.add(code)
        return frozenset(found)

    return read


def _country(text: Any) -> str | None:
    return parse_country(text)[0]


def _version(key: str, value: Any) -> int | str:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise PolicyError(key, f"{value!r} is neither a number nor a text")
    return value


def _overrides(key: str, value: Any) -> frozenset[str]:
    if isinstance(value, Mapping):
        for region, consent in value.items():
            if consent != "two_party":
                raise PolicyError(f"{key}.{region}", "an override can only be two_party")
        value = list(value)
    return frozenset(_set(parse_state, "a state or province")(key, value))


_FIELDS: dict[str, tuple[str, Any]] = {
    "recording_enabled": ("recording_enabled", _switch),
    "inbound_enabled": ("inbound_enabled", _switch),
    "two_party_rule": ("two_party_rule", _choice(TwoPartyRule)),
    "location_basis": ("location_basis", _choice(LocationBasis)),
    "location_conflict": ("location_conflict", _choice(LocationConflict)),
    "agent_side_only": ("agent_side_only", _switch),
    "skip_two_party_states": ("skip_two_party_states", _switch),
    "never_record.enabled": ("never_record_enabled", _switch),
    "never_record.states": ("never_record_states", _set(parse_state, "a state or province")),
    "never_record.pending": ("never_record_pending", _switch),
    "international.enabled": ("international_enabled", _switch),
    "international.countries": ("international_countries", _set(_country, "a country")),
    "international.pending": ("international_pending", _switch),
    "allowed_countries": ("allowed_countries", _set(_country, "a country")),
    "jurisdiction_overrides": ("two_party_overrides", _overrides),
    "version": ("version", _version),
}


def _check_countries(policy: Policy) -> None:
    if policy.allowed_countries is not None:
        wrong = policy.international_countries - policy.allowed_countries
        if wrong:
            raise PolicyError("international.countries", f"{', '.join(sorted(wrong))}: not among allowed_countries")


def hidden_settings(policy: Policy) -> frozenset[str]:
    """Settings whose section is hidden on the page; their values are kept."""
    if policy.agent_side_only:
        return frozenset({"two_party_rule", "location_basis"})
    return frozenset({"two_party_rule"}) if policy.skip_two_party_states else frozenset()


_TOGGLES = {
    "never_record": ("never_record_enabled", "never_record_states", "never_record_pending"),
    "international": ("international_enabled", "international_countries", "international_pending"),
}


def _replace(policy: Policy, fields: dict[str, Any]) -> Policy:
    return replace(policy, **fields)


def change(policy: Policy, setting: str, value: Any) -> Policy:
    """One setting changed. Raises PolicyError for a bad name or value, SettingRefused for what can't be chosen now."""
    if setting not in _FIELDS or setting.endswith(".pending") or setting == "version":
        raise PolicyError(setting, "no such setting")
    if setting in hidden_settings(policy) and setting == "two_party_rule":
        raise SettingRefused(setting, "cannot be chosen while agent_side_only or skip_two_party_states is on")
    name, parse = _FIELDS[setting]
    parsed = parse(setting, value)
    family, _, part = setting.partition(".")
    changed = _replace(policy, {name: parsed})
    if family in _TOGGLES and part:
        enabled, members, pending = _TOGGLES[family]
        chosen = getattr(changed, members)
        if part == "enabled":
            changed = _replace(changed, {enabled: parsed and bool(chosen), pending: parsed and not chosen})
        elif not chosen:
            changed = _replace(changed, {enabled: False, pending: False})
        elif getattr(policy, pending):
            changed = _replace(changed, {enabled: True, pending: False})
    _check_countries(changed)
    return changed
