"""Users of the organization and their roles."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field

from gateway.consent.places import parse_country, parse_state
from gateway.sip.digest import ha1
from gateway.store.accounts import Ha1, User
from gateway.web.auth import WebDep, hashed, need
from gateway.web.context import Web
from gateway.web.passwords import WeakPassword
from gateway.web.problems import Problem, responses
from gateway.web.roles import Principal, Scope, roles_to_give
from gateway.web.routes.policy import own_user
from gateway.web.types import Number, Secret, Text, Username, UsernamePath

router = APIRouter(tags=["users"])

Reader = Annotated[Principal, Depends(need(Scope.USERS_READ))]
Writer = Annotated[Principal, Depends(need(Scope.USERS_WRITE))]


class UserView(BaseModel):
    """A user. Country and state are the location that the consent decision needs."""

    username: str
    display_name: str
    role: str
    admin_rights: bool
    country: str | None
    state: str | None
    enabled: bool
    dids: list[str]
    sip_password: bool = Field(description="Has one, good for the realm of the settings")
    web_password: bool
    created_at: datetime


class UserChanges(BaseModel):
    """What is to change; what is left out stays."""

    display_name: Text | None = None
    role: Text | None = Field(default=None, examples=["agent"])
    admin_rights: bool | None = Field(default=None, description="Of a manager: may do what an admin may")
    country: Text | None = Field(default=None, description='ISO 3166, e.g. "US"; "" clears it')
    state: Text | None = Field(default=None, description='"NH", "US-NH" or "New Hampshire"; "" clears it')
    enabled: bool | None = None
    sip_password: Secret | None = Field(default=None, description="For a softphone; its digests alone are kept")
    web_password: Secret | None = Field(default=None, description='For the page; "" takes it away')
    add_dids: list[Number] = Field(default=[], max_length=100, description="Numbers that ring here")
    remove_dids: list[Number] = Field(default=[], max_length=100)


class NewUser(UserChanges):
    """A user to be made."""

    username: Username


def view(user: User, web: Web) -> UserView:
    """A user for the API."""
    agent = user.agent
    return UserView(
        username=agent.username, display_name=agent.display_name, role=user.role, admin_rights=user.admin_rights,
        country=agent.country, state=agent.state, enabled=agent.enabled, dids=list(user.dids),
        sip_password=user.realm == web.realm, web_password=user.web_login, created_at=user.created_at,
    )  # fmt: skip


@router.get("/users", responses=responses(), operation_id="list_users")
async def list_users(web: WebDep, principal: Reader) -> list[UserView]:
    """The users of the organization, by name."""
    return [view(user, web) for user in await web.store.accounts.users(principal.organization)]


@router.get("/users/{username}", responses=responses(404), operation_id="read_user")
async def read_user(web: WebDep, principal: Reader, username: UsernamePath) -> UserView:
    """One user."""
    return view(await own_user(web, principal, username), web)


@router.post("/users", status_code=201, responses=responses(409), operation_id="add_user")
async def add_user(web: WebDep, principal: Writer, given: NewUser) -> UserView:
    """Add a user to the organization. Without country or state fewer calls are recorded."""
    return view(await add(web, principal, given), web)


@router.patch("/users/{username}", responses=responses(404, 409), operation_id="change_user")
async def patch_user(web: WebDep, principal: Writer, username: UsernamePath, given: UserChanges) -> UserView:
    """Change a user. Disabling one ends their sessions and their tokens' use; live calls go on."""
    return view(await change(web, principal, username, given), web)


async def add(web: Web, principal: Principal, given: NewUser) -> User:
    """See ``add_user``; for API and page alike."""
    _may_give(principal, given.role or "agent", given.admin_rights)
    if given.remove_dids:
        raise Problem(422, "remove_dids: a new user has none")
    return await web.store.accounts.add_user(
        given.username, principal.organization,
        credential=_credential(web, given.username, given.sip_password), numbers=given.add_dids,
        password_hash=await _web_password(given.username, given.web_password), by=principal.actor,
        **_profile(given, None),
    )  # fmt: skip


async def change(web: Web, principal: Principal, username: str, given: UserChanges) -> User:
    """See ``patch_user``; for API and page alike."""
    user = await own_user(web, principal, username)
    if user.role not in roles_to_give(principal.identity):
        raise Problem(403, f"a user with the role {user.role} is not yours to change")
    if user.admin_rights and principal.identity.role != "admin":
        raise Problem(403, "a manager with admin rights is changed by an admin")
    _may_give(principal, given.role or user.role, given.admin_rights)
    if username == principal.identity.username and (given.enabled is False or given.role not in (None, user.role)):
        raise Problem(409, "nobody disables themselves or changes their own role")
    password = await _web_password(username, given.web_password)
    changed: User = await web.store.accounts.change_user(
        username, credential=_credential(web, username, given.sip_password), add_numbers=given.add_dids,
        remove_numbers=given.remove_dids, by=principal.actor, **_profile(given, user),
    )  # fmt: skip
    if given.web_password is not None:
        await web.store.access.set_password(username, password, by=principal.actor)
        changed = await web.store.accounts.user(username)
    return changed


def _may_give(principal: Principal, role: str, admin_rights: bool | None) -> None:
    if role not in ("agent", "manager", "admin", "support"):
        raise Problem(422, f"role: {role!r} is none of agent, manager, admin, support")
    if role not in roles_to_give(principal.identity):
        hint = " (the operator does, on the command line)" if role == "support" else ""
        raise Problem(403, f"the role {role} is not yours to give{hint}")
    if admin_rights and principal.identity.role != "admin":
        raise Problem(403, "admin rights are given by an admin")
    if admin_rights and role != "manager":
        raise Problem(422, "admin_rights: these are a manager's")


def _profile(given: UserChanges, current: User | None) -> dict[str, Any]:
    """The fields that were given, checked and in the forms that are stored."""
    profile: dict[str, Any] = {}
    if given.display_name is not None:
        profile["display_name"] = given.display_name
    if given.role is not None:
        profile["role"] = given.role
    if given.admin_rights is not None:
        profile["admin_rights"] = given.admin_rights
    elif given.role not in (None, "manager"):
        profile["admin_rights"] = False
    if given.enabled is not None:
        profile["enabled"] = given.enabled
    if given.country is not None:
        profile["country"] = _country(given.country)
    if given.state is not None:
        profile["state"] = _state(given.state)
    _agree(profile, current)
    return profile


def _country(text: str) -> str | None:
    if not text:
        return None
    code, region = parse_country(text)
    if code is None or region is not None:
        raise Problem(422, f"country: {text!r} is not an ISO 3166 country code such as US")
    return code


def _state(text: str) -> str | None:
    if not text:
        return None
    code = parse_state(text)
    if code is None:
        raise Problem(422, f"state: {text!r} is not a US state or territory, DC or a Canadian province")
    return code


def _agree(profile: dict[str, Any], current: User | None) -> None:
    """A state lies in its country; where no country was ever said, the state says it."""
    before = current.agent if current is not None else None
    state = profile.get("state", before.state if before is not None else None)
    country = profile.get("country", before.country if before is not None else None)
    if state and country is None and "country" not in profile:
        profile["country"] = state[:2]
    elif state and country != state[:2]:
        raise Problem(422, f"state: {state} is not in {country or 'no country'}")


def _credential(web: Web, username: str, password: str | None) -> Ha1 | None:
    if password is None:
        return None
    if len(password) < 8:
        raise Problem(422, "sip_password: at least 8 characters")
    return Ha1(web.realm, ha1(username, web.realm, password, "MD5"), ha1(username, web.realm, password, "SHA-256"))


async def _web_password(username: str, password: str | None) -> str | None:
    if not password:
        return None
    try:
        return await hashed(password, username)
    except WeakPassword as error:
        raise Problem(422, f"web_password: {error}") from None
