"""Who may do what: one table, asked by the API for every route and by the page for every tab."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from gateway.store.access import Identity


class Scope(StrEnum):
    """One permission; roles have some of them, an API token has some of its user's."""

    CALLS_READ = "calls:read"
    CALLS_CONTROL = "calls:control"
    """Pause the capture of a live call, and resume it."""
    RECORDINGS_READ = "recordings:read"
    POLICY_READ = "policy:read"
    POLICY_WRITE = "policy:write"
    RECORDING_ENABLE = "recording:enable"
    """Switch ``recording_enabled`` on again."""
    JURISDICTIONS_READ = "jurisdictions:read"
    LISTS_READ = "lists:read"
    LISTS_WRITE = "lists:write"
    USERS_READ = "users:read"
    USERS_WRITE = "users:write"
    AUDIT_READ = "audit:read"


_AGENT = {Scope.CALLS_READ, Scope.CALLS_CONTROL, Scope.RECORDINGS_READ, Scope.JURISDICTIONS_READ}
_MANAGER = _AGENT | {Scope.LISTS_READ, Scope.LISTS_WRITE}
_ADMIN = set(Scope) - {Scope.RECORDING_ENABLE}
_SUPPORT = {Scope.CALLS_READ, Scope.JURISDICTIONS_READ, Scope.RECORDING_ENABLE, Scope.AUDIT_READ, Scope.USERS_READ}

ROLE_SCOPES: dict[str, frozenset[Scope]] = {
    "agent": frozenset(_AGENT),
    "manager": frozenset(_MANAGER),
    "admin": frozenset(_ADMIN),
    "support": frozenset(_SUPPORT),
}
"""By role; a manager with admin rights has the admin's."""


def is_admin(identity: Identity) -> bool:
    """An admin, or a manager who has admin rights."""
    return identity.role == "admin" or (identity.role == "manager" and identity.admin_rights)


def scopes_of(identity: Identity) -> frozenset[Scope]:
    """What a user may do, in their own organization alone."""
    return ROLE_SCOPES["admin"] if is_admin(identity) else ROLE_SCOPES.get(identity.role, frozenset())


@dataclass(frozen=True, slots=True)
class Principal:
    """Who makes a request: a user in a browser's session, or one of their API tokens."""

    identity: Identity
    scopes: frozenset[Scope]
    csrf_token: str | None = None
    """Of a session; None for a token, which no browser sends by itself."""

    @property
    def organization(self) -> str:
        return self.identity.organization

    @property
    def actor(self) -> str:
        """As the audit log names them."""
        return self.identity.username

    @property
    def own_only(self) -> str | None:
        """The user whose calls alone may be seen; None: all of the organization."""
        return self.identity.username if self.identity.role == "agent" else None

    def may(self, scope: Scope) -> bool:
        return scope in self.scopes


def roles_to_give(identity: Identity) -> frozenset[str]:
    """The roles that a user may give and take, and whose holders they may change.

    Nobody makes themselves more than they are: a manager with admin rights makes no admins. Support is the operator's:
    it is given by the command line, for it lifts what an admin must not lift alone.
    """
    if identity.role == "admin":
        return frozenset({"agent", "manager", "admin"})
    return frozenset({"agent", "manager"}) if is_admin(identity) else frozenset()
