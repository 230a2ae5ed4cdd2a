"""What tests of several directories share: databases of both kinds."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.postgres import Postgres
from tests.support.store_records import sqlite_url

os.environ.pop("COLUMNS", None)  # a test says for itself how wide its terminal is

if _worker := re.fullmatch(r"gw(\d+)", os.environ.get("PYTEST_XDIST_WORKER", "")):
    # Gateways that run side by side give no port to one that the other's far ends may still send to.
    _lowest = 20000 + int(_worker[1]) % 4 * 2500
    os.environ["TWOPARTY_MEDIA__PORT_MIN"], os.environ["TWOPARTY_MEDIA__PORT_MAX"] = str(_lowest), str(_lowest + 2499)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A server for the whole run, started by the first test that asks for it."""
    with Postgres() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A new, empty database: each test that asks for it runs on both kinds."""
    if request.param == "sqlite":
        yield sqlite_url(tmp_path / "store.db")
        return
    server: Postgres = request.getfixturevalue("postgres")
    url = server.new_database()
    yield url
    server.drop(url)
