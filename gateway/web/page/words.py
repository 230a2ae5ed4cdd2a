"""What the page says: decisions and settings in plain words."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

MODES = {
    "both": "Both sides",
    "agent_only": "Agent's side only",
    "none": "Not recorded",
}

REASONS = {
    "engine_error": "the decision failed; nothing is recorded when in doubt",
    "recording_disabled": "call recording is switched off for the organization",
    "inbound_not_covered": "inbound calls are not recorded",
    "prospect_unknown": "the prospect's number tells no country",
    "user_location_unknown": "the user's country is not in their profile",
    "never_record_state": "the prospect is in a state that is never recorded",
    "never_record_location_unknown": "the prospect's state is unknown, and some states are never recorded",
    "international_user_outside_us": "international calls of users outside the United States are not recorded",
    "international_allowed": "an international call to a chosen country: the user's side only",
    "international_not_allowed": "an international call to a country that is not chosen",
    "country_not_covered": "calls within this country are not covered",
    "two_party_state_skipped": "the prospect is in a two-party consent state",
    "skip_location_unknown": "the prospect's location is unknown, and two-party consent states are not recorded",
    "agent_side_only": "the prospect's side is never recorded",
    "prospect_state_missing": "the dialing list has no state for the prospect",
    "prospect_location_unknown": "the prospect's number tells no state",
    "prospect_two_party": "the prospect is in a two-party consent state",
    "user_two_party": "the user is in a two-party consent state",
    "prospect_consented": "the prospect was asked and pressed the key that consents",
    "prospect_opted_out": "the prospect pressed the key that ends recording",
    "one_party": "everyone who counts is in a one-party consent state",
}

RULES = {
    "either": "Either location",
    "prospect": "Prospect location",
    "user": "User location",
}
RULE_HINTS = {
    "either": "Only the user's side when the user or the prospect is in a two-party consent state, both sides "
    "otherwise. Recommended.",
    "prospect": "Wherever the user is: both sides into one-party consent states, only the user's side into two-party "
    "ones.",
    "user": "Only the user's side when the user is in a two-party consent state. From a one-party state: both sides "
    "into one-party states, only the user's side into two-party ones.",
}
BASES = {"state": "Prospect's state (if available)", "area_code": "Prospect's phone area code (if available)"}
BASIS_HINTS = {
    "state": "The state in the dialing list counts. Without one, only the user's side is recorded.",
    "area_code": "The area code counts, wherever the prospect really is. A New Hampshire number: only the user's side.",
}
CONFLICTS = {"basis": "The choice above decides", "stricter": "The stricter of the two decides"}
CONFLICT_HINTS = {
    "basis": "A prospect in New York with a New Hampshire number is treated by the choice above.",
    "stricter": "A prospect in New York with a New Hampshire number, or the reverse: only the user's side.",
}
AGENT_SIDE_ONLY = {
    True: "Of every recorded call only the user's side is captured. The sections above are hidden, their choices kept.",
    False: "Off: the prospect's side is captured where consent allows it.",
}
SKIP_TWO_PARTY = {
    True: "Nothing is captured of calls to two-party consent states, or to prospects whose state is not known.",
    False: "Off: of calls to two-party consent states the user's side is captured.",
}
INBOUND = {
    True: "Calls that prospects make are recorded by the same rules.",
    False: "Calls that prospects make are not recorded.",
}
OUTSIDE_US = "International calls of users outside the United States are not recorded on either side."
ROLES = {"agent": "Agent", "manager": "Manager", "admin": "Admin", "support": "Support"}
OUTCOMES = {
    "complete": "complete", "degraded": "something is missing", "failed": "failed", "blocked": "not allowed",
    "recovered": "recovered after a crash",
}  # fmt: skip


def reason(code: str | None) -> str:
    """A reason code in words."""
    return REASONS.get(code or "", code or "recording is off in the gateway's settings")


def mode(code: str | None) -> str:
    """A mode in words."""
    return MODES.get(code or "", "Not recorded")


def said(step: Mapping[str, Any]) -> str:
    """What a rule of a trace said."""
    what, _, why = str(step.get("said") or "").partition(":")
    if not what:
        return "did not speak"
    return f"{MODES.get(what.strip(), what)}: {REASONS.get(why.strip(), why.strip())}" if why else what


def when(time: datetime | None) -> str:
    """A time for people, in UTC."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC") if time is not None else "-"


def quality(legs: dict[str, Any]) -> list[str]:
    """A line for each leg of a manifest's ``legs``: how good what came from it was."""
    lines = []
    for name, leg in legs.items():
        stream = (leg.get("quality") or {}).get("received") or {}
        if not stream.get("packets"):
            continue
        parts = [f"{stream['loss_percent']:g} % lost"]
        if stream.get("jitter_ms") is not None:
            parts.append(f"jitter {stream['jitter_ms']:.1f} ms")
        if stream.get("mos") is not None:
            parts.insert(0, f"MOS {stream['mos']:.1f}")
        lines.append(f"Audio from the {name}: {', '.join(parts)}.")
    return lines


def duration(seconds: float | None) -> str:
    """``m:ss``."""
    return "-" if seconds is None else f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
