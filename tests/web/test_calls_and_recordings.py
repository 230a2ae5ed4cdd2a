"""Calls and recordings through the API: found, paged, played, drawn; agents have their own alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import soundfile

from gateway.b2bua.calls import LiveCall
from gateway.web.peaks import peaks
from media.engine import CaptureMode
from media.formats import FileFormat
from tests.support.recordings import record
from tests.support.store_records import NOW, decided, ended, recorded, started, store_call
from tests.support.web_client import Site


async def user_id(site: Site, username: str) -> int:
    return (await site.store.accounts.user(username)).agent.user_id


async def real_recording(
    site: Site, call_id: str, mode: CaptureMode = CaptureMode.BOTH, user: str = "alice",
    file_format: FileFormat = FileFormat.WAV,
) -> Path:  # fmt: skip
    """A recording on the disk, and its call in the store."""
    result = record(site.web.recordings_root, mode, call_id=call_id, seconds=3, file_format=file_format)
    site.store.journal.call_started(started(call_id, user_id=await user_id(site, user)))
    await site.store.journal.decision_made(decided(call_id, mode=str(mode)))
    site.store.journal.call_ended(ended(call_id))
    audio = mode is not CaptureMode.NONE
    await site.store.journal.recording_stored(
        recorded(
            call_id, mode=str(mode), outcome=str(result.outcome), path=str(result.path) if audio else None,
            manifest_path=str(result.manifest_path), channels=result.channels, samples=result.samples,
            sample_rate=result.sample_rate, sha256=result.sha256,
        )
    )  # fmt: skip
    return Path(str(result.path))


async def test_calls_are_paged_and_filtered(site_on_both: Site) -> None:
    site = site_on_both
    alice, max_ = await user_id(site, "alice"), await user_id(site, "max")
    for number in range(25):
        await store_call(
            site.store, f"call-{number:02d}", minutes=number, user_id=alice if number % 2 else max_,
            mode="both" if number % 3 else "none", reason="one_party" if number % 3 else "never_record_state",
            prospect_number=f"603555{number:04d}",
        )  # fmt: skip
    boss = await site.browser("boss")
    seen, cursor = [], None
    while True:
        page = await boss.get("/calls", limit=10, **({"cursor": cursor} if cursor else {}))
        seen += [call["call_id"] for call in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert seen == [f"call-{n:02d}" for n in reversed(range(25))]
    for query, expected in (
        ({"user": "alice"}, 12), ({"mode": "none"}, 9), ({"reason": "one_party"}, 16), ({"number": "+16035550007"}, 1),
        ({"number": "(603) 555-0007"}, 1), ({"since": (NOW + timedelta(minutes=20)).isoformat()}, 5),
        ({"until": (NOW + timedelta(minutes=5)).isoformat()}, 5), ({"user": "other-alice"}, 0), ({"user": "nobody"}, 0),
    ):  # fmt: skip
        assert len((await boss.get("/calls", limit=200, **query))["items"]) == expected, query
    own = await (await site.browser("alice")).get("/calls", limit=200, user="max")
    assert {call["username"] for call in own["items"]} == {"alice"}
    for query in ({"cursor": "nonsense"}, {"mode": "wide"}, {"limit": 0}, {"limit": 201}, {"since": "yesterday"}):
        assert (await boss("GET", "/calls", params=query)).status_code == 422, query


async def test_a_call_and_its_decisions(site: Site) -> None:
    await store_call(site.store, "call-1", user_id=await user_id(site, "alice"))
    await site.store.journal.call_ended(ended("call-1"))
    for name in ("boss", "max", "sue", "alice"):
        browser = await site.browser(name)
        call = await browser.get("/calls/call-1")
        assert (call["username"], call["mode"], call["seconds"]) == ("alice", "both", 90.0)
        (decision,) = await browser.get("/calls/call-1/decisions")
        assert decision["answer"]["trace"] == [{"rule": 12, "said": "Zoë"}]
    await site.store.accounts.add_user("bob", "acme", password_hash=None)
    await store_call(site.store, "call-2", user_id=await user_id(site, "bob"))
    alice = await site.browser("alice")
    for path in ("/calls/call-2", "/calls/call-2/decisions", "/calls/nothing"):
        await alice.get(path, 404)


@pytest.mark.parametrize(
    ("asked", "status", "content"),
    [("bytes=0-0", 206, (0, 1)), ("bytes=-1", 206, (-1, None)), ("bytes=40-", 206, (40, None)),
     ("bytes=0-999999999", 206, (0, None)), ("bytes=-999999999", 206, (0, None)), ("Bytes = 2 - 5", 206, (2, 6)),
     ("bytes=0-1, 999999999-", 206, (0, 2)), ("bytes=3-4,", 206, (3, 5)), ("bytes=5-2", 200, (0, None)),
     ("bytes=--5", 200, (0, None)), ("bytes=", 200, (0, None)), ("items=0-5", 200, (0, None)),
     ("nonsense", 200, (0, None)), ("", 200, (0, None)), ("bytes=" + "0-1," * 500, 200, (0, None)),
     ("bytes=-0", 416, None), ("bytes=999999999-", 416, None), ("bytes=" + "9" * 30 + "-", 416, None)],
)  # fmt: skip
async def test_ranges_of_every_kind(site: Site, asked: str, status: int, content: tuple[int, int | None]) -> None:
    data = (await real_recording(site, "call-1")).read_bytes()
    boss = await site.browser("boss")
    answer = await boss("GET", "/recordings/call-1/audio", headers={"range": asked})
    assert answer.status_code == status
    if status == 416:
        assert answer.headers["content-range"] == f"bytes */{len(data)}"
        assert answer.headers["content-type"] == "application/problem+json"
        other = await boss("GET", "/recordings/call-1/audio", headers={"range": asked, "if-range": '"other"'})
        assert (other.status_code, other.content) == (200, data)
    else:
        assert answer.content == data[slice(*content)]
    head = await boss("HEAD", "/recordings/call-1/audio", headers={"range": asked})
    assert (head.status_code, head.headers["content-length"]) == (200, str(len(data)))


@pytest.mark.parametrize(
    "query",
    [{"since": "0001-01-01T00:00:00+23:00"}, {"until": "9999-12-31T23:59:59-23:00"},
     {"cursor": "0001-01-01T00:00:00+23:59~1"}, {"cursor": "2026-01-01T00:00:00Z~99999999999999999999"},
     {"cursor": "2026-01-01T00:00:00Z~-1"}, {"cursor": "2026-01-01T00:00:00~1"}, {"cursor": "~"}],
)  # fmt: skip
async def test_times_and_cursors_that_no_database_takes(site_on_both: Site, query: dict[str, str]) -> None:
    boss = await site_on_both.browser("boss")
    await boss.get("/recordings", 422, **query)
    if not query.get("cursor", "").startswith("2026-01-01T00:00:00Z"):
        await boss.get("/calls", 422, **query)
    if "since" in query:
        await boss.send("POST", "/policy/simulation", {"settings": {}, "source": "calls", **query}, 422)


async def test_audio_is_streamed_with_range(site: Site) -> None:
    path = await real_recording(site, "call-1")
    data = path.read_bytes()
    alice = await site.browser("alice")
    whole = await alice("GET", "/recordings/call-1/audio")
    assert (whole.status_code, whole.content) == (200, data)
    assert whole.headers["accept-ranges"] == "bytes"
    assert whole.headers["content-type"] == "audio/wav"
    assert "inline" in whole.headers["content-disposition"]
    for asked, start, stop in (
        ("bytes=0-99", 0, 100),
        ("bytes=100-", 100, len(data)),
        ("bytes=-44", len(data) - 44, len(data)),
    ):
        part = await alice("GET", "/recordings/call-1/audio", headers={"range": asked})
        assert (part.status_code, part.content) == (206, data[start:stop])
        assert part.headers["content-range"] == f"bytes {start}-{stop - 1}/{len(data)}"
    assert (await alice("GET", "/recordings/call-1/audio", headers={"range": "bytes=99999999-"})).status_code == 416
    head = await alice("HEAD", "/recordings/call-1/audio")
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(data)))
    saved = await alice("GET", "/recordings/call-1/audio", params={"download": True})
    assert 'attachment; filename="call-1.wav"' in saved.headers["content-disposition"]


async def test_what_was_not_captured_is_not_there(site: Site) -> None:
    await real_recording(site, "call-1", CaptureMode.NONE)
    await real_recording(site, "call-2", CaptureMode.AGENT_ONLY)
    boss = await site.browser("boss")
    page = await boss.get("/recordings")
    assert [(r["call_id"], r["audio"], r["channels"]) for r in page["items"]] == [
        ("call-2", True, 1),
        ("call-1", False, 0),
    ]
    for path in ("audio", "peaks"):
        await boss.get(f"/recordings/call-1/{path}", 404)
    assert (await boss.get("/recordings/call-1/manifest"))["outcome"] == "blocked"
    drawn = await boss.get("/recordings/call-2/peaks", points=100)
    assert len(drawn["peaks"]) == 1
    assert (await boss.get("/recordings", outcome="blocked"))["items"][0]["call_id"] == "call-1"


async def test_who_hears_what(site: Site) -> None:
    await real_recording(site, "call-1", user="alice")
    await site.store.accounts.add_user("bob", "acme")
    await real_recording(site, "call-2", user="bob")
    alice, sue, max_ = [await site.browser(name) for name in ("alice", "sue", "max")]
    assert [r["call_id"] for r in (await alice.get("/recordings"))["items"]] == ["call-1"]
    assert [r["call_id"] for r in (await max_.get("/recordings"))["items"]] == ["call-2", "call-1"]
    for path in ("", "/audio", "/peaks", "/manifest"):
        await alice.get(f"/recordings/call-2{path}", 404)
        await sue.get(f"/recordings/call-1{path}", 403)


async def test_a_path_outside_the_tree_and_a_file_that_is_gone(site: Site, tmp_path: Path) -> None:
    secret = tmp_path / "secret.wav"
    secret.write_bytes(b"RIFF")
    for number, path in enumerate(
        (str(secret), "/etc/passwd", "../secret.wav", str(tmp_path / "recordings" / "x.wav"))
    ):
        await store_call(site.store, f"call-{number}")
        await site.store.journal.recording_stored(recorded(f"call-{number}", path=path, manifest_path=path))
    boss = await site.browser("boss")
    for number in range(4):
        for kind in ("audio", "peaks", "manifest"):
            await boss.get(f"/recordings/call-{number}/{kind}", 404)


@pytest.mark.parametrize("frames", [0, 1, 99, 100, 101, 8000, 200_001])
@pytest.mark.parametrize("channels", [1, 2])
def test_peaks_are_the_extremes_of_each_stretch(tmp_path: Path, frames: int, channels: int) -> None:
    random = np.random.default_rng(frames)
    samples = random.integers(-32768, 32768, (frames, channels)).astype(np.int16)
    soundfile.write(tmp_path / "x.wav", samples, 8000, subtype="PCM_16")
    found = peaks(tmp_path / "x.wav", 100)
    width = found["samples_per_point"]
    assert isinstance(width, int)
    assert found["samples"] == frames
    drawn = found["peaks"]
    assert isinstance(drawn, list)
    assert len(drawn) == channels
    for c in range(channels):
        stretches = [samples[at : at + width, c] for at in range(0, frames, width)]
        assert drawn[c] == {
            "min": [int(s.min()) >> 8 for s in stretches],
            "max": [int(s.max()) >> 8 for s in stretches],
        }
        assert len(stretches) <= 100


async def test_live_calls(site: Site) -> None:
    call = LiveCall(
        "call-1", "acme", "alice", "outbound", "+16035550123", "alice", NOW, None, "agent_only", "prospect_two_party",
        True, False,
    )  # fmt: skip
    site.live.calls = [
        call,
        replace(call, call_id="call-2", username="bob"),
        replace(call, call_id="x", organization="other"),
    ]
    boss, alice = await site.browser("boss"), await site.browser("alice")
    assert [c["call_id"] for c in await boss.get("/calls/live")] == ["call-1", "call-2"]
    (own,) = await alice.get("/calls/live")
    assert (own["agent_captured"], own["prospect_captured"], own["answered_at"]) == (True, False, None)


async def test_capture_is_paused_and_resumed(site: Site) -> None:
    """Agents have their own calls, support none; another organization's call is not there."""
    call = LiveCall(
        "call-1", "acme", "alice", "outbound", "+16035550123", "alice", NOW, NOW, "both", "one_party", True, True
    )
    others = [replace(call, call_id="call-2", username="bob"), replace(call, call_id="x", organization="other")]
    site.live.calls = [call, *others]
    boss, alice, sue = [await site.browser(name) for name in ("boss", "alice", "sue")]
    assert (await alice.send("POST", "/calls/call-1/pause"))["paused"] is True
    assert [c["paused"] for c in await boss.get("/calls/live")] == [True, False]
    assert (await boss.send("POST", "/calls/call-1/resume"))["paused"] is False
    await sue.send("POST", "/calls/call-1/pause", status=403)
    await alice.send("POST", "/calls/call-2/pause", status=404)
    for name in ("x", "nothing"):
        await boss.send("POST", f"/calls/{name}/pause", status=404)
    assert [c.paused for c in site.live.calls] == [False, False, False]


@pytest.mark.parametrize("file_format", FileFormat)
async def test_audio_of_every_format_is_played(site: Site, file_format: FileFormat) -> None:
    path = await real_recording(site, "call-1", file_format=file_format)
    boss = await site.browser("boss")
    whole = await boss("GET", "/recordings/call-1/audio")
    assert (whole.status_code, whole.content) == (200, path.read_bytes())
    assert whole.headers["content-type"] == f"audio/{file_format}"
    part = await boss("GET", "/recordings/call-1/audio", headers={"range": "bytes=10-99"})
    assert (part.status_code, part.content) == (206, path.read_bytes()[10:100])
    saved = await boss("GET", "/recordings/call-1/audio", params={"download": True})
    assert f'filename="call-1.{file_format}"' in saved.headers["content-disposition"]
    drawn = await boss.get("/recordings/call-1/peaks", points=100)
    assert (drawn["channels"], drawn["samples"], drawn["sample_rate"]) == (2, 24000, 8000)
    (row,) = (await boss.get("/recordings"))["items"]
    assert (row["seconds"], row["audio"]) == (3.0, True)
