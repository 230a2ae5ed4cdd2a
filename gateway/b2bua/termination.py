"""Why a call ended: one vocabulary for call records, manifests, metrics and logs."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What became of a call."""

    COMPLETED = "completed"
    CANCELLED = "cancelled"
    BUSY = "busy"
    NO_ANSWER = "no_answer"
    REJECTED = "rejected"
    UNREACHABLE = "unreachable"
    FAILED = "failed"
    MEDIA_TIMEOUT = "media_timeout"
    TIME_LIMIT = "time_limit"
    LOST = "lost"
    SHUTDOWN = "shutdown"


class EndedBy(StrEnum):
    """Who ended it."""

    AGENT = "agent"
    PROSPECT = "prospect"
    GATEWAY = "gateway"


@dataclass(frozen=True, slots=True)
class Termination:
    """How one call ended; ``sip_status`` is what the caller heard (200 for an answered call)."""

    kind: Kind
    ended_by: EndedBy
    sip_status: int
    detail: str = ""

    def as_dict(self) -> dict[str, object]:
        return {
            "kind": str(self.kind),
            "ended_by": str(self.ended_by),
            "sip_status": self.sip_status,
            "detail": self.detail,
        }


def kind_of_status(status: int) -> Kind:
    """What a final response to an INVITE says about the call."""
    if status in (486, 600):
        return Kind.BUSY
    if status in (408, 480):
        return Kind.NO_ANSWER
    if status == 487:
        return Kind.CANCELLED
    if status in (404, 410, 484, 502, 503, 504, 604):
        return Kind.UNREACHABLE
    return Kind.FAILED if 500 <= status < 600 else Kind.REJECTED


def status_for_caller(status: int) -> int:
    """A failure of one leg as the other leg is told of it (RFC 3261 §16.7 step 6 for what is not passed on as it is).

    A challenge or redirection is between us and who sent it. A 503 is passed on: it was the last trunk's, and the next
    call would fare no better.
    """
    if 300 <= status < 400:
        return 480
    if status in (401, 407):
        return 403
    return 500 if status in _OURS else status


_OURS = frozenset({400, 405, 420, 421, 423, 481, 482, 501, 505, 513})
"""Failures that are about a request of ours, not about the caller's."""
