"""An application on a new database with people of two organizations."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.store_records import sqlite_url
from tests.support.web_client import Site, make_site


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """On SQLite."""
    made = await make_site(sqlite_url(tmp_path / "web.db"), tmp_path / "recordings")
    yield made
    await made.close()


@pytest.fixture
async def site_on_both(database_url: str, tmp_path: Path) -> AsyncIterator[Site]:
    """On SQLite and PostgreSQL in turn."""
    made = await make_site(database_url, tmp_path / "recordings")
    yield made
    await made.close()
