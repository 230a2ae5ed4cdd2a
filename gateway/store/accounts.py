"""Organizations, users, their credentials and DIDs, as commands see and change them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from gateway.store import access, audit, changes
from gateway.store.audit import Change
from gateway.store.database import Database
from gateway.store.errors import Conflict, NotFound, StoreError
from gateway.store.numbers import e164
from gateway.store.records import Agent
from gateway.store.tables import ROLES, dids, organizations, sip_credentials, users, web_logins

_SLUG = re.compile(r"[a-z0-9][a-z0-9-]{0,62}", re.ASCII)
_USERNAME = re.compile(r"[A-Za-z0-9+_.~!*-]{1,255}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Organization:
    """An organization, with how many users it has."""

    slug: str
    name: str
    created_at: datetime
    users: int = 0


@dataclass(frozen=True, slots=True)
class User:
    """A user with what belongs to it. ``realm`` is None while no SIP password is set."""

    agent: Agent
    role: str
    created_at: datetime
    dids: tuple[str, ...] = ()
    realm: str | None = None
    admin_rights: bool = False
    """Of a manager: may do what an admin may."""
    web_login: bool = False
    """Has a password for the web."""


@dataclass(frozen=True, slots=True)
class Ha1:
    """What is kept of a password: H(username:realm:password) by both algorithms, in hexadecimal."""

    realm: str
    md5: str
    sha256: str


class Accounts:
    """Reads and changes accounts. Every method may raise StoreError."""

    def __init__(self, database: Database, now: Callable[[], datetime]) -> None:
        self._database = database
        self._now = now

    async def organizations(self) -> list[Organization]:
        """All, by slug."""
        query = (
            select(organizations.c.slug, organizations.c.name, organizations.c.created_at, func.count(users.c.id))
            .outerjoin(users, users.c.organization == organizations.c.slug)
            .group_by(organizations.c.slug, organizations.c.name, organizations.c.created_at)
            .order_by(organizations.c.slug)
        )
        rows = await self._database.read(lambda connection: connection.execute(query).all())
        return [Organization(*row) for row in rows]

    async def add_organization(self, slug: str, name: str = "", *, by: str = "system") -> None:
        """Raises Conflict when it is there already, StoreError for a slug that is none."""
        await self._database.write(lambda connection: self._add_organization(connection, slug, name, by))

    def _add_organization(self, connection: Connection, slug: str, name: str, by: str) -> None:
        if _SLUG.fullmatch(slug) is None:
            raise StoreError(f"{slug!r} is not a slug: up to 63 of a-z, 0-9 and -, beginning with a letter or digit")
        if _has_organization(connection, slug):
            raise Conflict(f"there is an organization {slug} already")
        connection.execute(insert(organizations), {"slug": slug, "name": name or slug, "created_at": self._now()})
        audit.append(connection, slug, self._now(), Change(by, "organization.add", slug, after={"name": name or slug}))
        changes.bump(connection)

    async def users(self, organization: str | None = None) -> list[User]:
        """All users, or those of one organization, by name."""

        def work(connection: Connection) -> list[User]:
            return _users(connection, None if organization is None else users.c.organization == organization)

        return await self._database.read(work)

    async def user(self, username: str) -> User:
        """Raises NotFound."""
        return await self._database.read(lambda connection: _user(connection, username))

    async def add_user(
        self,
        username: str,
        organization: str,
        *,
        credential: Ha1 | None = None,
        numbers: Iterable[str] = (),
        create_organization: bool = False,
        password_hash: str | None = None,
        by: str = "system",
        **profile: Any,
    ) -> User:
        """Add a user; ``profile``: display_name, role, admin_rights, country, state (ISO), enabled. All or nothing.
        ``credential`` is for SIP, ``password_hash`` for the web.

        Raises Conflict for a user name or DID that is taken, NotFound for an unknown organization.
        """
        wanted = _numbers(numbers)

        def work(connection: Connection) -> User:
            self._prepare(connection, username, organization, create_organization, by)
            row = {"username": username, "organization": organization, "created_at": self._now(), **_checked(profile)}
            key = connection.execute(insert(users).values(row)).inserted_primary_key
            assert key is not None
            self._attach(connection, key[0], username, credential, wanted)
            user = _user(connection, username)
            change = Change(by, "user.add", username, after=_noted(user) | _secrets(credential))
            audit.append(connection, organization, self._now(), change)
            if password_hash is not None:
                access.set_password(connection, username, password_hash, self._now(), by)
            changes.bump(connection)
            return _user(connection, username)

        return await self._database.write(work)

    def _prepare(self, connection: Connection, username: str, organization: str, create: bool, by: str) -> None:
        if _USERNAME.fullmatch(username) is None:
            raise StoreError(
                f"{username!r} can't be a user name: letters, digits and + _ . ~ ! * - only, without spaces"
            )
        if connection.execute(select(users.c.id).where(users.c.username == username)).first() is not None:
            raise Conflict(f"there is a user {username} already; change it with: twoparty user set {username}")
        if _has_organization(connection, organization):
            return
        if not create:
            raise NotFound(
                f"there is no organization {organization}; make it with: twoparty organization add {organization} "
                "(or give --create-organization)"
            )
        self._add_organization(connection, organization, "", by)

    async def change_user(
        self,
        username: str,
        *,
        credential: Ha1 | None = None,
        add_numbers: Iterable[str] = (),
        remove_numbers: Iterable[str] = (),
        by: str = "system",
        **profile: Any,
    ) -> User:
        """Change what is given (see ``add_user``). All or nothing. Raises NotFound, Conflict."""
        wanted, unwanted = _numbers(add_numbers), _numbers(remove_numbers)

        def work(connection: Connection) -> User:
            former = _user(connection, username)
            user_id = former.agent.user_id
            if profile:
                connection.execute(update(users).where(users.c.id == user_id).values(_checked(profile)))
            for number in unwanted:
                statement = delete(dids).where(dids.c.number == number, dids.c.user_id == user_id)
                if connection.execute(statement).rowcount != 1:
                    raise NotFound(f"{number} is not a DID of {username}")
            self._attach(connection, user_id, username, credential, wanted)
            user = _user(connection, username)
            before, after = _noted(former), _noted(user) | _secrets(credential)
            differing = [name for name in after if before.get(name) != after[name]]
            if differing:
                change = Change(
                    by, "user.change", username,
                    {name: before.get(name) for name in differing}, {name: after[name] for name in differing},
                )  # fmt: skip
                audit.append(connection, user.agent.organization, self._now(), change)
            changes.bump(connection)
            return user

        return await self._database.write(work)

    def _attach(
        self, connection: Connection, user_id: int, username: str, credential: Ha1 | None, numbers: Iterable[str]
    ) -> None:
        for number in numbers:
            owner = connection.execute(
                select(users.c.username).join(dids, dids.c.user_id == users.c.id).where(dids.c.number == number)
            ).scalar()
            if owner is not None and owner != username:
                raise Conflict(f"{number} is a DID of {owner}")
            if owner is None:
                connection.execute(insert(dids), {"number": number, "user_id": user_id})
        if credential is None:
            return
        connection.execute(delete(sip_credentials).where(sip_credentials.c.user_id == user_id))
        row = {
            "user_id": user_id,
            "realm": credential.realm,
            "ha1_md5": credential.md5,
            "ha1_sha256": credential.sha256,
            "changed_at": self._now(),
        }
        connection.execute(insert(sip_credentials), row)


_PROFILE = {"display_name", "role", "admin_rights", "country", "state", "enabled"}


def _noted(user: User) -> dict[str, Any]:
    """What the audit log says of a user."""
    agent = user.agent
    return {
        "display_name": agent.display_name, "role": user.role, "admin_rights": user.admin_rights,
        "country": agent.country, "state": agent.state, "enabled": agent.enabled, "dids": list(user.dids),
    }  # fmt: skip


def _secrets(credential: Ha1 | None) -> dict[str, Any]:
    return {"sip_password": "set"} if credential is not None else {}


def _checked(profile: Mapping[str, Any]) -> dict[str, Any]:
    if unknown := set(profile) - _PROFILE:
        raise TypeError(f"no such field of a user: {', '.join(sorted(unknown))}")
    if profile.get("role", "agent") not in ROLES:
        raise StoreError(f"role: {profile['role']!r} is none of {', '.join(ROLES)}")
    return dict(profile)


def _numbers(numbers: Iterable[str]) -> list[str]:
    found = []
    for number in numbers:
        key = e164(number)
        if key is None:
            raise StoreError(f"{number!r} is not a telephone number")
        found.append(key)
    return found


def _has_organization(connection: Connection, slug: str) -> bool:
    return connection.execute(select(organizations.c.slug).where(organizations.c.slug == slug)).first() is not None


def _user(connection: Connection, username: str) -> User:
    found = _users(connection, users.c.username == username)
    if not found:
        raise NotFound(f"there is no user {username}")
    return found[0]


def _users(connection: Connection, condition: Any) -> list[User]:
    query = select(users, sip_credentials.c.realm, web_logins.c.user_id.label("login"))
    query = query.outerjoin(sip_credentials, sip_credentials.c.user_id == users.c.id)
    query = query.outerjoin(web_logins, web_logins.c.user_id == users.c.id)
    owned = select(dids.c.user_id, dids.c.number).join(users, users.c.id == dids.c.user_id).order_by(dids.c.number)
    if condition is not None:
        query, owned = query.where(condition), owned.where(condition)
    numbers: dict[int, list[str]] = {}
    for user_id, number in connection.execute(owned):
        numbers.setdefault(user_id, []).append(number)
    return [
        User(
            Agent(r.id, r.username, r.organization, r.display_name, r.country, r.state, r.enabled),
            r.role,
            r.created_at,
            tuple(numbers.get(r.id, ())),
            r.realm,
            r.admin_rights,
            r.login is not None,
        )
        for r in connection.execute(query.order_by(users.c.username))
    ]
