"""What a prospect who was asked may change: the one exception to "a decision never widens", and a way to say no.

Pure, like the engine: which decisions may be widened by the prospect's consent, and what the new decision says.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from gateway.consent.engine import Mode, Reason

CONSENTED: Final = "prospect_consented"
OPTED_OUT: Final = "prospect_opted_out"
RULE_CONSENTED: Final = 13
RULE_OPTED_OUT: Final = 14
"""After the engine's twelve."""

WIDENABLE: Final = frozenset({
    Reason.PROSPECT_TWO_PARTY, Reason.PROSPECT_LOCATION_UNKNOWN, Reason.PROSPECT_STATE_MISSING,
})  # fmt: skip
"""Where the prospect's own location, known or not, is why their side is not recorded."""


def may_widen(mode: str, reason: str) -> bool:
    """Whether the prospect's consent turns this decision into ``both``. For any other reason it changes nothing."""
    return mode == Mode.AGENT_ONLY and reason in WIDENABLE


def consented(answer: Mapping[str, Any], consent: Mapping[str, Any], at: str) -> dict[str, Any]:
    """The new answer, out of one that may be widened. ``consent`` is what it rests on: the key, the announcement and
    its SHA-256; ``at`` the time, ISO 8601. Raises ValueError for an answer that may not be widened."""
    if not may_widen(str(answer.get("mode")), str(answer.get("reason"))):
        raise ValueError(f"{answer.get('reason')} can't be widened by the prospect's consent")
    return _after(answer, Mode.BOTH, CONSENTED, RULE_CONSENTED, at) | {"consent": dict(consent)}


def opted_out(answer: Mapping[str, Any], mode: str, key: str, at: str) -> dict[str, Any]:
    """The new answer of a prospect who pressed the key for no: ``mode``, or less if less was captured before."""
    widths = {Mode.NONE: 0, Mode.AGENT_ONLY: 1, Mode.BOTH: 2}
    narrower = min(Mode(mode), Mode(str(answer["mode"])), key=lambda m: widths[m])
    return _after(answer, narrower, OPTED_OUT, RULE_OPTED_OUT, at) | {"opt_out": {"key": key}}


def _after(answer: Mapping[str, Any], mode: Mode, reason: str, rule: int, at: str) -> dict[str, Any]:
    before = {"mode": answer.get("mode"), "reason": answer.get("reason"), "time": answer.get("time")}
    step = {"rule": rule, "saw": f"decided before: {before['mode']}, {before['reason']}", "said": f"{mode}: {reason}"}
    changed = {"mode": str(mode), "reason": reason, "rule": rule, "time": at, "before": before}
    return {**answer, **changed, "trace": [*answer.get("trace", ()), step]}
