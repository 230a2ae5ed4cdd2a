"""The audit log: every change is in it, none of it can be changed unseen."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from gateway.store import audit
from gateway.store.audit import Change, verify
from gateway.store.errors import StoreError
from tests.support.web_client import Site


async def test_changes_are_on_record_with_before_and_after(site_on_both: Site) -> None:
    site = site_on_both
    boss = await site.browser("boss")
    await boss.set("agent_side_only", True)
    await boss.send("PATCH", "/users/alice", {"state": "NH"})
    page = await boss.get("/audit", limit=2)
    user, policy = page["items"]
    assert (user["action"], user["actor"], user["target"]) == ("user.change", "boss", "alice")
    assert (user["before"], user["after"]) == ({"state": "US-TX"}, {"state": "US-NH"})
    assert (policy["action"], policy["target"]) == ("policy.change", "version 1")
    assert (policy["before"], policy["after"]) == ({"agent_side_only": False}, {"agent_side_only": True})
    assert user["previous"] == policy["hash"]
    older = await boss.get("/audit", before=page["next"])
    assert [entry["action"] for entry in older["items"]][:1] == ["login"]
    assert older["items"][-1]["action"] == "organization.add"
    assert await boss.get("/audit/verification") == {"intact": True, "sequence": None, "problem": None}


async def test_the_export_is_what_there_is_and_verifies(site_on_both: Site) -> None:
    boss = await site_on_both.browser("boss")
    for on in (True, False) * 3:
        await boss.set("inbound_enabled", on)
    answer = await boss("GET", "/audit/export")
    assert answer.headers["content-type"] == "application/jsonl"
    entries = [json.loads(line) for line in answer.text.splitlines()]
    assert [entry["sequence"] for entry in entries] == list(range(1, len(entries) + 1))
    assert verify(entries) is None
    assert {entry["organization"] for entry in entries} == {"acme"}


async def test_the_database_refuses_changes_of_the_log(site_on_both: Site) -> None:
    for statement in ("UPDATE audit_log SET actor = 'nobody'", "DELETE FROM audit_log"):
        with pytest.raises(StoreError, match="append-only"):
            await site_on_both.store._database.write(lambda connection, s=statement: connection.execute(text(s)))


@pytest.mark.parametrize(
    ("statement", "sequence", "problem"),
    [
        ("UPDATE audit_log SET actor = 'nobody' WHERE organization = 'acme' AND sequence = 3", 3, "changed"),
        ("UPDATE audit_log SET after = '{}' WHERE organization = 'acme' AND sequence = 2", 2, "changed"),
        ("DELETE FROM audit_log WHERE organization = 'acme' AND sequence = 4", 4, "missing"),
        ("DELETE FROM audit_log WHERE organization = 'acme' AND sequence > 5", 6, "missing, with all after it"),
        ("DELETE FROM audit_log WHERE organization = 'acme' AND sequence = 1", 1, "missing"),
        ("UPDATE audit_heads SET hash = 'x' WHERE organization = 'acme'", 11, "not the one that was written last"),
    ],
)  # fmt: skip
async def test_the_first_broken_entry_is_named(
    site: Site, tmp_path: Path, statement: str, sequence: int, problem: str
) -> None:
    """Somebody with the database in their hands."""
    with sqlite3.connect(tmp_path / "web.db") as connection:
        connection.execute("DROP TRIGGER audit_log_update")
        connection.execute("DROP TRIGGER audit_log_delete")
        connection.execute(statement)
    broken = await site.store.audit.verify("acme")
    assert broken is not None
    assert (broken.organization, broken.sequence) == ("acme", sequence)
    assert problem in broken.problem
    assert await site.store.audit.verify("other") is None


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00")),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"],
        exclude_characters="\x00"), max_size=8), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(st.lists(VALUES, min_size=1, max_size=6), st.data())
@settings(max_examples=200, deadline=None)
def test_any_change_of_any_entry_is_found(values: list[Any], data: st.DataObject) -> None:
    entries: list[dict[str, Any]] = []
    previous = audit.GENESIS
    for number, value in enumerate(values, 1):
        entry = {
            "organization": "acme", "sequence": number, "at": "2026-01-01T00:00:00.000000Z", "actor": "boss",
            "action": "test", "target": "", "before": None, "after": value, "previous": previous, "hash": "",
        }  # fmt: skip
        entry["hash"] = previous = audit.digest(entry)
        entries.append(json.loads(json.dumps(entry)))
    assert verify(entries) is None
    at = data.draw(st.integers(0, len(entries) - 1))
    key = data.draw(st.sampled_from([k for k in entries[at] if k != "organization"]))
    entries[at][key] = "tampered" if entries[at][key] != "tampered" else "again"
    broken = verify(entries)
    assert broken is not None
    assert broken.sequence == at + 1


async def test_any_json_survives_the_database(site_on_both: Site) -> None:
    for value in ({"a": [1, 2.5, None, True, "Zoë \U0001f600"]}, "text", 0, 1e-300, [], {}, 12345678901234567890):
        await site_on_both.store.audit.note("acme", Change("test", "test", "x", value, [value]))
    assert await site_on_both.store.audit.verify("acme") is None
