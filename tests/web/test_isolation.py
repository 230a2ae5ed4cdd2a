"""Every route, as every role of another organization; and every route as every role of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from gateway.b2bua.calls import LiveCall
from gateway.web.app import PREFIX, api_routes
from gateway.web.roles import ROLE_SCOPES, Scope
from tests.support.store_records import NOW
from tests.support.web_client import PASSWORD, PEOPLE, Browser, Site
from tests.web.test_calls_and_recordings import real_recording

SECRETS = ("alice", "acme-call", "+16035550777", "6035550777", "6035550100", "Ashuelot")
"""What only acme has: none of it may be in an answer to others."""

S = Scope
ROUTES: dict[str, tuple[Scope | None, Any]] = {
    "GET /session": (None, None), "POST /session": (None, {"username": "x", "password": "y"}),
    "DELETE /session": (None, None), "PUT /session/password": (None, {"current": "x", "new": "y" * 12}),
    "GET /tokens": (None, None), "POST /tokens": (None, {"name": "x", "scopes": ["calls:read"]}),
    "DELETE /tokens/{token_id}": (None, None),
    "GET /policy": (S.POLICY_READ, None), "PUT /policy/{setting}": (S.POLICY_WRITE, {"value": True}),
    "GET /policy/versions": (S.POLICY_READ, None), "GET /policy/versions/{version}": (S.POLICY_READ, None),
    "GET /policy/diff": (S.POLICY_READ, None), "POST /policy/trial": (S.POLICY_READ, {"number": "+16035550777"}),
    "POST /policy/simulation": (S.POLICY_READ, {"settings": {}, "source": "calls"}),
    "GET /users": (S.USERS_READ, None), "GET /users/{username}": (S.USERS_READ, None),
    "POST /users": (S.USERS_WRITE, {"username": "alice"}),
    "PATCH /users/{username}": (S.USERS_WRITE, {"display_name": "x"}),
    "GET /lists": (S.LISTS_READ, None), "GET /lists/{number}": (S.LISTS_READ, None), "POST /lists": (S.LISTS_WRITE, ""),
    "DELETE /lists": (S.LISTS_WRITE, None),
    "GET /calls/live": (S.CALLS_READ, None), "GET /calls": (S.CALLS_READ, None),
    "POST /calls/{call_id}/pause": (S.CALLS_CONTROL, None), "POST /calls/{call_id}/resume": (S.CALLS_CONTROL, None),
    "GET /calls/{call_id}": (S.CALLS_READ, None), "GET /calls/{call_id}/decisions": (S.CALLS_READ, None),
    "GET /recordings": (S.RECORDINGS_READ, None), "GET /recordings/{call_id}": (S.RECORDINGS_READ, None),
    "GET /recordings/{call_id}/audio": (S.RECORDINGS_READ, None),
    "HEAD /recordings/{call_id}/audio": (S.RECORDINGS_READ, None),
    "GET /recordings/{call_id}/peaks": (S.RECORDINGS_READ, None),
    "GET /recordings/{call_id}/manifest": (S.RECORDINGS_READ, None),
    "GET /jurisdictions": (S.JURISDICTIONS_READ, None),
    "PUT /jurisdictions/{region}/override": (S.POLICY_WRITE, None),
    "DELETE /jurisdictions/{region}/override": (S.POLICY_WRITE, None),
    "GET /audit": (S.AUDIT_READ, None), "GET /audit/export": (S.AUDIT_READ, None),
    "GET /audit/verification": (S.AUDIT_READ, None),
}  # fmt: skip
"""Each route of the API with the scope that it needs (None: a session), and a body for it."""

QUERIES = {"GET /policy/diff": {"from": "0", "to": "1"}, "GET /calls": {"user": "alice", "number": "+16035550777"},
           "GET /recordings": {"user": "alice", "number": "+16035550777"}}  # fmt: skip


def test_no_route_is_forgotten() -> None:
    found = {f"{method} {path.removeprefix(PREFIX)}" for path, methods in api_routes() for method in methods}
    assert found == set(ROUTES)


async def furnish(site: Site) -> dict[str, str]:
    """Something of acme's behind every route; gives the parameters that name it."""
    await site.store.accounts.change_user("alice", display_name="Ashuelot", add_numbers=["+16035550100"])
    await real_recording(site, "acme-call-1")
    boss = await site.browser("boss")
    csv = {"content-type": "text/csv"}
    await boss("POST", "/lists", content="number,state\n+16035550777,NH\n", headers=csv)
    await boss.set("never_record.states", ["US-NH"])
    alice = await site.browser("alice")
    token = await alice.send("POST", "/tokens", {"name": "Ashuelot", "scopes": ["calls:read"]}, 201)
    site.live.calls = [LiveCall("acme-call-2", "acme", "alice", "outbound", "+16035550777", "alice", NOW, None, "both",
                                "one_party", True, True)]  # fmt: skip
    return {"call_id": "acme-call-1", "username": "alice", "number": "+16035550777", "token_id": str(token["id"]),
            "version": "1", "region": "US-NY", "setting": "agent_side_only"}  # fmt: skip


async def ask(browser: Browser, route: str, names: dict[str, str]) -> httpx.Response:
    method, path = route.split(" ")
    body = ROUTES[route][1]
    arguments: dict[str, Any] = {"params": QUERIES.get(route, {})}
    if route == "POST /lists":
        arguments |= {"content": "number,state\n+12125550123,NY\n", "headers": {"content-type": "text/csv"}}
    elif body is not None:
        arguments |= {"json": body}
    return await browser(method, path.format(**names), **arguments)


async def state_of(site: Site, organization: str) -> str:
    """Everything that the database has of an organization, but for logins and their traces."""
    queries = (
        "SELECT * FROM organizations WHERE slug = :o", "SELECT * FROM users WHERE organization = :o ORDER BY id",
        "SELECT * FROM policies WHERE organization = :o", "SELECT * FROM dialing_list WHERE organization = :o",
        "SELECT * FROM calls WHERE organization = :o", "SELECT * FROM recordings WHERE organization = :o",
        "SELECT id, revoked_at FROM api_tokens WHERE user_id IN (SELECT id FROM users WHERE organization = :o)",
        "SELECT * FROM sip_credentials", "SELECT * FROM dids",
        "SELECT sequence, action FROM audit_log WHERE organization = :o AND action != 'login' ORDER BY sequence",
    )  # fmt: skip

    def read(connection: Any) -> str:
        return "\n".join(str(connection.execute(text(query), {"o": organization}).all()) for query in queries)

    return await site.store._database.read(read)


@pytest.mark.parametrize("stranger", [f"other-{name}" for name in PEOPLE])
async def test_strangers_see_and_change_nothing(site_on_both: Site, stranger: str) -> None:
    site = site_on_both
    names = await furnish(site)
    before = await state_of(site, "acme")
    for route in ROUTES:
        browser = await site.browser(stranger)
        answer = await ask(browser, route, names)
        assert answer.status_code < 500, (route, answer.text)
        if "{" in route and not any(part in route for part in ("{setting}", "{version}", "{region}")):
            assert answer.status_code in (403, 404), (route, answer.text)
        if answer.status_code < 300 and route != "POST /policy/trial":  # errors name what was asked for
            said = answer.text.replace("other-alice", "")
            assert not [secret for secret in SECRETS if secret in said], (route, said)
    assert await state_of(site, "acme") == before


@pytest.mark.parametrize("username", list(PEOPLE))
async def test_each_role_may_what_the_table_says(site: Site, username: str) -> None:
    names = await furnish(site)
    role = "admin" if username == "mara" else PEOPLE[username]["role"]
    for route, (scope, _) in ROUTES.items():
        answer = await ask(await site.browser(username), route, names)
        if scope is not None and scope not in ROLE_SCOPES[role]:
            assert answer.status_code == 403, (route, answer.text)
        elif scope is not None:
            assert answer.status_code != 403, (route, answer.text)


async def test_nobody_without_a_session(site: Site) -> None:
    names = await furnish(site)
    stranger = await site.browser()
    for route in ROUTES:
        answer = await ask(stranger, route, names)
        assert answer.status_code == 401, (route, answer.text)


async def test_what_is_no_route_is_a_problem(site: Site) -> None:
    boss = await site.browser("boss")
    for method, path, status in (
        ("GET", "/nothing", 404), ("POST", "/calls", 405), ("DELETE", "/policy", 405), ("GET", "/calls/../../etc", 404),
        ("PUT", "/recordings/x/audio", 405),
    ):  # fmt: skip
        answer = await boss(method, path)
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), path
    assert (await boss("DELETE", "/policy")).headers["allow"] == "GET"
    wrong = await boss.http.post("/openapi.json")
    assert wrong.status_code == 405


async def test_the_openapi_document(site: Site, tmp_path: Path) -> None:
    browser = await site.browser()
    document = (await browser.http.get("/openapi.json")).json()
    assert set(document["paths"]) == {PREFIX + route.split(" ")[1] for route in ROUTES if not route.startswith("HEAD")}
    assert "ProblemDetail" in document["components"]["schemas"]
    ids = [operation["operationId"] for path in document["paths"].values() for operation in path.values()]
    assert len(ids) == len(set(ids))
    assert PASSWORD not in str(document)
