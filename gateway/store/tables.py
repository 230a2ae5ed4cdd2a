"""The tables, in types that SQLite and PostgreSQL share. Migrations make them; a test holds both to be the same."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Dialect,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    false,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class UtcDateTime(TypeDecorator[datetime]):
    """An aware time, kept as UTC. SQLite has no time zones: there, the naive UTC time is kept."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Raises ValueError for a naive time."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a time zone")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class JsonText(TypeDecorator[Any]):
    """Any JSON value, kept as text. (SQLite takes a column of type JSON for a number where its text looks like one.)"""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        return None if value is None else json.dumps(value, separators=(",", ":"), ensure_ascii=False)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        return None if value is None else json.loads(value)


ROLES = ("agent", "manager", "admin", "support")

_IDENTITY = BigInteger().with_variant(Integer, "sqlite")


def _organization(**options: Any) -> Column[str]:
    return Column("organization", String(63), ForeignKey("organizations.slug"), nullable=False, **options)


organizations = Table(
    "organizations",
    metadata,
    Column("slug", String(63), primary_key=True),
    Column("name", Text, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
)

users = Table(
    "users",
    metadata,
    Column("id", _IDENTITY, primary_key=True),
    Column("username", String(255), nullable=False, unique=True),
    _organization(index=True),
    Column("display_name", Text, nullable=False, default=""),
    Column("role", String(16), nullable=False, default="agent"),
    Column("country", String(2)),
    Column("state", String(6)),
    Column("enabled", Boolean, nullable=False, default=True),
    Column("created_at", UtcDateTime, nullable=False),
    Column("admin_rights", Boolean, nullable=False, default=False, server_default=false()),
    CheckConstraint("role IN ('agent', 'manager', 'admin', 'support')", name="role"),
)

sip_credentials = Table(
    "sip_credentials",
    metadata,
    Column("user_id", _IDENTITY, ForeignKey("users.id", ondelete="CASCADE"), primary_key=True),
    Column("realm", Text, nullable=False),
    Column("ha1_md5", String(32), nullable=False),
    Column("ha1_sha256", String(64), nullable=False),
    Column("changed_at", UtcDateTime, nullable=False),
)

dids = Table(
    "dids",
    metadata,
    Column("number", String(16), primary_key=True),
    Column("user_id", _IDENTITY, ForeignKey("users.id", ondelete="CASCADE"), nullable=False, index=True),
)

web_logins = Table(
    "web_logins",
    metadata,
    Column("user_id", _IDENTITY, ForeignKey("users.id", ondelete="CASCADE"), primary_key=True),
    Column("password_hash", Text, nullable=False),
    Column("changed_at", UtcDateTime, nullable=False),
    Column("failures", Integer, nullable=False, default=0),
    Column("locked_until", UtcDateTime),
)

web_sessions = Table(
    "web_sessions",
    metadata,
    Column("token_hash", String(64), primary_key=True),
    Column("user_id", _IDENTITY, ForeignKey("users.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("csrf_token", String(64), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("seen_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
)

api_tokens = Table(
    "api_tokens",
    metadata,
    Column("id", _IDENTITY, primary_key=True),
    Column("user_id", _IDENTITY, ForeignKey("users.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("name", Text, nullable=False),
    Column("token_hash", String(64), nullable=False, unique=True),
    Column("scopes", JSON, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime),
    Column("used_at", UtcDateTime),
    Column("revoked_at", UtcDateTime),
)

audit_log = Table(
    "audit_log",
    metadata,
    _organization(primary_key=True),
    Column("sequence", Integer, primary_key=True, autoincrement=False),
    Column("at", UtcDateTime, nullable=False),
    Column("actor", Text, nullable=False),
    Column("action", String(64), nullable=False),
    Column("target", Text, nullable=False),
    Column("before", JsonText),
    Column("after", JsonText),
    Column("previous", String(64), nullable=False),
    Column("hash", String(64), nullable=False),
)
"""Append-only: triggers refuse every change of a row."""

audit_heads = Table(
    "audit_heads",
    metadata,
    _organization(primary_key=True),
    Column("sequence", Integer, nullable=False),
    Column("hash", String(64), nullable=False),
)

policies = Table(
    "policies",
    metadata,
    _organization(primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("settings", JSON, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("created_by", Text, nullable=False),
)

dialing_list = Table(
    "dialing_list",
    metadata,
    _organization(primary_key=True),
    Column("number", String(16), primary_key=True),
    Column("state", String(6), nullable=False),
    sqlite_with_rowid=False,
)

changes = Table(
    "changes",
    metadata,
    Column("scope", String(16), primary_key=True),
    Column("counter", BigInteger, nullable=False),
)
"""What readers watch to know that what they remember is out of date."""

calls = Table(
    "calls",
    metadata,
    Column("call_id", String(64), primary_key=True),
    _organization(),
    Column("user_id", _IDENTITY, ForeignKey("users.id", ondelete="SET NULL")),
    Column("direction", String(8), nullable=False),
    Column("prospect_number", Text, nullable=False),
    Column("prospect_e164", Text, nullable=False),
    Column("agent_number", Text, nullable=False),
    Column("sip_call_id", Text, nullable=False),
    Column("started_at", UtcDateTime, nullable=False),
    Column("answered_at", UtcDateTime),
    Column("ended_at", UtcDateTime),
    Column("termination", String(32)),
    Column("sip_status", Integer),
    Column("ended_by", String(16)),
    Column("detail", Text),
    Column("trunk", Text),
    Column("mode", String(16)),
    Column("reason", String(40)),
    Column("quality", JSON(none_as_null=True)),
    Index(None, "started_at", "call_id"),
    Index(None, "organization", "started_at", "call_id"),
    Index(None, "user_id", "started_at", "call_id"),
    Index(None, "prospect_e164", "started_at", "call_id"),
    Index(None, "organization", "mode", "started_at", "call_id"),
    Index(None, "organization", "reason", "started_at", "call_id"),
    Index(None, "user_id", "mode", "started_at", "call_id"),
    Index(None, "user_id", "reason", "started_at", "call_id"),
)
"""``mode`` and ``reason`` repeat the last decision, so that calls are filtered and paged within one index."""

decisions = Table(
    "decisions",
    metadata,
    Column("id", _IDENTITY, primary_key=True),
    Column("call_id", String(64), nullable=False, index=True),
    Column("mode", String(16), nullable=False),
    Column("reason", String(40), nullable=False),
    Column("rule", Integer, nullable=False),
    Column("policy_version", Integer),
    Column("jurisdictions_version", Text, nullable=False),
    Column("decided_at", UtcDateTime, nullable=False),
    Column("facts", JSON, nullable=False),
    Column("answer", JSON, nullable=False),
    ForeignKeyConstraint(["call_id"], ["calls.call_id"]),
)

recordings = Table(
    "recordings",
    metadata,
    Column("id", _IDENTITY, primary_key=True),
    Column("call_id", String(64), nullable=False, index=True),
    _organization(),
    Column("outcome", String(16), nullable=False),
    Column("mode", String(16), nullable=False),
    Column("path", Text),
    Column("manifest_path", Text),
    Column("channels", Integer, nullable=False),
    Column("sample_rate", Integer, nullable=False),
    Column("samples", BigInteger, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("sha256", String(64)),
    Column("problems", JSON, nullable=False),
    Column("finished_at", UtcDateTime, nullable=False),
    ForeignKeyConstraint(["call_id"], ["calls.call_id"]),
)
