"""Call records for tests of the store."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from gateway.store.records import CallEnded, CallStarted, DecisionMade, RecordingStored
from gateway.store.store import Store

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def sqlite_url(path: object) -> str:
    """The store URL of an SQLite file."""
    return f"sqlite:///{path}"


def started(call_id: str, *, minutes: int = 0, user_id: int | None = None, **changed: Any) -> CallStarted:
    values: dict[str, Any] = {
        "organization": "acme",
        "user_id": user_id,
        "direction": "outbound",
        "prospect_number": "6035550100",
        "agent_number": "alice",
        "started_at": NOW + timedelta(minutes=minutes),
        "sip_call_id": f"{call_id}@phone",
    }
    return CallStarted(call_id=call_id, **{**values, **changed})


def decided(call_id: str, *, mode: str = "both", reason: str = "one_party", **changed: Any) -> DecisionMade:
    values: dict[str, Any] = {
        "rule": 12,
        "policy_version": 3,
        "jurisdictions_version": "2026-01",
        "decided_at": NOW,
        "facts": {"direction": "outbound", "prospect_state": None},
        "answer": {"mode": mode, "trace": [{"rule": 12, "said": "Zoë"}]},
    }
    return DecisionMade(call_id=call_id, mode=mode, reason=reason, **{**values, **changed})


def ended(call_id: str, *, seconds: int = 90, **changed: Any) -> CallEnded:
    values: dict[str, Any] = {
        "ended_at": NOW + timedelta(seconds=seconds),
        "answered_at": NOW,
        "termination": "completed",
        "sip_status": 200,
        "ended_by": "agent",
        "trunk": "local",
    }
    return CallEnded(call_id=call_id, **{**values, **changed})


def recorded(call_id: str, **changed: Any) -> RecordingStored:
    values: dict[str, Any] = {
        "organization": "acme",
        "outcome": "complete",
        "mode": "both",
        "path": f"acme/2026/03/01/{call_id}.wav",
        "manifest_path": f"acme/2026/03/01/{call_id}.json",
        "channels": 2,
        "sample_rate": 8000,
        "samples": 720_000,
        "size_bytes": 2_880_044,
        "sha256": "0" * 64,
        "problems": (),
        "finished_at": NOW + timedelta(seconds=90),
    }
    return RecordingStored(call_id=call_id, **{**values, **changed})


async def store_call(store: Store, call_id: str, *, minutes: int = 0, **changed: Any) -> None:
    """A whole call, durable when this returns."""
    reason = changed.pop("reason", "one_party")
    mode = changed.pop("mode", "both")
    store.journal.call_started(started(call_id, minutes=minutes, **changed))
    await store.journal.decision_made(decided(call_id, mode=mode, reason=reason))
