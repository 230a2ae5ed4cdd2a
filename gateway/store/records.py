"""What the store gives and takes: frozen values, no SQL. Times are aware UTC datetimes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from gateway.consent.policy import Policy


@dataclass(frozen=True, slots=True)
class Agent:
    """A user of an organization, as the call logic needs to know them ("User Location" included)."""

    user_id: int
    username: str
    """Unique over all organizations: it is the SIP user part and the digest user name."""
    organization: str
    """The organization's slug (``[a-z0-9-]+``), the first path component of its recordings."""
    display_name: str = ""
    country: str | None = None
    state: str | None = None
    enabled: bool = True


@dataclass(frozen=True, slots=True)
class SipCredential:
    """Digest credentials of an agent; the password itself is never kept (RFC 8760 §2.2, HA1)."""

    agent: Agent
    realm: str
    ha1_md5: str
    ha1_sha256: str


@dataclass(frozen=True, slots=True)
class OrganizationPolicy:
    """The policy in force of one organization; ``policy.version`` is the stored version's number."""

    organization: str
    version: int
    policy: Policy


@dataclass(frozen=True, slots=True)
class CallStarted:
    """A call at the moment the INVITE was accepted for processing."""

    call_id: str
    """The gateway's own identity of the call (``[A-Za-z0-9-]+``, unique)."""
    organization: str
    user_id: int | None
    direction: str
    """``outbound`` or ``inbound``."""
    prospect_number: str
    agent_number: str
    """The DID or user name on the agent's side."""
    started_at: datetime
    sip_call_id: str = ""
    """Call-ID of the leg the call came in on."""


@dataclass(frozen=True, slots=True)
class DecisionMade:
    """A consent decision, stored before any capture may begin. ``answer`` is ``Decision.as_dict()``."""

    call_id: str
    mode: str
    reason: str
    rule: int
    policy_version: int | None
    jurisdictions_version: str
    decided_at: datetime
    facts: Mapping[str, Any] = field(default_factory=dict)
    answer: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CallEnded:
    """How a call ended (``gateway.b2bua.termination``)."""

    call_id: str
    ended_at: datetime
    answered_at: datetime | None
    termination: str
    """The kind: ``completed``, ``cancelled``, ``busy``, ``no_answer``, ``rejected``, ``failed`` …"""
    sip_status: int | None
    ended_by: str
    """``agent``, ``prospect`` or ``gateway``."""
    detail: str = ""
    trunk: str | None = None
    quality: Mapping[str, Any] | None = None
    """Loss, jitter, round trip and MOS by leg and direction (``media.quality.SessionQuality.as_dict``)."""


@dataclass(frozen=True, slots=True)
class RecordingStored:
    """A finished (or blocked, failed, recovered) recording; paths are relative to the recordings root."""

    call_id: str
    organization: str
    outcome: str
    mode: str
    path: str | None
    manifest_path: str | None
    channels: int
    sample_rate: int
    samples: int
    size_bytes: int
    sha256: str | None
    problems: tuple[str, ...]
    finished_at: datetime
