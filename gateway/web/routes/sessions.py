"""Sessions of browsers, and API tokens of machines."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request, Response
from pydantic import BaseModel, Field

from gateway.store.access import ApiToken
from gateway.web.auth import (
    COOKIE,
    Current,
    WebDep,
    hashed,
    identity_view,
    log_in,
    new_token,
    same_origin,
    session_only,
    verified,
)
from gateway.web.context import Web
from gateway.web.passwords import WeakPassword
from gateway.web.problems import Problem, responses
from gateway.web.roles import Principal, Scope
from gateway.web.types import Moment, Secret, Text

router = APIRouter(tags=["sessions and tokens"])


class Credentials(BaseModel):
    """A login."""

    username: Text
    password: Secret


class Me(BaseModel):
    """Who is logged in, and what they may do."""

    username: str
    display_name: str
    organization: str
    role: str
    admin_rights: bool
    scopes: list[Scope]
    csrf_token: str | None = Field(description="To be sent as X-CSRF-Token with each request that changes something")
    recording_enabled: bool | None = Field(default=None, description="Of the organization; null: can't be told")


async def me(web: Web, principal: Principal) -> Me:
    """The principal as they see themselves."""
    try:
        enabled: bool | None = (await web.store.policies.current(principal.organization)).policy.recording_enabled
    except Exception:
        enabled = None
    about: dict[str, Any] = identity_view(principal.identity)
    return Me(**about, scopes=sorted(principal.scopes), csrf_token=principal.csrf_token, recording_enabled=enabled)


def set_cookie(response: Response, request: Request, web: Web, secret: str) -> None:
    """The session's cookie: not for scripts, not from other sites, and over TLS alone (on loopback also without)."""
    response.set_cookie(
        COOKIE, secret, max_age=int(web.session_lifetime.total_seconds()), path="/", httponly=True, samesite="lax",
        secure=web.secure_cookies or request.url.scheme == "https",
    )  # fmt: skip


@router.post("/session", responses=responses(), operation_id="log_in")
async def open_session(request: Request, response: Response, web: WebDep, given: Credentials) -> Me:
    """Log in. The session is in a cookie; the answer has the CSRF token that goes with it."""
    from gateway.web.roles import scopes_of

    if not same_origin(request):
        raise Problem(403, "the request comes from another site")
    source = request.client.host if request.client else "unknown"
    secret, session = await log_in(web, given.username, given.password, source)
    set_cookie(response, request, web, secret)
    return await me(web, Principal(session.identity, scopes_of(session.identity), session.csrf_token))


@router.get("/session", responses=responses(), operation_id="who_am_i")
async def read_session(web: WebDep, principal: Current) -> Me:
    """Who makes this request, and what they may do."""
    return await me(web, principal)


@router.delete("/session", status_code=204, responses=responses(), operation_id="log_out")
async def close_session(
    request: Request, web: WebDep, principal: Annotated[Principal, Depends(session_only)]
) -> Response:
    """Log out."""
    await web.store.access.close_session(request.cookies[COOKIE])
    answer = Response(status_code=204)
    answer.delete_cookie(COOKIE, path="/")
    return answer


class NewPassword(BaseModel):
    """A change of one's own password."""

    current: Secret
    new: Secret


@router.put("/session/password", status_code=204, responses=responses(), operation_id="change_password")
async def change_password(
    web: WebDep, principal: Annotated[Principal, Depends(session_only)], given: NewPassword
) -> Response:
    """Change one's own password for the web. All sessions end."""
    login = await web.store.access.login(principal.identity.username)
    if web.throttle.wait(f"password {principal.identity.username}") > 0:
        raise Problem(429, "too many attempts; wait", headers={"retry-after": "60"})
    if login is None or not await verified(login.password_hash, given.current):
        raise Problem(403, "the current password is wrong")
    try:
        made = await hashed(given.new, principal.identity.username)
    except WeakPassword as error:
        raise Problem(422, str(error)) from None
    await web.store.access.set_password(principal.identity.username, made, by=principal.actor)
    return Response(status_code=204)


class TokenView(BaseModel):
    """An API token; its secret is told once, when it is made."""

    id: int
    name: str
    scopes: list[str]
    created_at: datetime
    expires_at: datetime | None
    used_at: datetime | None
    revoked_at: datetime | None


class NewToken(BaseModel):
    """What a token is to be."""

    name: Text = Field(min_length=1)
    scopes: list[Scope] = Field(min_length=1, description="Those of its user at most")
    expires_at: Moment | None = None


class MadeToken(TokenView):
    """A token that was just made."""

    secret: str = Field(description="Send it as Authorization: Bearer; it is not told again")


def _view(token: ApiToken) -> dict[str, Any]:
    return {name: getattr(token, name) for name in TokenView.model_fields} | {"scopes": list(token.scopes)}


Session = Annotated[Principal, Depends(session_only)]


@router.get("/tokens", responses=responses(), operation_id="list_tokens")
async def list_tokens(web: WebDep, principal: Session) -> list[TokenView]:
    """One's own API tokens, the newest first."""
    return [TokenView(**_view(token)) for token in await web.store.access.tokens(principal.identity.user_id)]


@router.post("/tokens", status_code=201, responses=responses(), operation_id="make_token")
async def make_token(web: WebDep, principal: Session, given: NewToken) -> MadeToken:
    """Make an API token with some of one's own permissions."""
    if beyond := [scope for scope in given.scopes if not principal.may(scope)]:
        raise Problem(403, f"you do not have {', '.join(sorted(beyond))} yourself")
    if given.expires_at is not None and given.expires_at <= web.now():
        raise Problem(422, "expires_at: that time has passed")
    secret = new_token()
    token = await web.store.access.add_token(
        principal.identity, given.name, secret, sorted(set(given.scopes)), given.expires_at
    )
    return MadeToken(**_view(token), secret=secret)


@router.delete("/tokens/{token_id}", status_code=204, responses=responses(404), operation_id="revoke_token")
async def revoke_token(web: WebDep, principal: Session, token_id: Annotated[int, Path(ge=1, le=2**31 - 1)]) -> Response:
    """Revoke one of one's own tokens, from now on."""
    await web.store.access.revoke_token(principal.identity, token_id)
    return Response(status_code=204)
