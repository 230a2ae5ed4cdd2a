"""Logins, sessions, CSRF, tokens: who gets in, and who does not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from gateway.store.access import LOCK_AFTER
from gateway.web.auth import COOKIE
from gateway.web.passwords import WeakPassword, hash_password, verify_password
from gateway.web.roles import Scope
from tests.support.web_client import PASSWORD, Browser, Site


async def test_a_login_gives_a_cookie_that_scripts_and_other_sites_do_not_get(site_on_both: Site) -> None:
    browser = await site_on_both.browser()
    answer = await browser.log_in("boss")
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    me = await browser.get("/session")
    assert (me["username"], me["role"], me["organization"]) == ("boss", "admin", "acme")
    assert me["recording_enabled"] is True
    assert PASSWORD not in answer.text
    site_on_both.web.secure_cookies = True
    assert "; secure" in (await (await site_on_both.browser()).log_in("boss")).headers["set-cookie"].lower()


async def test_without_a_session_there_is_nothing(site: Site) -> None:
    browser = await site.browser()
    for path in ("/session", "/policy", "/users", "/calls", "/recordings", "/audit", "/lists", "/jurisdictions"):
        answer = await browser("GET", path)
        assert answer.status_code == 401
        assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(("username", "password"), [("boss", "wrong"), ("nobody", PASSWORD), ("boss", ""), ("", "")])
async def test_wrong_names_and_passwords_are_told_alike(site: Site, username: str, password: str) -> None:
    answer = await (await site.browser()).log_in(username, password)
    assert answer.status_code == 401
    assert answer.json()["detail"] == "user name or password is wrong"


async def test_wrong_passwords_lock_the_user_and_the_right_one_does_not_help(site_on_both: Site) -> None:
    site = site_on_both
    browser = await site.browser()
    for _ in range(LOCK_AFTER - 1):
        assert (await browser.log_in("alice", "wrong")).status_code == 401
    locked = await browser.log_in("alice", "wrong")
    assert locked.status_code == 429
    assert int(locked.headers["retry-after"]) > 800
    assert (await browser.log_in("alice")).status_code == 429
    assert (await browser.log_in("boss")).status_code == 200
    entries = await site.store.audit.entries("acme")
    assert entries[1].action == "login.locked"
    later = datetime.now(UTC) + timedelta(minutes=16)
    site.web.now = lambda: later
    assert (await (await site.browser()).log_in("alice")).status_code == 200


async def test_a_name_that_nobody_has_is_locked_alike(site: Site) -> None:
    browser = await site.browser()
    answers = {}
    for name in ("alice", "nobody"):
        answers[name] = [await browser.log_in(name, "wrong") for _ in range(LOCK_AFTER + 1)]
    for known, unknown in zip(answers["alice"], answers["nobody"], strict=True):
        assert known.status_code == unknown.status_code
        assert known.json()["detail"] == unknown.json()["detail"]
        assert ("retry-after" in known.headers) == ("retry-after" in unknown.headers)


async def test_a_right_password_forgives_the_wrong_ones_before_it(site: Site) -> None:
    browser = await site.browser()
    for _ in range(3):
        for _ in range(LOCK_AFTER - 1):
            assert (await browser.log_in("alice", "wrong")).status_code == 401
        assert (await browser.log_in("alice")).status_code == 200


async def test_a_source_that_tries_many_names_is_slowed_down(site: Site) -> None:
    browser = await site.browser(host="203.0.113.5")
    statuses = [(await browser.log_in(f"user{i}", "x")).status_code for i in range(22)]
    assert statuses == [401] * 20 + [429] * 2
    assert (await (await site.browser(host="203.0.113.6")).log_in("boss")).status_code == 200


async def test_a_change_needs_the_csrf_token_and_the_same_origin(site: Site) -> None:
    browser = await site.browser("boss")
    token = browser.http.headers.pop("x-csrf-token")
    body = {"value": True}
    for headers in (
        {},
        {"x-csrf-token": "wrong"},
        {"x-csrf-token": token, "origin": "http://evil.test"},
        {"x-csrf-token": token, "sec-fetch-site": "cross-site"},
    ):
        answer = await browser("PUT", "/policy/agent_side_only", json=body, headers=headers)
        assert answer.status_code == 403, headers
    good = {"x-csrf-token": token, "origin": "http://gateway.test"}
    assert (await browser("PUT", "/policy/agent_side_only", json=body, headers=good)).status_code == 200
    evil = {"username": "boss", "password": PASSWORD}
    answer = await browser("POST", "/session", json=evil, headers={"origin": "http://evil.test"})
    assert answer.status_code == 403


async def test_sessions_end(site_on_both: Site) -> None:
    site = site_on_both
    first, second = await site.browser("alice"), await site.browser("alice")
    await first.send("DELETE", "/session", status=204)
    assert (await first("GET", "/session")).status_code == 401
    stolen = Browser(site.app)
    stolen.http.cookies.set(COOKIE, "no such secret")
    assert (await stolen("GET", "/session")).status_code == 401
    assert (await second("GET", "/session")).status_code == 200
    await site.store.accounts.change_user("alice", enabled=False)
    assert (await second("GET", "/session")).status_code == 401
    await site.store.accounts.change_user("alice", enabled=True)
    assert (await second("GET", "/session")).status_code == 200
    await site.store.access.set_password("alice", None, by="test")
    assert (await second("GET", "/session")).status_code == 401


async def test_sessions_expire_and_go_stale(site: Site) -> None:
    browser = await site.browser("alice")
    soon = datetime.now(UTC) + timedelta(minutes=59)
    site.store.access._now = lambda: soon
    assert (await browser("GET", "/session")).status_code == 200  # seen now
    later = soon + timedelta(minutes=61)
    site.store.access._now = lambda: later
    assert (await browser("GET", "/session")).status_code == 401
    site.store.access._now = lambda: datetime.now(UTC)
    again = await site.browser("alice")
    for minutes in range(0, 13 * 60, 30):
        site.store.access._now = lambda minutes=minutes: datetime.now(UTC) + timedelta(minutes=minutes)
        status = (await again("GET", "/session")).status_code
        assert status == (200 if minutes < 12 * 60 else 401)


async def test_secrets_are_not_in_the_database(site_on_both: Site) -> None:
    site = site_on_both
    browser = await site.browser("boss")
    made = await browser.send("POST", "/tokens", {"name": "ci", "scopes": ["calls:read"]}, 201)
    secret = browser.http.cookies[COOKIE]

    def everything(connection) -> str:  # type: ignore[no-untyped-def]
        tables = ("web_logins", "web_sessions", "api_tokens", "audit_log")
        return str([connection.execute(text(f"SELECT * FROM {table}")).all() for table in tables])

    stored = await site.store._database.read(everything)
    assert "$argon2id$" in stored
    for plain in (PASSWORD, secret, made["secret"]):
        assert plain not in stored


async def test_one_changes_ones_own_password(site: Site) -> None:
    browser = await site.browser("alice")
    new = "another long enough one"
    await browser.send("PUT", "/session/password", {"current": "wrong", "new": new}, 403)
    await browser.send("PUT", "/session/password", {"current": PASSWORD, "new": "short"}, 422)
    await browser.send("PUT", "/session/password", {"current": PASSWORD, "new": new}, 204)
    assert (await browser("GET", "/session")).status_code == 401
    assert (await browser.log_in("alice")).status_code == 401
    assert (await browser.log_in("alice", new)).status_code == 200


async def test_tokens_do_what_they_may_until_they_are_revoked(site_on_both: Site) -> None:
    site = site_on_both
    boss = await site.browser("boss")
    made = await boss.send("POST", "/tokens", {"name": "reports", "scopes": ["calls:read", "audit:read"]}, 201)
    machine = await site.browser(token=made["secret"])
    assert (await machine.get("/session"))["scopes"] == ["audit:read", "calls:read"]
    await machine.get("/calls")
    await machine.get("/policy", 403)
    await machine.set("agent_side_only", True, 403)
    await machine.send("POST", "/tokens", {"name": "x", "scopes": ["calls:read"]}, 403)
    assert [token["name"] for token in await boss.get("/tokens")] == ["reports"]
    assert (await boss.get("/tokens"))[0]["used_at"] is not None
    await (await site.browser("other-boss")).send("DELETE", f"/tokens/{made['id']}", status=404)
    await boss.send("DELETE", f"/tokens/{made['id']}", status=204)
    await machine.get("/calls", 401)
    assert "secret" not in (await boss.get("/tokens"))[0]


async def test_a_token_has_no_more_than_its_user_has_now(site: Site) -> None:
    mara = await site.browser("mara")
    made = await mara.send("POST", "/tokens", {"name": "all", "scopes": ["policy:read", "calls:read"]}, 201)
    machine = await site.browser(token=made["secret"])
    await machine.get("/policy")
    await site.store.accounts.change_user("mara", admin_rights=False)
    await machine.get("/policy", 403)
    await machine.get("/calls")
    await site.store.accounts.change_user("mara", enabled=False)
    await machine.get("/calls", 401)


async def test_nobody_makes_a_token_with_more_than_they_have(site: Site) -> None:
    alice = await site.browser("alice")
    for scope in Scope:
        may = scope in ("calls:read", "calls:control", "recordings:read", "jurisdictions:read")
        await alice.send("POST", "/tokens", {"name": "x", "scopes": [scope]}, 201 if may else 403)
    past = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()
    await alice.send("POST", "/tokens", {"name": "x", "scopes": ["calls:read"], "expires_at": past}, 422)
    soon = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    made = await alice.send("POST", "/tokens", {"name": "x", "scopes": ["calls:read"], "expires_at": soon}, 201)
    machine = await site.browser(token=made["secret"])
    await machine.get("/calls")
    site.store.access._now = lambda: datetime.now(UTC) + timedelta(hours=2)
    await machine.get("/calls", 401)


def test_passwords() -> None:
    stored = hash_password("a decent pass phrase")
    assert stored.startswith("$argon2id$")
    assert stored != hash_password("a decent pass phrase")
    assert verify_password(stored, "a decent pass phrase")
    for wrong in ("a decent pass phras", "", "a decent pass phrase ", "x" * 100_000):
        assert not verify_password(stored, wrong)
    assert not verify_password(None, "a password that nobody has")
    assert not verify_password("not a hash", "x")
    for weak in ("short", "x" * 12, "alice12345678", "y" * 257):
        with pytest.raises(WeakPassword):
            hash_password(weak, "alice")
