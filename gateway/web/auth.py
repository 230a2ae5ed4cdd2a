"""Who makes a request: sessions by cookie with a CSRF token, API tokens by ``Authorization: Bearer``."""

from __future__ import annotations

import asyncio
import hmac
import secrets
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request, Security
from fastapi.security import APIKeyCookie, APIKeyHeader, HTTPBearer
from fastapi.security.http import HTTPAuthorizationCredentials

from gateway.store.access import Identity, Session
from gateway.web.context import Web
from gateway.web.passwords import hash_password, verify_password
from gateway.web.problems import Problem
from gateway.web.roles import Principal, Scope, scopes_of

COOKIE = "twoparty_session"
CSRF_HEADER = "X-CSRF-Token"
TOKEN_PREFIX = "twp_"
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_HASHING = ThreadPoolExecutor(1, thread_name_prefix="argon2")  # one at a time: each takes 64 MiB and a core

_cookie = APIKeyCookie(name=COOKIE, auto_error=False, description="Of a session; made by POST /api/v1/session")
_csrf = APIKeyHeader(name=CSRF_HEADER, auto_error=False, description="Of a session, for requests that change something")
_bearer = HTTPBearer(auto_error=False, description="An API token; made by POST /api/v1/tokens")


def web_of(request: Request) -> Web:
    """The web that this request came to."""
    found: Web = request.app.state.web
    return found


WebDep = Annotated[Web, Depends(web_of)]


async def hashed(password: str, username: str) -> str:
    """``hash_password`` beside the event loop. Raises WeakPassword."""
    return await asyncio.get_running_loop().run_in_executor(_HASHING, hash_password, password, username)


async def verified(stored: str | None, password: str) -> bool:
    """``verify_password`` beside the event loop."""
    return await asyncio.get_running_loop().run_in_executor(_HASHING, verify_password, stored, password)


def same_origin(request: Request) -> bool:
    """Whether a browser says that the request comes from a page of this very host (or says nothing)."""
    origin = request.headers.get("origin")
    if not origin:
        return request.headers.get("sec-fetch-site", "none") in ("none", "same-origin")
    return urlsplit(origin).netloc == request.headers.get("host")


async def log_in(web: Web, username: str, password: str, source: str) -> tuple[str, Session]:
    """Check a password; gives the new session's secret and the session. Raises Problem 401 or 429.

    A wrong name, a wrong password and a disabled user are told alike, and take as long. Five wrong passwords in a row
    lock the user for 15 minutes; a source may try 20 times a minute.
    """
    wait = web.throttle.wait(source)
    if wait > 0:
        raise Problem(429, "too many attempts; wait", headers={"retry-after": str(int(wait) + 1)})
    login = await web.store.access.login(username)
    now = web.now()
    if login is not None and login.locked_until is not None and login.locked_until > now:
        await verified(None, password)
        raise _locked(login.locked_until, now)
    right = await verified(login.password_hash if login is not None else None, password)
    if login is None or not right or not login.identity.enabled:
        until = await web.store.access.login_failed(login.identity, source) if login is not None and not right else None
        if login is None and (seconds := web.strangers.wait(username)):
            until = now + timedelta(seconds=seconds)
        if until is not None:
            raise _locked(until, now)
        raise Problem(401, "user name or password is wrong")
    web.throttle.forgive(source)
    secret, csrf = secrets.token_urlsafe(32), secrets.token_urlsafe(24)
    await web.store.access.open_session(login.identity, secret, csrf, web.session_lifetime, source)
    return secret, Session(login.identity, csrf, now + web.session_lifetime)


def _locked(until: datetime, now: datetime) -> Problem:
    seconds = max(1, int((until - now).total_seconds()))
    return Problem(
        429, f"too many wrong passwords: locked for {max(1, round(seconds / 60))} minutes",
        headers={"retry-after": str(seconds)},
    )  # fmt: skip


async def principal_of_session(web: Web, secret: str | None) -> Principal | None:
    """Who a browser's cookie stands for; None: nobody (any more)."""
    if not secret:
        return None
    session = await web.store.access.session(secret, web.session_idle)
    if session is None:
        return None
    return Principal(session.identity, scopes_of(session.identity), session.csrf_token)


async def current(
    request: Request,
    web: WebDep,
    cookie: Annotated[str | None, Security(_cookie)] = None,
    csrf: Annotated[str | None, Security(_csrf)] = None,
    bearer: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)] = None,
) -> Principal:
    """Who makes the request. Raises Problem 401, or 403 where the CSRF token is missing."""
    if bearer is not None:
        found = await web.store.access.token(bearer.credentials)
        if found is None:
            raise Problem(401, "this token is not good (any more)", headers={"www-authenticate": "Bearer"})
        identity, scopes = found
        return Principal(identity, frozenset(scope for scope in scopes_of(identity) if scope in scopes))
    principal = await principal_of_session(web, cookie)
    if principal is None:
        raise Problem(401, "log in, or send an API token", headers={"www-authenticate": "Bearer"})
    if request.method not in _SAFE:
        if not same_origin(request):
            raise Problem(403, "the request comes from another site")
        if not csrf or not hmac.compare_digest(csrf.encode(), (principal.csrf_token or "").encode()):
            raise Problem(403, f"{CSRF_HEADER}: missing, or not that of the session")
    return principal


Current = Annotated[Principal, Depends(current)]


def need(scope: Scope) -> Callable[[Principal], Awaitable[Principal]]:
    """A dependency: the principal, who must have ``scope`` (403)."""

    async def check(principal: Current) -> Principal:
        if not principal.may(scope):
            raise Problem(403, f"this needs {scope}, which your role or token does not have")
        return principal

    return check


async def session_only(principal: Current) -> Principal:
    """A dependency: somebody in a browser's session; a token can't make tokens or change passwords."""
    if principal.csrf_token is None:
        raise Problem(403, "this needs a session; a token can't do it")
    return principal


def new_token() -> str:
    """The secret of an API token."""
    return TOKEN_PREFIX + secrets.token_urlsafe(32)


def identity_view(identity: Identity) -> dict[str, object]:
    """A user as they see themselves."""
    return {
        "username": identity.username,
        "display_name": identity.display_name,
        "organization": identity.organization,
        "role": identity.role,
        "admin_rights": identity.admin_rights,
    }
