"""What call setup reads: agents, credentials, policies, list states; remembered until somebody changes them."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Generic, TypeVar

import structlog
from sqlalchemy import Connection, Select, bindparam, select

from gateway.store import changes
from gateway.store.database import Database
from gateway.store.errors import StoreError
from gateway.store.numbers import e164
from gateway.store.policies import latest
from gateway.store.records import Agent, OrganizationPolicy, SipCredential
from gateway.store.tables import dialing_list, dids, sip_credentials, users

log = structlog.get_logger("store")

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

CHECK_SECONDS = 1.0
"""How long a change made by another process may go unseen."""


class Remembered(Generic[K, V]):
    """A bounded memory of the most recently used, which forgets all at once.

    What was read before a ``clear`` and arrives after it is not kept: it may be the old value.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._items: OrderedDict[K, V] = OrderedDict()
        self.generation = 0

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, key: K) -> bool:
        return key in self._items

    def get(self, key: K) -> V:
        """Raises KeyError."""
        value = self._items[key]
        self._items.move_to_end(key)
        return value

    def put(self, key: K, value: V, generation: int) -> None:
        if generation != self.generation:
            return
        self._items[key] = value
        if len(self._items) > self._size:
            self._items.popitem(last=False)

    def clear(self) -> None:
        self._items.clear()
        self.generation += 1


class Directory:
    """Reads for call setup. Every method may raise StoreError when the database can't be read.

    Changes made by this or another process are seen within ``CHECK_SECONDS``. While the database can't be read,
    agents and credentials that are remembered stay good, so that calls go on; policies and list states do not,
    so that nothing is recorded on an old permission.
    """

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.monotonic, size: int = 16384) -> None:
        self._database = database
        self._clock = clock
        self._agents: Remembered[tuple[str, str], Any] = Remembered(size)
        self._permissions: Remembered[tuple[str, ...], Any] = Remembered(size)
        self._checked = float("-inf")
        self._counter: int | None = None

    async def credential(self, username: str) -> SipCredential | None:
        """The digest credential of a user name, also of a disabled agent (see ``agent.enabled``); None: has none."""
        found: SipCredential | None = await self._remember(
            self._agents, ("credential", username), lambda connection: _credential(connection, username)
        )
        return found

    async def agent(self, username: str) -> Agent | None:
        """The agent of that user name; None when there is none or it is disabled."""
        found: Agent | None = await self._remember(
            self._agents, ("agent", username), lambda connection: _agent(connection, _BY_NAME, username)
        )
        return found

    async def agent_by_did(self, number: str) -> Agent | None:
        """The agent whose DID ``number`` is, in any writing, with or without ``+``; None as for ``agent``."""
        key = e164(number)
        if key is None:
            return None
        found: Agent | None = await self._remember(
            self._agents, ("did", key), lambda connection: _agent(connection, _BY_DID, key)
        )
        return found

    async def policy(self, organization: str) -> OrganizationPolicy:
        """The policy in force, the defaults as version 0 where none was ever set. Raises StoreError, also for a
        stored policy that can't be understood."""
        found: OrganizationPolicy = await self._remember(
            self._permissions, ("policy", organization), lambda connection: latest(connection, organization)
        )
        return found

    async def prospect_state(self, organization: str, number: str) -> str | None:
        """What the organization's dialing list says of ``number`` (any writing): ISO 3166-2, or None."""
        key = e164(number)
        if key is None or not await self._has_list(organization):
            return None
        found: str | None = await self._remember(
            self._permissions, ("state", organization, key), lambda connection: _state(connection, organization, key)
        )
        return found

    async def refresh(self) -> None:
        """Look now whether anything was changed, by whomever; if so, ``generation`` goes up."""
        await self._check(self._clock())

    @property
    def generation(self) -> int:
        """Goes up whenever permissions are forgotten: what was read before may be out of date."""
        return self._permissions.generation

    async def _has_list(self, organization: str) -> bool:
        found: bool = await self._remember(
            self._permissions, ("list", organization), lambda connection: _any_state(connection, organization)
        )
        return found

    async def _remember(self, memory: Remembered[Any, Any], key: Hashable, read: Callable[[Connection], Any]) -> Any:
        now = self._clock()
        if now - self._checked >= CHECK_SECONDS:
            await self._check(now)
        try:
            return memory.get(key)
        except KeyError:
            pass
        generation = memory.generation
        value = await self._database.read_for_setup(read)
        memory.put(key, value, generation)
        return value

    async def _check(self, now: float) -> None:
        """Forget, when something was changed since the last look (or when it can't be told)."""
        self._checked = now
        try:
            counter = await self._database.read_for_setup(changes.counter)
        except StoreError as error:
            log.warning("store can't be read: known agents are kept, permissions to record are not", error=str(error))
            self._counter = None
            self._permissions.clear()
            return
        if counter != self._counter:
            self._counter = counter
            self._agents.clear()
            self._permissions.clear()


_AGENT = (
    users.c.id,
    users.c.username,
    users.c.organization,
    users.c.display_name,
    users.c.country,
    users.c.state,
    users.c.enabled,
)


def as_agent(row: Sequence[Any]) -> Agent:
    """An Agent of the columns of ``users`` that begin ``row``, in the order of Agent's fields."""
    return Agent(*row[: len(_AGENT)])


# Built once: to build a statement costs as much as to run it.
_BY_NAME = select(*_AGENT).where(users.c.enabled, users.c.username == bindparam("key"))
_BY_DID = (
    select(*_AGENT).join(dids, dids.c.user_id == users.c.id).where(users.c.enabled, dids.c.number == bindparam("key"))
)
_CREDENTIAL = (
    select(*_AGENT, sip_credentials.c.realm, sip_credentials.c.ha1_md5, sip_credentials.c.ha1_sha256)
    .join(sip_credentials, sip_credentials.c.user_id == users.c.id)
    .where(users.c.username == bindparam("key"))
)
_LISTED = dialing_list.c.organization == bindparam("organization")
_ANY_STATE = select(dialing_list.c.number).where(_LISTED).limit(1)
_STATE = select(dialing_list.c.state).where(_LISTED, dialing_list.c.number == bindparam("number"))


def _agent(connection: Connection, query: Select[Any], key: str) -> Agent | None:
    row = connection.execute(query, {"key": key}).first()
    return as_agent(tuple(row)) if row is not None else None


def _credential(connection: Connection, username: str) -> SipCredential | None:
    row = connection.execute(_CREDENTIAL, {"key": username}).first()
    return SipCredential(as_agent(tuple(row)), *row[len(_AGENT) :]) if row is not None else None


def _any_state(connection: Connection, organization: str) -> bool:
    return connection.execute(_ANY_STATE, {"organization": organization}).first() is not None


def _state(connection: Connection, organization: str, number: str) -> str | None:
    return connection.execute(_STATE, {"organization": organization, "number": number}).scalar()
