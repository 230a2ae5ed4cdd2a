"""Who may come in by the web: password hashes, sessions of browsers, tokens of machines.

Secrets are never stored: of a session or token its SHA-256, of a password what the caller's hash function made of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from gateway.store import audit
from gateway.store.audit import Change
from gateway.store.database import Database
from gateway.store.errors import NotFound
from gateway.store.tables import api_tokens, users, web_logins, web_sessions

LOCK_AFTER = 5
"""Failed logins in a row that lock a user."""
LOCK_FOR = timedelta(minutes=15)
SEEN_EVERY = timedelta(minutes=1)
"""How exactly ``seen_at`` and ``used_at`` are kept."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A user as the web knows them."""

    user_id: int
    username: str
    organization: str
    display_name: str
    role: str
    admin_rights: bool
    enabled: bool


@dataclass(frozen=True, slots=True)
class Login:
    """What a login is checked against."""

    identity: Identity
    password_hash: str
    failures: int
    locked_until: datetime | None


@dataclass(frozen=True, slots=True)
class Session:
    """A browser's session."""

    identity: Identity
    csrf_token: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class ApiToken:
    """A machine's token; the secret itself was shown once, when it was made."""

    id: int
    username: str
    name: str
    scopes: tuple[str, ...]
    created_at: datetime
    expires_at: datetime | None
    used_at: datetime | None
    revoked_at: datetime | None


def secret_hash(secret: str) -> str:
    """How a session or token is stored; they are random, a fast hash will do."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


_IDENTITY = tuple(users.c[name] for name in ("id", *Identity.__slots__[1:]))


def _identity(row: Sequence[Any]) -> Identity:
    return Identity(*row[: len(_IDENTITY)])


class Access:
    """Reads and changes logins, sessions and tokens. Every method may raise StoreError."""

    def __init__(self, database: Database, now: Callable[[], datetime]) -> None:
        self._database = database
        self._now = now

    # -- passwords ---------------------------------------------------------------------------------------------------

    async def set_password(self, username: str, password_hash: str | None, *, by: str) -> None:
        """Set (None: take away) the password for the web; sessions end, a lock is lifted. Raises NotFound."""

        def work(connection: Connection) -> None:
            set_password(connection, username, password_hash, self._now(), by)

        await self._database.write(work)

    async def login(self, username: str) -> Login | None:
        """What to check a login against; None when the user is unknown or has no password."""
        query = select(*_IDENTITY, web_logins.c.password_hash, web_logins.c.failures, web_logins.c.locked_until).join(
            web_logins, web_logins.c.user_id == users.c.id
        )
        query = query.where(users.c.username == username)
        row = await self._database.read(lambda connection: connection.execute(query).first())
        return Login(_identity(row), *row[len(_IDENTITY) :]) if row is not None else None

    async def login_failed(self, identity: Identity, source: str) -> datetime | None:
        """Count a wrong password; gives until when the user is locked, if that was one too many."""

        def work(connection: Connection) -> datetime | None:
            now = self._now()
            mine = web_logins.c.user_id == identity.user_id
            connection.execute(update(web_logins).where(mine).values(failures=web_logins.c.failures + 1))
            failures = connection.execute(select(web_logins.c.failures).where(mine)).scalar() or 0
            if failures < LOCK_AFTER:
                return None
            until = now + LOCK_FOR
            connection.execute(update(web_logins).where(mine).values(failures=0, locked_until=until))
            change = Change(source, "login.locked", identity.username, after={"until": until, "failures": failures})
            audit.append(connection, identity.organization, now, change)
            return until

        return await self._database.write(work)

    # -- sessions ----------------------------------------------------------------------------------------------------

    async def open_session(
        self, identity: Identity, secret: str, csrf_token: str, lifetime: timedelta, source: str
    ) -> None:
        """A login succeeded."""

        def work(connection: Connection) -> None:
            now = self._now()
            connection.execute(delete(web_sessions).where(web_sessions.c.expires_at <= now))
            mine = web_logins.c.user_id == identity.user_id
            connection.execute(update(web_logins).where(mine).values(failures=0, locked_until=None))
            row = {
                "token_hash": secret_hash(secret), "user_id": identity.user_id, "csrf_token": csrf_token,
                "created_at": now, "seen_at": now, "expires_at": now + lifetime,
            }  # fmt: skip
            connection.execute(insert(web_sessions), row)
            change = Change(identity.username, "login", identity.username, after={"from": source})
            audit.append(connection, identity.organization, now, change)

        await self._database.write(work)

    async def session(self, secret: str, idle: timedelta) -> Session | None:
        """The session of a secret, if it has neither expired nor been idle for longer than ``idle``, and the user is
        enabled."""
        key = secret_hash(secret)
        columns = (web_sessions.c.csrf_token, web_sessions.c.expires_at, web_sessions.c.seen_at)
        query = select(*_IDENTITY, *columns).join(web_sessions, web_sessions.c.user_id == users.c.id)
        query = query.where(web_sessions.c.token_hash == key, users.c.enabled)
        row = await self._database.read(lambda connection: connection.execute(query).first())
        now = self._now()
        if row is None or row.expires_at <= now or row.seen_at + idle <= now:
            return None
        if row.seen_at + SEEN_EVERY <= now:
            seen = update(web_sessions).where(web_sessions.c.token_hash == key).values(seen_at=now)
            await self._database.write(lambda connection: connection.execute(seen))
        return Session(_identity(row), row.csrf_token, row.expires_at)

    async def close_session(self, secret: str) -> None:
        """Log out. Nothing happens when there is no such session."""
        statement = delete(web_sessions).where(web_sessions.c.token_hash == secret_hash(secret))
        await self._database.write(lambda connection: connection.execute(statement))

    # -- tokens ------------------------------------------------------------------------------------------------------

    async def add_token(
        self, identity: Identity, name: str, secret: str, scopes: Sequence[str], expires_at: datetime | None
    ) -> ApiToken:
        """Store a new token of a user."""

        def work(connection: Connection) -> ApiToken:
            now = self._now()
            row = {
                "user_id": identity.user_id, "name": name, "token_hash": secret_hash(secret),
                "scopes": sorted(scopes), "created_at": now, "expires_at": expires_at,
            }  # fmt: skip
            key = connection.execute(insert(api_tokens).values(row)).inserted_primary_key
            assert key is not None
            after = {"name": name, "scopes": sorted(scopes), "expires_at": expires_at}
            audit.append(
                connection, identity.organization, now,
                Change(identity.username, "token.add", f"token {key[0]}", after=after),
            )  # fmt: skip
            return ApiToken(key[0], identity.username, name, tuple(sorted(scopes)), now, expires_at, None, None)

        return await self._database.write(work)

    async def tokens(self, user_id: int) -> list[ApiToken]:
        """The tokens of a user, revoked ones included, the newest first."""
        query = _TOKEN.where(api_tokens.c.user_id == user_id).order_by(api_tokens.c.id.desc())
        rows = await self._database.read(lambda connection: connection.execute(query).all())
        return [_token(row) for row in rows]

    async def revoke_token(self, identity: Identity, token_id: int) -> None:
        """A token of this user is good no more, from now on. Raises NotFound."""

        def work(connection: Connection) -> None:
            mine = (api_tokens.c.id == token_id, api_tokens.c.user_id == identity.user_id)
            revoked = update(api_tokens).where(*mine, api_tokens.c.revoked_at.is_(None)).values(revoked_at=self._now())
            if connection.execute(revoked).rowcount != 1:
                if connection.execute(select(api_tokens.c.id).where(*mine)).first() is None:
                    raise NotFound(f"there is no token {token_id}")
                return
            change = Change(identity.username, "token.revoke", f"token {token_id}")
            audit.append(connection, identity.organization, self._now(), change)

        await self._database.write(work)

    async def token(self, secret: str) -> tuple[Identity, frozenset[str]] | None:
        """Whose token it is, and its scopes; None when unknown, expired, revoked, or its user disabled."""
        query = select(*_IDENTITY, api_tokens.c.id, api_tokens.c.scopes, api_tokens.c.expires_at, api_tokens.c.used_at)
        query = query.join(api_tokens, api_tokens.c.user_id == users.c.id)
        query = query.where(api_tokens.c.token_hash == secret_hash(secret), api_tokens.c.revoked_at.is_(None))
        row = await self._database.read(lambda connection: connection.execute(query.where(users.c.enabled)).first())
        now = self._now()
        if row is None or (row.expires_at is not None and row.expires_at <= now):
            return None
        if row.used_at is None or row.used_at + SEEN_EVERY <= now:
            used = update(api_tokens).where(api_tokens.c.id == row[len(_IDENTITY)]).values(used_at=now)
            await self._database.write(lambda connection: connection.execute(used))
        return _identity(row), frozenset(row.scopes)


_TOKEN = select(
    api_tokens.c.id,
    users.c.username,
    *(api_tokens.c[name] for name in ApiToken.__slots__[2:]),
).join(users, users.c.id == api_tokens.c.user_id)


def _token(row: Row[Any]) -> ApiToken:
    values = dict(zip(ApiToken.__slots__, row, strict=True))
    values["scopes"] = tuple(values["scopes"])
    return ApiToken(**values)


def set_password(connection: Connection, username: str, password_hash: str | None, now: datetime, by: str) -> None:
    """See ``Access.set_password``; in the running transaction."""
    found = connection.execute(select(users.c.id, users.c.organization).where(users.c.username == username)).first()
    if found is None:
        raise NotFound(f"there is no user {username}")
    connection.execute(delete(web_sessions).where(web_sessions.c.user_id == found.id))
    connection.execute(delete(web_logins).where(web_logins.c.user_id == found.id))
    if password_hash is not None:
        row = {"user_id": found.id, "password_hash": password_hash, "changed_at": now, "failures": 0}
        connection.execute(insert(web_logins), row)
    action = "user.password" if password_hash is not None else "user.password.remove"
    audit.append(connection, found.organization, now, Change(by, action, username))
