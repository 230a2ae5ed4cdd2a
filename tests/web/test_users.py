"""Users through the API: made, changed, and nobody made more than their maker."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.sip.digest import ha1
from tests.support.web_client import PASSWORD, Site

NEW = "a password of its own"


async def test_a_user_is_added_with_all_that_they_need(site_on_both: Site) -> None:
    site = site_on_both
    boss = await site.browser("boss")
    made = await boss.send(
        "POST", "/users",
        {"username": "zoe", "display_name": "Zoë Ångström", "state": "new hampshire", "sip_password": "phone pass",
         "web_password": NEW, "add_dids": ["(603) 555-0100"]},
        201,
    )  # fmt: skip
    assert {k: made[k] for k in ("role", "country", "state", "dids", "sip_password", "web_password", "enabled")} == {
        "role": "agent", "country": "US", "state": "US-NH", "dids": ["+16035550100"], "sip_password": True,
        "web_password": True, "enabled": True,
    }  # fmt: skip
    credential = await site.store.directory.credential("zoe")
    assert credential is not None
    assert credential.ha1_md5 == ha1("zoe", "twoparty", "phone pass", "MD5")
    zoe = await site.browser()
    assert (await zoe.log_in("zoe", NEW)).status_code == 200
    assert [user["username"] for user in await boss.get("/users")] == ["alice", "boss", "mara", "max", "sue", "zoe"]
    entry = (await site.store.audit.entries("acme", limit=2))[1]
    assert NEW not in str(entry)
    assert "phone pass" not in str(entry)


async def test_what_is_left_out_stays_and_empty_clears(site: Site) -> None:
    boss = await site.browser("boss")
    changed = await boss.send("PATCH", "/users/alice", {"display_name": "Alice"})
    assert (changed["display_name"], changed["state"]) == ("Alice", "US-TX")
    assert (await boss.send("PATCH", "/users/alice", {"state": ""}))["state"] is None
    await boss.send("PATCH", "/users/alice", {"state": "ON"}, 422)
    assert (await boss.send("PATCH", "/users/alice", {"state": "ON", "country": "CA"}))["state"] == "CA-ON"
    assert (await boss.send("PATCH", "/users/alice", {"web_password": ""}))["web_password"] is False
    assert (await (await site.browser()).log_in("alice")).status_code == 401
    await boss.send("PATCH", "/users/alice", {"add_dids": ["+16035550100"]})
    assert (await boss.send("PATCH", "/users/alice", {"remove_dids": ["603-555-0100"]}))["dids"] == []


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"username": "alice"}, 409), ({"username": "other-alice"}, 409), ({"username": "a b"}, 422),
        ({"username": ""}, 422), ({}, 422), ({"username": "new", "role": "king"}, 422),
        ({"username": "new", "country": "XX"}, 422), ({"username": "new", "state": "Atlantis"}, 422),
        ({"username": "new", "web_password": "short"}, 422), ({"username": "new", "sip_password": "x"}, 422),
        ({"username": "new", "add_dids": ["x"]}, 422), ({"username": "new", "remove_dids": ["+16035550100"]}, 422),
        ({"username": "new", "admin_rights": True}, 422), ({"username": "new", "display_name": "a\x00b"}, 422),
    ],
)  # fmt: skip
async def test_what_is_wrong_is_told_and_nothing_is_made(site: Site, body: dict[str, Any], status: int) -> None:
    boss = await site.browser("boss")
    problem = await boss.send("POST", "/users", body, status)
    assert problem["detail"]
    assert len(await boss.get("/users")) == 5


async def test_who_may_change_whom(site: Site) -> None:
    """Role of the one who changes, the one who is changed, and to what."""
    boss, mara, max_, sue = [await site.browser(name) for name in ("boss", "mara", "max", "sue")]
    for browser in (max_, sue, await site.browser("alice")):
        await browser.send("POST", "/users", {"username": "x"}, 403)
        await browser.send("PATCH", "/users/alice", {"display_name": "x"}, 403)
    for role in ("agent", "manager"):
        await mara.send("POST", "/users", {"username": f"by-mara-{role}", "role": role}, 201)
    for body in ({"role": "admin"}, {"role": "support"}, {"role": "manager", "admin_rights": True}):
        await mara.send("POST", "/users", {"username": "x", **body}, 403)
    for target in ("boss", "sue", "mara"):
        await mara.send("PATCH", f"/users/{target}", {"web_password": NEW}, 403)
    await mara.send("PATCH", "/users/alice", {"role": "admin"}, 403)
    await mara.send("PATCH", "/users/max", {"admin_rights": True}, 403)
    await boss.send("PATCH", "/users/max", {"admin_rights": True})
    await (await site.browser("max")).get("/policy")
    assert (await boss.send("PATCH", "/users/max", {"role": "agent"}))["admin_rights"] is False
    await boss.send("PATCH", "/users/alice", {"role": "support"}, 403)
    await boss.send("PATCH", "/users/sue", {"web_password": NEW}, 403)  # else recording would be on again by a detour
    await boss.send("PATCH", "/users/sue", {"role": "agent"}, 403)
    await boss.send("POST", "/users", {"username": "x", "role": "support"}, 403)
    await boss.send("POST", "/users", {"username": "chief", "role": "admin"}, 201)
    await boss.send("PATCH", "/users/boss", {"enabled": False}, 409)
    await boss.send("PATCH", "/users/boss", {"role": "agent"}, 409)


async def test_a_changed_password_ends_sessions(site: Site) -> None:
    boss, alice = await site.browser("boss"), await site.browser("alice")
    await boss.send("PATCH", "/users/alice", {"web_password": NEW})
    assert (await alice("GET", "/session")).status_code == 401
    assert (await alice.log_in("alice", PASSWORD)).status_code == 401
    assert (await alice.log_in("alice", NEW)).status_code == 200
