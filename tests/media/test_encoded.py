"""Payload that can't be decoded: kept as it came where the settings ask for it, and nowhere else."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from media.encoded import EncodedFile, name_for, repair
from media.engine import CaptureMode, Outcome, Side
from media.recovery import recover
from scripts.audit_recordings import audit
from tests.support.encoders import CODECS
from tests.support.recordings import Hand, Take, quiet_recorder
from tests.support.rtp_stream import Captured

DAY = Path("acme/2026/11/24")


def amr(seconds: float, seed: int = 1) -> list[Captured]:
    """AMR frames of 32 bytes that nobody here decodes."""
    return [
        Captured((i + 1) * 20_000_000, 100 + i, 5000 + 160 * i, bytes([seed, i % 256]) + bytes(30), pt=99)
        for i in range(int(seconds * 50))
    ]


def payloads(path: Path) -> list[tuple[int, int, int, bytes]]:
    """What an rtpdump file holds, read another way: (ms, payload type, sequence number, payload)."""
    data = path.read_bytes()
    head, _, rest = data.partition(b"\n")
    assert head.startswith(b"#!rtpplay1.0 ")
    rest, found = rest[16:], []
    while rest:
        length, plen, offset = struct.unpack(">HHI", rest[:8])
        packet = rest[8:length]
        assert len(packet) == plen
        assert packet[0] == 0x80
        found.append((offset, packet[1] & 0x7F, struct.unpack(">H", packet[2:4])[0], packet[12:]))
        rest = rest[length:]
    return found


def take_of(root: Path, mode: CaptureMode, keep: bool, seconds: float = 3) -> Take:
    hand = Hand()
    packets = {side: amr(seconds, side + 1) for side in Side}
    take = Take(quiet_recorder(root, hand, keep_undecodable=keep), hand, mode, packets=packets)
    for side in Side:
        take.recording.set_codecs(side, CODECS, hand.ns)
    return take


def test_it_is_kept_where_the_settings_ask(tmp_path: Path) -> None:
    result = take_of(tmp_path, CaptureMode.BOTH, keep=True).finish()
    assert result.outcome is Outcome.DEGRADED
    assert result.problems == tuple(f"{leg}: 150 packets of AMR could not be decoded" for leg in ("agent", "prospect"))
    manifest: dict[str, Any] = json.loads(result.manifest_path.read_text())  # type: ignore[union-attr]
    for side in Side:
        leg = side.name.lower()
        about = manifest["legs"][leg]["encoded"]
        assert (about["file"], about["packets"], about["format"]) == (f"call-1.{leg}.rtpdump", 150, "rtpdump")
        found = payloads(tmp_path / DAY / about["file"])
        assert [row[3] for row in found] == [packet.payload for packet in amr(3, side + 1)]
        assert [row[2] for row in found] == list(range(100, 250))
        assert {row[1] for row in found} == {99}
        assert [row[0] for row in found] == [20 * (i + 1) for i in range(150)]
    assert audit(tmp_path).findings == []


def test_it_is_not_kept_where_they_do_not(tmp_path: Path) -> None:
    result = take_of(tmp_path, CaptureMode.BOTH, keep=False).finish()
    assert result.outcome is Outcome.DEGRADED
    assert sorted(p.name for p in (tmp_path / DAY).iterdir()) == ["call-1.json", "call-1.wav"]


def test_only_of_the_leg_that_may_be_captured(tmp_path: Path) -> None:
    take_of(tmp_path, CaptureMode.AGENT_ONLY, keep=True).finish()
    names = sorted(p.name for p in (tmp_path / DAY).iterdir())
    assert names == ["call-1.agent.rtpdump", "call-1.json", "call-1.wav"]
    assert audit(tmp_path).findings == []
    (tmp_path / DAY / "call-1.prospect.rtpdump").write_bytes(b"x")
    assert [f.kind for f in audit(tmp_path).findings] == ["forbidden audio"]


def test_the_auditor_sees_what_was_changed_or_is_gone(tmp_path: Path) -> None:
    take_of(tmp_path, CaptureMode.BOTH, keep=True).finish()
    path = tmp_path / DAY / "call-1.agent.rtpdump"
    path.write_bytes(path.read_bytes() + b"x")
    assert [f.kind for f in audit(tmp_path).findings] == ["changed audio"]
    path.unlink()
    assert [f.kind for f in audit(tmp_path).findings] == ["missing file"]
    (tmp_path / DAY / "stray.agent.rtpdump").write_bytes(b"x")
    assert sorted(f.kind for f in audit(tmp_path).findings) == ["missing file", "orphan audio"]


def test_a_kill_leaves_whole_packets(tmp_path: Path) -> None:
    take_of(tmp_path, CaptureMode.BOTH, keep=True).run(2)
    part = tmp_path / DAY / "call-1.agent.rtpdump.part"
    whole = len(payloads(part))
    part.write_bytes(part.read_bytes()[:-5])
    (result,) = recover(tmp_path)
    manifest = json.loads(result.manifest_path.read_text())  # type: ignore[union-attr]
    assert manifest["legs"]["agent"]["encoded"]["packets"] == whole - 1
    assert manifest["legs"]["prospect"]["encoded"]["packets"] == whole
    assert not list(tmp_path.rglob("*.part*"))
    assert audit(tmp_path).findings == []


@pytest.mark.parametrize("cut", [0, 1, 7, 8, 30, 51, 52, 53, 103])
def test_repair_counts_whole_packets(tmp_path: Path, cut: int) -> None:
    hand = Hand()
    file = EncodedFile(tmp_path / f"{name_for('c', 'agent')}.part", hand.clock().utc(), hand.ns)
    for packet in amr(0.1):
        from media.packets import records

        file.add(next(records(replace(packet, at=packet.at).record(hand.ns))))
    path = file.finish()
    assert path.name == "c.agent.rtpdump"
    size = path.stat().st_size
    with path.open("r+b") as opened:
        opened.truncate(size - cut)
    assert repair(path) == 5 - -(-cut // 52)
    assert len(payloads(path)) == repair(path)


@pytest.mark.parametrize("content", [b"", b"#!rtpplay1.0", b"RIFF" + bytes(100)])
def test_repair_refuses_what_is_none(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.rtpdump.part"
    path.write_bytes(content)
    with pytest.raises(ValueError):
        repair(path)
