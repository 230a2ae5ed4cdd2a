"""What call setup reads: remembered, forgotten in time, and never too permissive."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from sqlalchemy import Connection, insert

from gateway.store.accounts import Ha1
from gateway.store.database import Database
from gateway.store.directory import Directory, Remembered
from gateway.store.errors import StoreError
from gateway.store.store import Store
from gateway.store.tables import policies
from tests.support.store_records import NOW

HA1 = Ha1("twoparty", "a" * 32, "b" * 64)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Counted(Database):
    """A database that counts the round trips, and fails when told to."""

    reads = 0
    fail = False

    async def read_for_setup(self, work: Callable[[Connection], Any]) -> Any:
        self.reads += 1
        if self.fail:
            raise StoreError("database: gone")
        return await super().read_for_setup(work)


@pytest.fixture
async def database(database_url: str, store: Store) -> AsyncIterator[Counted]:
    """The database of ``store`` again, as another process has it."""
    opened = await Counted.open(database_url)
    assert isinstance(opened, Counted)
    yield opened
    await opened.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def directory(database: Counted, clock: Clock) -> Directory:
    return Directory(database, clock=clock)


async def _fill_list(store: Store, number: str, state: str) -> None:
    await store.lists.store("acme", io.StringIO(f"{number}\t{state}\n"), replace=False, progress=lambda _: None)


async def _all(directory: Directory) -> tuple[object, ...]:
    return (
        await directory.credential("alice"),
        await directory.agent("alice"),
        await directory.agent("nobody"),
        await directory.agent_by_did("603 555 0199"),
        (await directory.policy("acme")).version,
        await directory.prospect_state("acme", "6035550100"),
        await directory.prospect_state("acme", "6035550101"),
    )


async def test_everything_is_found(store: Store, directory: Directory) -> None:
    user = await store.accounts.add_user(
        "alice", "acme", credential=HA1, numbers=["+16035550199"], country="US", state="US-NH", display_name="Alice A."
    )
    await _fill_list(store, "+16035550100", "US-NH")
    credential, agent, nobody, by_did, version, state, no_state = await _all(directory)
    assert agent == by_did == user.agent
    assert nobody is None
    assert (version, state, no_state) == (0, "US-NH", None)
    assert credential is not None
    assert (credential.agent, credential.realm, credential.ha1_md5, credential.ha1_sha256) == (  # type: ignore[attr-defined]
        user.agent,
        HA1.realm,
        HA1.md5,
        HA1.sha256,
    )


@pytest.mark.parametrize("written", ["+16035550199", "16035550199", "6035550199", "(603) 555-0199", "1-603-555-0199"])
async def test_did_in_any_writing(store: Store, directory: Directory, written: str) -> None:
    await store.accounts.add_user("alice", "acme", numbers=["603.555.0199"])
    found = await directory.agent_by_did(written)
    assert found is not None
    assert found.username == "alice"


@pytest.mark.parametrize("written", ["", "alice", "911", "0", "+", "603555019", "\udce9", "x" * 5000])
async def test_what_is_no_number_is_nobodys(store: Store, directory: Directory, written: str) -> None:
    assert await directory.agent_by_did(written) is None
    assert await directory.prospect_state("acme", written) is None


@pytest.mark.parametrize("written", ["+49 30 90182010", "+493090182010", "493090182010", "011 49 30 90182010"])
async def test_foreign_did(store: Store, directory: Directory, written: str) -> None:
    await store.accounts.add_user("otto", "acme", numbers=["+493090182010"])
    found = await directory.agent_by_did(written)
    assert found is not None
    assert found.username == "otto"


async def test_steady_state_costs_no_round_trip(store: Store, directory: Directory, database: Counted) -> None:
    await store.accounts.add_user("alice", "acme", credential=HA1, numbers=["+16035550199"])
    await _fill_list(store, "+16035550100", "US-NH")
    first = await _all(directory)
    before = database.reads
    for _ in range(3):
        assert await _all(directory) == first
    assert database.reads == before


async def test_without_a_list_no_number_is_looked_up(store: Store, directory: Directory, database: Counted) -> None:
    await directory.prospect_state("acme", "6035550100")
    before = database.reads
    for i in range(100, 200):
        assert await directory.prospect_state("acme", f"6035550{i}") is None
    assert database.reads == before


async def test_change_by_another_process_is_seen_after_a_second(
    store: Store, directory: Directory, database: Counted, clock: Clock
) -> None:
    await store.accounts.add_user("alice", "acme", credential=HA1, state="US-NH")
    await _fill_list(store, "+16035550100", "US-NH")
    await _all(directory)
    await store.accounts.change_user("alice", state="US-MA", credential=Ha1("twoparty", "c" * 32, "d" * 64))
    await _fill_list(store, "+16035550100", "US-CA")
    clock.now = 0.99
    agent = await directory.agent("alice")
    assert agent is not None
    assert agent.state == "US-NH"
    clock.now = 1.0
    agent, credential = await directory.agent("alice"), await directory.credential("alice")
    assert agent is not None
    assert credential is not None
    assert (agent.state, credential.ha1_md5, credential.agent) == ("US-MA", "c" * 32, agent)
    assert await directory.prospect_state("acme", "6035550100") == "US-CA"


async def test_disabled_agent_is_none_but_its_credential_says_so(store: Store, directory: Directory) -> None:
    await store.accounts.add_user("alice", "acme", credential=HA1, numbers=["6035550199"], enabled=False)
    assert await directory.agent("alice") is None
    assert await directory.agent_by_did("6035550199") is None
    credential = await directory.credential("alice")
    assert credential is not None
    assert not credential.agent.enabled


async def test_user_without_password_has_no_credential(store: Store, directory: Directory) -> None:
    await store.accounts.add_user("alice", "acme")
    assert await directory.credential("alice") is None


async def test_unreadable_database_keeps_agents_and_forgets_permissions(
    store: Store, directory: Directory, database: Counted, clock: Clock
) -> None:
    await store.accounts.add_user("alice", "acme", credential=HA1)
    await _fill_list(store, "+16035550100", "US-NH")
    before = await _all(directory)
    database.fail = True
    clock.now = 5.0
    assert await directory.agent("alice") == before[1]
    assert await directory.credential("alice") == before[0]
    with pytest.raises(StoreError, match="gone"):
        await directory.policy("acme")
    with pytest.raises(StoreError, match="gone"):
        await directory.prospect_state("acme", "6035550100")
    database.fail = False
    clock.now = 6.0
    assert await _all(directory) == before


async def test_policy_that_can_not_be_understood_is_an_error(store: Store, directory: Directory) -> None:
    row = {
        "organization": "acme",
        "version": 1,
        "settings": {"no_such_setting": 1},
        "created_at": NOW,
        "created_by": "test",
    }
    await store._database.write(lambda connection: connection.execute(insert(policies), row))
    with pytest.raises(StoreError, match="policy version 1 of acme can't be understood"):
        await directory.policy("acme")


async def test_memory_is_bounded(store: Store, database: Counted) -> None:
    directory = Directory(database, clock=Clock(), size=10)
    for i in range(100):
        await directory.agent(f"user{i}")
    assert len(directory._agents) == 10


def test_least_recently_used_goes_first() -> None:
    memory: Remembered[str, int] = Remembered(2)
    memory.put("a", 1, 0)
    memory.put("b", 2, 0)
    assert memory.get("a") == 1
    memory.put("c", 3, 0)
    assert ("a" in memory, "b" in memory, "c" in memory) == (True, False, True)


def test_what_was_read_before_a_change_is_not_kept() -> None:
    memory: Remembered[str, int] = Remembered(2)
    generation = memory.generation
    memory.clear()
    memory.put("a", 1, generation)
    assert "a" not in memory
