"""Policies with their versions: appended, never changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, select

from gateway.consent.policy import Policy, PolicyError
from gateway.store import audit, changes
from gateway.store.audit import Change
from gateway.store.database import Database
from gateway.store.errors import Conflict, NotFound, UnreadablePolicy
from gateway.store.records import OrganizationPolicy
from gateway.store.tables import organizations, policies


@dataclass(frozen=True, slots=True)
class PolicyVersion:
    """One stored version: ``settings`` as they were stored."""

    organization: str
    version: int
    settings: Mapping[str, Any]
    created_at: datetime
    created_by: str


def latest(connection: Connection, organization: str) -> OrganizationPolicy:
    """The policy in force; the defaults as version 0 where none was set. Raises StoreError, naming what is wrong."""
    query = select(policies.c.version, policies.c.settings).where(policies.c.organization == organization)
    row = connection.execute(query.order_by(policies.c.version.desc()).limit(1)).first()
    return readable(organization, *row) if row is not None else readable(organization, 0, {})


def readable(organization: str, version: int, settings: Mapping[str, Any]) -> OrganizationPolicy:
    """Stored settings as a Policy. Raises StoreError."""
    try:
        return OrganizationPolicy(organization, version, replace(Policy.from_mapping(settings), version=version))
    except PolicyError as error:
        raise UnreadablePolicy(f"policy version {version} of {organization} can't be understood: {error}") from error


def settings_of(policy: Policy) -> dict[str, Any]:
    """The settings by name, without the version, which is not one."""
    return {name: value for name, value in policy.to_mapping().items() if name != "version"}


class Policies:
    """Reads and appends policy versions. Every method may raise StoreError."""

    def __init__(self, database: Database, now: Callable[[], datetime]) -> None:
        self._database = database
        self._now = now

    async def current(self, organization: str) -> OrganizationPolicy:
        """The policy in force. Raises NotFound for an unknown organization."""
        return await self._database.read(lambda connection: _current(connection, organization))

    async def get(self, organization: str, version: int) -> OrganizationPolicy:
        """A stored version (0: the defaults). Raises NotFound."""
        if version == 0:
            return readable(organization, 0, {})
        query = select(policies.c.settings).where(
            policies.c.organization == organization, policies.c.version == version
        )
        settings = await self._database.read(lambda connection: connection.execute(query).scalar())
        if settings is None:
            raise NotFound(f"{organization} has no policy version {version}")
        return readable(organization, version, settings)

    async def versions(
        self, organization: str, *, before: int | None = None, limit: int | None = None
    ) -> list[PolicyVersion]:
        """Stored versions, the newest first: all, or at most ``limit`` older than ``before``."""
        query = select(policies).where(policies.c.organization == organization).order_by(policies.c.version.desc())
        if before is not None:
            query = query.where(policies.c.version < before)
        query = query.limit(limit)
        rows = await self._database.read(lambda connection: connection.execute(query).all())
        return [PolicyVersion(*row) for row in rows]

    async def append(self, organization: str, policy: Policy, *, after: int, by: str) -> int:
        """Store ``policy`` as the version that follows ``after``; returns its number.

        Raises Conflict when ``after`` is not the newest any more, NotFound for an unknown organization.
        """
        row = {
            "organization": organization,
            "version": after + 1,
            "settings": settings_of(policy),
            "created_at": self._now(),
            "created_by": by,
        }

        def work(connection: Connection) -> None:
            if _current_version(connection, organization) != after:
                raise Conflict(f"the policy of {organization} was changed by somebody else meanwhile; look again")
            former, new = latest_settings(connection, organization), settings_of(policy)
            connection.execute(insert(policies), row)
            names = sorted({name for name in (*former, *new) if former.get(name) != new.get(name)})
            change = Change(
                by, "policy.change", f"version {row['version']}",
                {name: former.get(name) for name in names}, {name: new.get(name) for name in names},
            )  # fmt: skip
            audit.append(connection, organization, self._now(), change)
            changes.bump(connection)

        await self._database.write(work)
        return after + 1


def latest_settings(connection: Connection, organization: str) -> dict[str, Any]:
    """The stored settings in force, even such that this program can't understand; the defaults where none are."""
    query = select(policies.c.settings).where(policies.c.organization == organization)
    found = connection.execute(query.order_by(policies.c.version.desc()).limit(1)).scalar()
    return dict(found) if found is not None else settings_of(Policy())


def _require(connection: Connection, organization: str) -> None:
    query = select(organizations.c.slug).where(organizations.c.slug == organization)
    if connection.execute(query).first() is None:
        raise NotFound(
            f"there is no organization {organization}; make it with: twoparty organization add {organization}"
        )


def _current(connection: Connection, organization: str) -> OrganizationPolicy:
    _require(connection, organization)
    return latest(connection, organization)


def _current_version(connection: Connection, organization: str) -> int:
    _require(connection, organization)
    query = select(policies.c.version).where(policies.c.organization == organization)
    return connection.execute(query.order_by(policies.c.version.desc()).limit(1)).scalar() or 0
