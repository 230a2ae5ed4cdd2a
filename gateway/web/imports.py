"""Import of a dialing list in the worker process: checked to a spool file, then stored in one transaction."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from gateway.consent.places import parse_state
from gateway.store.errors import StoreError
from gateway.store.lists import check, spool_file
from gateway.store.store import Store


def import_list(
    store_url: str, organization: str, path: str, name: str, replace: bool, keep_good: bool, by: str
) -> dict[str, Any]:
    """Import the CSV file at ``path``; ``name`` is what messages call it. Raises StoreError."""
    try:
        with spool_file() as spool:
            found = check(Path(path), parse_state, spool, lambda _: None)
            stored = not found.bad or keep_good
            if stored:
                asyncio.run(_store(store_url, organization, spool, replace, by))
    except StoreError as error:
        raise StoreError(str(error).replace(path, name)) from None
    return {
        "stored": stored,
        "good": found.good,
        "bad": found.bad,
        "bad_rows": [{"line": row.line, "column": row.column, "problem": row.problem} for row in found.named],
    }


async def _store(store_url: str, organization: str, spool: Any, replace: bool, by: str) -> None:
    store = await Store.open(store_url)
    try:
        await store.lists.store(organization, spool, replace=replace, progress=lambda _: None, by=by)
    finally:
        await store.close()
