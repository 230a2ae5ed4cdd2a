"""Payload that can't be decoded, kept as it came: rtpdump files, which Wireshark and rtptools play.

One for each leg, only where the leg is captured and the settings ask for it. The file only grows; what a crash left is
cut after its last whole packet.
"""

from __future__ import annotations

import os
import struct
from datetime import datetime
from pathlib import Path

from media.packets import Packet

SUFFIX = ".rtpdump"
_MAGIC = b"#!rtpplay1.0 0.0.0.0/0\n"
_HEADER = struct.Struct(">IIIHH")
_RECORD = struct.Struct(">HHI")
_RTP = struct.Struct(">BBHII")
_START = len(_MAGIC) + _HEADER.size


def name_for(call_id: str, leg: str) -> str:
    """The file's name, without a directory."""
    return f"{call_id}.{leg}{SUFFIX}"


class EncodedFile:
    """One growing file; ``path`` ends in ``.part`` until ``finish``. Methods raise OSError."""

    def __init__(self, path: Path, started: datetime, start_ns: int) -> None:
        self.path = path
        self.packets = 0
        self._start_ns = start_ns
        seconds = int(started.timestamp())
        made = path.with_name(path.name + ".tmp")
        self._descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o640)
        try:
            self._write(_MAGIC + _HEADER.pack(seconds & 0xFFFFFFFF, started.microsecond, 0, 0, 0))
            made.replace(path)  # not before it can be read
        except OSError:
            os.close(self._descriptor)
            raise

    def _write(self, data: bytes) -> None:
        done = 0
        while done < len(data):
            done += os.write(self._descriptor, data[done:])

    def add(self, packet: Packet) -> None:
        """Append one packet, with a header rebuilt from what the relay keeps of it."""
        rtp = _RTP.pack(0x80, packet.marker << 7 | packet.pt, packet.seq, packet.ts, packet.ssrc) + packet.payload
        if len(rtp) > 0xFFFF - _RECORD.size:
            return
        offset = max(0, packet.at - self._start_ns) // 1_000_000 & 0xFFFFFFFF
        self._write(_RECORD.pack(len(rtp) + _RECORD.size, len(rtp), offset) + rtp)
        self.packets += 1

    def finish(self) -> Path:
        """On the disk, under its final name, which is given."""
        try:
            os.fsync(self._descriptor)
        finally:
            os.close(self._descriptor)
        final = self.path.with_suffix("")
        self.path.replace(final)
        return final


def repair(path: Path) -> int:
    """Cut a file that a crash left after its last whole packet; gives the number of packets.

    Raises OSError, or ValueError for what is no such file.
    """
    with path.open("r+b") as file:
        data = file.read()
        if len(data) < _START or not data.startswith(_MAGIC):
            raise ValueError(f"{path.name} is not an rtpdump file")
        packets, at = 0, _START
        while at + _RECORD.size <= len(data):
            length = _RECORD.unpack_from(data, at)[0]
            if length < _RECORD.size or at + length > len(data):
                break
            packets, at = packets + 1, at + length
        file.truncate(at)
        file.flush()
        os.fsync(file.fileno())
    return packets
