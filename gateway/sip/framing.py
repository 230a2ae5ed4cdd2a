"""Messages out of a byte stream (RFC 3261 §18.3, §7.5; keep-alives of RFC 5626 §3.5.1)."""

from __future__ import annotations

import re

from gateway.sip.errors import ParseError
from gateway.sip.message import MAX_MESSAGE

PONG = b"\r\n"
_LENGTH = re.compile(rb"^(?:content-length|l)[ \t]*:[ \t]*([0-9]{1,10})[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)


class Framer:
    """Cuts one connection's bytes into messages, split or joined as they may come.

    ``pings`` counts the double CRLFs that are owed a PONG; the shell answers and clears them.
    """

    def __init__(self, max_message: int = MAX_MESSAGE) -> None:
        self._max = max_message
        self._buffer = bytearray()
        self._scanned = 0
        self.pings = 0

    def feed(self, data: bytes) -> list[bytes]:
        """Take what came; give the complete messages. Raises ParseError when the stream can't be followed any more
        (a message of more than ``max_message`` bytes, or without an end of its headers in that many): close it then."""
        self._buffer += data
        frames = []
        while (frame := self._next()) is not None:
            frames.append(frame)
        return frames

    @property
    def partial(self) -> bool:
        """The beginning of a message is waiting for the rest of it."""
        return len(self._buffer) > len(b"\r\n\r")

    def _skip_keep_alives(self) -> None:
        buffer = self._buffer
        while buffer.startswith(b"\r\n\r\n"):
            del buffer[:4]
            self.pings += 1
            self._scanned = 0
        # a lone CRLF before a message is ignored (§7.5), but it may be the first half of a ping
        if buffer.startswith(b"\r\n") and len(buffer) > 3:
            del buffer[:2]
            self._scanned = 0

    def _next(self) -> bytes | None:
        self._skip_keep_alives()
        buffer = self._buffer
        end = buffer.find(b"\r\n\r\n", max(0, self._scanned - 3))
        if end < 0:
            self._scanned = len(buffer)
            if len(buffer) > self._max:
                raise ParseError("Message Too Large", 513)
            return None
        match = _LENGTH.search(buffer, 0, end)
        total = end + 4 + (int(match[1]) if match else 0)
        if total > self._max:
            raise ParseError("Message Too Large", 513)
        if len(buffer) < total:
            self._scanned = end
            return None
        frame = bytes(buffer[:total])
        del buffer[:total]
        self._scanned = 0
        return frame
