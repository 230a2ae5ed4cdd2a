"""Call records as rows. Runs on the journal's thread."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, insert, update

from gateway.store.numbers import e164
from gateway.store.records import CallEnded, CallStarted, DecisionMade, RecordingStored
from gateway.store.tables import calls, decisions, recordings

Record = CallStarted | DecisionMade | CallEnded | RecordingStored

_Row = dict[str, Any]

_CALL = insert(calls)
_DECISION = insert(decisions)
_RECORDING = insert(recordings)
_DECIDED = (
    update(calls).where(calls.c.call_id == bindparam("id")).values(mode=bindparam("mode"), reason=bindparam("reason"))
)
_ENDED = (
    update(calls)
    .where(calls.c.call_id == bindparam("id"))
    .values(
        {
            name: bindparam(name)
            for name in (
                "ended_at",
                "answered_at",
                "termination",
                "sip_status",
                "ended_by",
                "detail",
                "trunk",
                "quality",
            )
        }
    )
)


class Refused(Exception):
    """A record that does not fit to what is stored: the end of a call that was never stored."""


def write(connection: Connection, records: Sequence[Record]) -> None:
    """Write ``records`` in the running transaction, table by table: a call's own order is the order of the tables.

    Raises Refused, or SQLAlchemyError; then the transaction must be rolled back.
    """
    started: dict[str, _Row] = {}
    made: list[_Row] = []
    decided: list[_Row] = []
    ended: list[_Row] = []
    stored: list[_Row] = []
    for record in records:
        if isinstance(record, CallStarted):
            if record.call_id in started:
                raise Refused(f"call {record.call_id} was started twice")
            started[record.call_id] = _call(record)
        elif isinstance(record, DecisionMade):
            made.append(_decision(record))
            call = started.get(record.call_id)
            if call is not None:
                call["mode"], call["reason"] = record.mode, record.reason
            else:
                decided.append({"id": record.call_id, "mode": record.mode, "reason": record.reason})
        elif isinstance(record, CallEnded):
            ended.append(_end(record))
        else:
            stored.append(_recording(record))
    if started:
        connection.execute(_CALL, list(started.values()))
    if made:
        connection.execute(_DECISION, made)
    for statement, changed in ((_DECIDED, decided), (_ENDED, ended)):
        if changed and connection.execute(statement, changed).rowcount != len(changed):
            raise Refused("its call is not in the store")
    if stored:
        connection.execute(_RECORDING, stored)


def _call(record: CallStarted) -> _Row:
    return {
        "call_id": record.call_id,
        "organization": record.organization,
        "user_id": record.user_id,
        "direction": record.direction,
        "prospect_number": record.prospect_number,
        "prospect_e164": e164(record.prospect_number) or record.prospect_number,
        "agent_number": record.agent_number,
        "sip_call_id": record.sip_call_id,
        "started_at": record.started_at,
        "mode": None,
        "reason": None,
    }


def _decision(record: DecisionMade) -> _Row:
    return {
        "call_id": record.call_id,
        "mode": record.mode,
        "reason": record.reason,
        "rule": record.rule,
        "policy_version": record.policy_version,
        "jurisdictions_version": record.jurisdictions_version,
        "decided_at": record.decided_at,
        "facts": dict(record.facts),
        "answer": dict(record.answer),
    }


def _end(record: CallEnded) -> _Row:
    return {
        "id": record.call_id,
        "ended_at": record.ended_at,
        "answered_at": record.answered_at,
        "termination": record.termination,
        "sip_status": record.sip_status,
        "ended_by": record.ended_by,
        "detail": record.detail,
        "trunk": record.trunk,
        "quality": dict(record.quality) if record.quality is not None else None,
    }


def _recording(record: RecordingStored) -> _Row:
    return {
        "call_id": record.call_id,
        "organization": record.organization,
        "outcome": record.outcome,
        "mode": record.mode,
        "path": record.path,
        "manifest_path": record.manifest_path,
        "channels": record.channels,
        "sample_rate": record.sample_rate,
        "samples": record.samples,
        "size_bytes": record.size_bytes,
        "sha256": record.sha256,
        "problems": list(record.problems),
        "finished_at": record.finished_at,
    }
