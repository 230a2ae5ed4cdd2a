"""Migrations, and databases that can't be used."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, text

from gateway.store import migrations
from gateway.store.database import Database, _parse
from gateway.store.errors import SchemaTooNew, StoreError
from gateway.store.store import Store
from gateway.store.tables import metadata
from tests.support.store_records import sqlite_url


async def test_migrations_make_the_tables_from_nothing(database_url: str) -> None:
    database = await Database.open(database_url)
    difference = await database.read(
        lambda connection: compare_metadata(MigrationContext.configure(connection), metadata)
    )
    assert difference == []
    assert await database.read(migrations.current) == migrations.HEAD
    await database.close()


def test_head_is_the_newest_migration() -> None:
    script = ScriptDirectory(str(Path(migrations.__file__).parent))
    assert script.get_heads() == [migrations.HEAD]


async def test_opening_again_keeps_what_is_there(database_url: str) -> None:
    for slugs in (["a"], ["a", "b"]):
        store = await Store.open(database_url)
        await store.accounts.add_organization(slugs[-1])
        assert [o.slug for o in await store.accounts.organizations()] == slugs
        await store.close()


async def test_two_openings_at_once_migrate_once(database_url: str) -> None:
    stores = await asyncio.gather(*(Store.open(database_url) for _ in range(4)))
    assert [await store.accounts.organizations() for store in stores] == [[]] * 4
    for store in stores:
        await store.close()


async def test_newer_schema_is_refused_and_left_alone(database_url: str) -> None:
    database = await Database.open(database_url)
    newer = text("UPDATE alembic_version SET version_num = '9999'")
    await database.write(lambda connection: connection.execute(newer))
    with pytest.raises(SchemaTooNew, match=r": its schema is version 9999, this program knows up to"):
        await Store.open(database_url)
    assert await database.read(migrations.current) == "9999"
    await database.close()


async def test_a_directory_is_made_on_the_way(tmp_path: Path) -> None:
    await (await Store.open(sqlite_url(tmp_path / "made" / "on the way" / "x.db"))).close()
    assert (tmp_path / "made" / "on the way" / "x.db").exists()


async def test_first_schema_is_brought_up_with_what_is_in_it(database_url: str) -> None:
    engine = create_engine(_parse(database_url))
    with engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", str(Path(migrations.__file__).parent))
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        connection.execute(text("INSERT INTO organizations VALUES ('acme', 'Acme', '2026-01-01 00:00:00')"))
        connection.execute(
            text("INSERT INTO users (username, organization, display_name, role, enabled, created_at)"
                 " VALUES ('alice', 'acme', '', 'agent', true, '2026-01-01 00:00:00')")
        )  # fmt: skip
    engine.dispose()
    store = await Store.open(database_url)
    assert not (await store.accounts.user("alice")).admin_rights
    await store.accounts.change_user("alice", role="manager", admin_rights=True)
    assert await store.audit.verify("acme") is None
    await store.close()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("nonsense", "not a database URL"),
        ("sqlite+aiosqlite://", "SQLite needs a file"),
        ("sqlite+aiosqlite:///:memory:", "SQLite needs a file"),
        ("mysql://host/db", "no support for mysql"),
    ],
)
async def test_url_that_can_not_be_used(url: str, said: str) -> None:
    with pytest.raises(StoreError, match=said):
        await Store.open(url)


async def test_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    path.write_bytes(b"this is not a database" * 100)
    with pytest.raises(StoreError, match=r"x\.db: .*not a database"):
        await Store.open(sqlite_url(path))


async def test_directory_that_can_not_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="file"):
        await Store.open(sqlite_url(tmp_path / "file" / "sub" / "x.db"))


async def test_commits_survive_power_loss_and_readers_do_not_wait(tmp_path: Path) -> None:
    database = await Database.open(sqlite_url(tmp_path / "x.db"))

    def pragma(name: str) -> object:
        with database.writer() as connection:
            return connection.exec_driver_sql(f"PRAGMA {name}").scalar()

    assert (pragma("journal_mode"), pragma("synchronous"), pragma("foreign_keys")) == ("wal", 2, 1)
    await database.close()
