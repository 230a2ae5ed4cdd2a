"""Dialing lists through the API."""

from __future__ import annotations

import pytest

from tests.support.web_client import Browser, Site

GOOD = "number,state\n+16035550123,NH\n212-555-0123,New York\n"
BAD = "number,state\n+16035550123,NH\nnonsense,NH\n+12125550123,Atlantis\n+12125550124,\n+12125550125,US-NY\n"


async def upload(browser: Browser, text: str, status: int = 200, **query: str) -> dict[str, object]:
    answer = await browser("POST", "/lists", content=text, params=query, headers={"content-type": "text/csv"})
    assert answer.status_code == status, answer.text
    return dict(answer.json())


async def test_a_list_is_uploaded_read_replaced_and_cleared(site_on_both: Site) -> None:
    site = site_on_both
    boss = await site.browser("boss")
    assert await upload(boss, GOOD) == {"stored": True, "good": 2, "bad": 0, "bad_rows": []}
    assert await boss.get("/lists") == {"numbers": 2}
    assert await boss.get("/lists/2125550123") == {"number": "+12125550123", "state": "US-NY"}
    await boss.get("/lists/+12125550199", 404)
    await boss.get("/lists/nonsense", 422)
    await upload(boss, "number,state\n+16035550199,NH\n", mode="replace")
    assert await boss.get("/lists") == {"numbers": 1}
    other = await site.browser("other-boss")
    assert await other.get("/lists") == {"numbers": 0}
    assert await other.send("DELETE", "/lists") == {"numbers": 0}
    assert await boss.send("DELETE", "/lists") == {"numbers": 1}
    assert await boss.get("/lists") == {"numbers": 0}
    actions = [(entry.actor, entry.action) for entry in await site.store.audit.entries("acme", limit=3)]
    assert actions == [("boss", "list.clear"), ("boss", "list.import"), ("boss", "list.import")]


async def test_bad_rows_are_named_by_line_and_nothing_or_the_rest_is_kept(site: Site) -> None:
    manager = await site.browser("max")
    refused = await upload(manager, BAD)
    assert (refused["stored"], refused["good"], refused["bad"]) == (False, 2, 3)
    rows = refused["bad_rows"]
    assert isinstance(rows, list)
    assert [(row["line"], row["column"]) for row in rows] == [(3, "number"), (4, "state"), (5, "state")]
    assert await manager.get("/lists") == {"numbers": 0}
    assert (await upload(manager, BAD, bad_rows="skip"))["stored"] is True
    assert await manager.get("/lists") == {"numbers": 2}


@pytest.mark.parametrize(
    "text", ["", "name,place\nx,y\n", "number,number,state\n1,2,3\n", 'number,"state\n', "\x00\x01\x02"]
)
async def test_what_is_no_list_is_told_in_one_line(site: Site, text: str) -> None:
    problem = await upload(await site.browser("boss"), text, 422)
    assert "the file" in str(problem["detail"])
    assert "/tmp" not in str(problem["detail"])


async def test_what_is_not_utf8_and_what_is_no_csv(site: Site) -> None:
    boss = await site.browser("boss")
    answer = await boss("POST", "/lists", content=b"number,state\n\xff\xfe,NH\n", headers={"content-type": "text/csv"})
    assert answer.json()["bad_rows"] == [{"line": 2, "column": "number", "problem": "b'\\xff\\xfe' is not UTF-8 text"}]
    answer = await boss("POST", "/lists", content=GOOD.encode("utf-16"), headers={"content-type": "text/csv"})
    assert answer.status_code == 422
    answer = await boss("POST", "/lists", content=b"{}", headers={"content-type": "application/json"})
    assert answer.status_code == 415


async def test_what_is_too_large_is_cut(site: Site) -> None:
    site.web.max_upload_bytes = 1000
    await upload(await site.browser("boss"), GOOD + "+16035550123,NH\n" * 100, 413)
    assert await (await site.browser("boss")).get("/lists") == {"numbers": 0}


async def test_many_rows(site_on_both: Site) -> None:
    rows = "".join(f"+1603{i:07d},NH\n" for i in range(2_000_000, 2_030_000))
    boss = await site_on_both.browser("boss")
    assert (await upload(boss, "number,state\n" + rows, bad_rows="skip"))["stored"] is True
    assert (await boss.get("/lists"))["numbers"] > 29_000
