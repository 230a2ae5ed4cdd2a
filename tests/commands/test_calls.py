"""``twoparty calls`` and ``twoparty recordings``."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.store.store import Store
from tests.support.command_line import CommandLine
from tests.support.store_records import ended, recorded, store_call


async def _fill(store: Store) -> None:
    await store.accounts.add_organization("acme")
    user = await store.accounts.add_user("alice", "acme")
    await store_call(store, "c1", user_id=user.agent.user_id)
    store.journal.call_ended(ended("c1", seconds=3723))
    await store.journal.recording_stored(recorded("c1", outcome="degraded", problems=("[disk] full",)))
    await store_call(store, "c2", minutes=5, mode="none", reason="never_record_state", direction="inbound")
    await store.journal.call_ended(ended("c2", answered_at=None, termination="busy", sip_status=486))
    await store_call(store, "c3", minutes=9, mode="agent_only", reason="prospect_two_party")


@pytest.fixture
def twoparty(tmp_path: Path) -> CommandLine:
    command = CommandLine(tmp_path)
    command.store(_fill)
    return command


def _ids(twoparty: CommandLine, *words: str) -> list[str]:
    return [call["call_id"] for call in twoparty.json("calls", *words)["calls"]]


def test_calls_as_a_table(twoparty: CommandLine) -> None:
    lines = twoparty("calls").stdout.splitlines()
    first, second, third = (next(line for line in lines if call in line) for call in ("c1", "c2", "c3"))
    for word in ("2026-03-01 12:00:00", "→", "alice", "6035550100", "one_party", "completed", "1:02:03", "degraded"):
        assert word in first
    assert "acme/2026/03/01/c1.wav" in first
    for word in ("←", "none", "never_record_state", "busy 486", " - "):
        assert word in second
    assert "live" in third


def test_filters(twoparty: CommandLine) -> None:
    assert _ids(twoparty) == ["c3", "c2", "c1"]
    assert _ids(twoparty, "--user", "alice") == ["c1"]
    assert _ids(twoparty, "--mode", "none") == ["c2"]
    assert _ids(twoparty, "--reason", "prospect_two_party") == ["c3"]
    assert _ids(twoparty, "--number", "603-555-0100") == ["c3", "c2", "c1"]
    assert _ids(twoparty, "--organization", "other") == []
    assert _ids(twoparty, "--since", "2026-03-01T12:05", "--until", "2026-03-01T12:09:00Z") == ["c2"]
    assert _ids(twoparty, "--until", "2026-03-01") == []
    assert _ids(twoparty, "--since", "7d") == []


def test_pages(twoparty: CommandLine) -> None:
    page = twoparty.json("calls", "--limit", "2")
    assert [call["call_id"] for call in page["calls"]] == ["c3", "c2"]
    assert _ids(twoparty, "--limit", "2", "--cursor", page["next"]) == ["c1"]
    assert f"more: --cursor '{page['next']}'" in twoparty("calls", "-n", "2").stdout
    assert "not a cursor" in twoparty.error("calls", "--cursor", "x")


def test_call_as_json(twoparty: CommandLine) -> None:
    [call] = twoparty.json("calls", "--user", "alice")["calls"]
    assert (call["seconds"], call["started_at"], call["sip_call_id"]) == (3723, "2026-03-01T12:00:00+00:00", "c1@phone")


@pytest.mark.parametrize("text", ["yesterday", "2026-13-01", "", "d", "9999999d", "9999999999999999d"])
def test_time_that_is_none(twoparty: CommandLine, text: str) -> None:
    assert twoparty.error("calls", "--since", text).startswith("--since: ")


def test_recordings(twoparty: CommandLine) -> None:
    lines = twoparty("recordings").stdout.splitlines()
    line = next(line for line in lines if "c1.wav" in line)
    for word in ("alice", "both", "degraded", "1:30", "2.9", "[disk] full"):
        assert word in line
    [recording] = twoparty.json("recordings", "--outcome", "degraded")["recordings"]
    assert (recording["samples"], recording["problems"], recording["reason"]) == (720_000, ["[disk] full"], "one_party")
    assert twoparty.json("recordings", "--outcome", "complete") == {"recordings": [], "next": None}
    assert twoparty.json("recordings", "--user", "nobody")["recordings"] == []
