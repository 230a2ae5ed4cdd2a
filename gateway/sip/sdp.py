"""Session descriptions (RFC 8866): lenient in what is accepted, strict in what is sent.

Values are frozen; they parse and print themselves. Text is latin-1 decoded bytes. Names are never resolved: an address
that is no IP literal counts as none. What nobody here needs (i=, u=, e=, p=, k=, r=, z=) is skipped.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import lru_cache
from typing import Final

from gateway.sip.errors import SipError
from gateway.sip.uri import ip_version

Attributes = tuple[tuple[str, str | None], ...]

MAX_SIZE: Final = 65_535
MAX_LINES: Final = 2_000
MAX_MEDIA: Final = 64
MAX_FORMATS: Final = 256
_OFTEN: Final = 4096
"""Up to this size a description is parsed once only, however often it comes: in a 183 and the 200, in refreshes."""

_NUMBER: Final = re.compile(r"[0-9]{1,20}\Z")
_TOKEN: Final = re.compile(r"[\x21\x23-\x27\x2a\x2b\x2d\x2e\x30-\x39\x41-\x5a\x5e-\x7e]+\Z")
_RTPMAP: Final = re.compile(r"([0-9]{1,3})\s+([^\s/]+)\s*/\s*([0-9]{1,9})(?:\s*/\s*([0-9]{1,3}))?\s*\Z")


class SdpError(SipError):
    """A session description that nothing sensible can be made of; ``status`` is what its sender should hear."""

    sip_status = 400

    def __init__(self, reason: str) -> None:
        super().__init__(self.sip_status, reason)


class NotAcceptable(SdpError):
    """A session description that is well-formed, but asks for what the gateway cannot do (RFC 3261 §21.4.26)."""

    sip_status = 488


@dataclass(frozen=True, slots=True)
class Codec:
    """An RTP payload format: encoding name in upper case, RTP clock rate in Hz, channels (RFC 8866 §6.6)."""

    name: str
    clock_rate: int
    channels: int = 1


STATIC_CODECS: Final[dict[int, Codec]] = {
    0: Codec("PCMU", 8000), 3: Codec("GSM", 8000), 4: Codec("G723", 8000), 5: Codec("DVI4", 8000),
    6: Codec("DVI4", 16000), 7: Codec("LPC", 8000), 8: Codec("PCMA", 8000), 9: Codec("G722", 8000),
    10: Codec("L16", 44100, 2), 11: Codec("L16", 44100), 12: Codec("QCELP", 8000), 13: Codec("CN", 8000),
    14: Codec("MPA", 90000), 15: Codec("G728", 8000), 16: Codec("DVI4", 11025), 17: Codec("DVI4", 22050),
    18: Codec("G729", 8000), 25: Codec("CELB", 90000), 26: Codec("JPEG", 90000), 28: Codec("NV", 90000),
    31: Codec("H261", 90000), 32: Codec("MPV", 90000), 33: Codec("MP2T", 90000), 34: Codec("H263", 90000),
}  # fmt: skip
"""The static payload types (RFC 3551 §6), for formats without an rtpmap."""


class Direction(StrEnum):
    """Who sends, as seen by the one whose description it is (RFC 8866 §6.7)."""

    SENDRECV = "sendrecv"
    SENDONLY = "sendonly"
    RECVONLY = "recvonly"
    INACTIVE = "inactive"

    @classmethod
    def of(cls, *, sends: bool, receives: bool) -> Direction:
        if sends:
            return cls.SENDRECV if receives else cls.SENDONLY
        return cls.RECVONLY if receives else cls.INACTIVE

    @property
    def sends(self) -> bool:
        return self in (Direction.SENDRECV, Direction.SENDONLY)

    @property
    def receives(self) -> bool:
        return self in (Direction.SENDRECV, Direction.RECVONLY)

    @property
    def reversed(self) -> Direction:
        """The same stream as the other end sees it."""
        return Direction.of(sends=self.receives, receives=self.sends)

    def answering(self, offered: Direction) -> Direction:
        """What of this direction is a legal answer to ``offered`` (RFC 3264 §6.1)."""
        return Direction.of(sends=self.sends and offered.receives, receives=self.receives and offered.sends)


_DIRECTIONS: Final[dict[str, Direction]] = {direction.value: direction for direction in Direction}


@dataclass(frozen=True, slots=True)
class Origin:
    """The ``o=`` line (RFC 8866 §5.2). ``host`` is as it came; the numbers are below 2**64."""

    username: str = "-"
    session_id: int = 0
    version: int = 0
    host: str = "0.0.0.0"

    def __str__(self) -> str:
        return f"o={self.username} {self.session_id} {self.version} {_typed(self.host)}"


@dataclass(frozen=True, slots=True)
class Media:
    """One media description (RFC 8866 §5.14)."""

    kind: str
    """``audio``, ``video``, …, in lower case."""
    port: int
    protocol: str
    """In upper case: ``RTP/AVP``."""
    formats: tuple[str, ...]
    connection: str | None = None
    """Its own ``c=`` address; None where the session's holds, "" where it is no IP literal."""
    bandwidth: tuple[tuple[str, int], ...] = ()
    attributes: Attributes = ()
    port_count: int = 1

    def get(self, name: str) -> str | None:
        """The first value of an attribute; "" for one without a value; None when it is absent."""
        return _attribute(self.attributes, name)

    @property
    def payload_types(self) -> tuple[int, ...]:
        """The formats that are RTP payload types (0..127), in order, each once."""
        return _payload_types(self.formats)

    def codecs(self) -> dict[int, Codec]:
        """Payload type to codec, for those formats that have an rtpmap or a static meaning."""
        return codecs_of(self.payload_types, self.attributes)

    def fmtp(self, payload_type: int) -> str | None:
        """The format parameters of a payload type."""
        for name, value in self.attributes:
            number, _, rest = (value or "").partition(" ")
            if name == "fmtp" and number == str(payload_type):
                return rest.strip()
        return None

    @property
    def ptime(self) -> int | None:
        """Milliseconds of media in a packet (RFC 8866 §6.4)."""
        return _whole(self.get("ptime"))

    @property
    def maxptime(self) -> int | None:
        return _whole(self.get("maxptime"))

    def lines(self) -> Iterable[str]:
        count = f"/{self.port_count}" if self.port_count > 1 else ""
        yield f"m={self.kind} {self.port}{count} {self.protocol} {' '.join(self.formats)}"
        if self.connection is not None:
            yield f"c={_typed(self.connection)}"
        yield from _tail(self.bandwidth, self.attributes)


@dataclass(frozen=True, slots=True)
class SessionDescription:
    """A session description: its session part, and one ``Media`` for each m= line."""

    origin: Origin = field(default_factory=Origin)
    name: str = "-"
    connection: str | None = None
    """The session's ``c=`` address; None where there is none, "" where it is no IP literal."""
    bandwidth: tuple[tuple[str, int], ...] = ()
    timing: str = "0 0"
    attributes: Attributes = ()
    media: tuple[Media, ...] = ()

    @classmethod
    def parse(cls, data: bytes) -> SessionDescription:
        """Raises SdpError."""
        return _parse_again(data) if len(data) <= _OFTEN else _parse(data)

    def __bytes__(self) -> bytes:
        lines = ["v=0", str(self.origin), f"s={self.name or '-'}"]
        if self.connection is not None:
            lines.append(f"c={_typed(self.connection)}")
        lines += (f"b={kind}:{value}" for kind, value in self.bandwidth)
        lines.append(f"t={self.timing}")
        lines += _tail((), self.attributes)
        for media in self.media:
            lines += media.lines()
        return ("\r\n".join(lines) + "\r\n").encode("latin-1", "replace")

    def address(self, media: Media) -> str | None:
        """The address for one of ``media``: an IP literal, or None when there is none (a name is none)."""
        host = media.connection if media.connection is not None else self.connection
        return host or None

    def direction(self, media: Media) -> Direction:
        """The media's own direction, else the session's, else sendrecv (RFC 8866 §6.7)."""
        for name, _ in (*reversed(media.attributes), *reversed(self.attributes)):
            if name in _DIRECTIONS:
                return _DIRECTIONS[name]
        return Direction.SENDRECV

    def rtcp(self, media: Media) -> tuple[str, int] | None:
        """Where RTCP for a media goes: ``a=rtcp`` (RFC 3605), else the port after RTP; None when there is no place."""
        host, port = self.address(media), media.port + 1
        number, _, rest = (media.get("rtcp") or "").strip().partition(" ")
        if _NUMBER.match(number):
            port = int(number)
            parts = rest.split()
            if parts:
                host = literal(parts[-1]) or None
        return (host, port) if host and media.port and 0 < port <= 65535 else None

    def with_media(self, *media: Media) -> SessionDescription:
        return replace(self, media=media)


def literal(text: str) -> str:
    """The IP literal of a connection address (brackets, and ``/ttl`` for multicast, are taken off); "" for others."""
    host = text.strip().partition("/")[0].removeprefix("[").removesuffix("]")
    return host.lower() if ip_version(host) else ""


def _typed(host: str) -> str:
    """``IN IP4 host`` or ``IN IP6 host``; what is no literal is written as no address (RFC 6761 §6.4)."""
    version = ip_version(host)
    return f"IN IP{version} {host}" if version else "IN IP4 none.invalid"


def _tail(bandwidth: tuple[tuple[str, int], ...], attributes: Attributes) -> Iterable[str]:
    for kind, number in bandwidth:
        yield f"b={kind}:{number}"
    for name, value in attributes:
        yield f"a={name}" if value is None else f"a={name}:{value}"


def _attribute(attributes: Attributes, name: str) -> str | None:
    for key, value in attributes:
        if key == name:
            return value or ""
    return None


def codecs_of(payload_types: tuple[int, ...], attributes: Attributes) -> dict[int, Codec]:
    """Payload type to codec, for those of ``payload_types`` that have an rtpmap or a static meaning."""
    return dict(_codecs(payload_types, attributes))


# the same few wordings come with every call
@lru_cache(maxsize=512)
def _codecs(payload_types: tuple[int, ...], attributes: Attributes) -> tuple[tuple[int, Codec], ...]:
    mapped = {**STATIC_CODECS, **_rtpmaps(attributes)}
    return tuple((number, mapped[number]) for number in payload_types if number in mapped)


@lru_cache(maxsize=512)
def _payload_types(formats: tuple[str, ...]) -> tuple[int, ...]:
    numbers = (int(text) for text in formats if _NUMBER.match(text))
    return tuple(dict.fromkeys(number for number in numbers if number <= 127))


def _rtpmaps(attributes: Attributes) -> dict[int, Codec]:
    found: dict[int, Codec] = {}
    for name, value in attributes:
        if name == "rtpmap" and (match := _RTPMAP.match(value or "")) and (rate := int(match[3])):
            found.setdefault(int(match[1]), Codec(match[2].upper(), rate, max(1, int(match[4] or 1))))
    return found


def _whole(text: str | None) -> int | None:
    """A whole number of milliseconds; a fraction is cut off, anything else counts as absent."""
    number = (text or "").strip().partition(".")[0]
    return int(number) if _NUMBER.match(number) else None


# -- parsing ---------------------------------------------------------------------------------------------------------


_MediaLine = tuple[str, int, str, tuple[str, ...], int]


class _Section:
    """What is collected of the session part or of one media description."""

    __slots__ = ("attributes", "bandwidth", "connection")

    def __init__(self) -> None:
        self.connection: str | None = None
        self.bandwidth: list[tuple[str, int]] = []
        self.attributes: list[tuple[str, str | None]] = []

    def take(self, kind: str, value: str) -> None:
        if kind == "c":
            self.connection = _connection(value) or self.connection or ""
        elif kind == "b":
            name, _, number = value.partition(":")
            if _TOKEN.match(name.strip()) and _NUMBER.match(number.strip()):
                self.bandwidth.append((name.strip(), int(number.strip())))
        elif kind == "a":
            name, colon, rest = value.partition(":")
            if _TOKEN.match(name := name.strip()):
                self.attributes.append((_spelled(name), rest.strip() if colon else None))


def _spelled(name: str) -> str:
    """Attribute names are case-sensitive (RFC 8866 §5.13), but directions are also sent in capitals."""
    return lowered if (lowered := name.lower()) in _DIRECTIONS else name


def _parse(data: bytes) -> SessionDescription:
    if len(data) > MAX_SIZE:
        raise SdpError("Session description too large")
    if b"\0" in data:
        raise SdpError("NUL in session description")
    lines = data.decode("latin-1").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    if len(lines) > MAX_LINES:
        raise SdpError("Session description has too many lines")
    session = _Section()
    header: dict[str, str] = {}
    sections: list[tuple[_MediaLine, _Section]] = []
    section = session
    for line in lines:
        kind, equals, value = line.strip().partition("=")
        if not equals or len(kind := kind.strip()) != 1:
            continue
        value = value.strip()
        if kind == "m":
            section = _Section()
            sections.append((_media_line(value), section))
            if len(sections) > MAX_MEDIA:
                raise SdpError("Session description has too many streams")
        elif kind in "cba":
            section.take(kind, value)
        elif kind in "vost" and section is session:
            header.setdefault(kind, value)
    return _assemble(header, session, sections)


_parse_again = lru_cache(maxsize=256)(_parse)


def _assemble(
    header: dict[str, str], session: _Section, sections: list[tuple[_MediaLine, _Section]]
) -> SessionDescription:
    if header.get("v", "0") != "0":
        raise SdpError("Session description version not supported")
    if not header and not sections:
        raise SdpError("Not a session description")
    timing = header.get("t", "0 0").split()
    return SessionDescription(
        _origin(header.get("o", "")),
        header.get("s") or "-",
        session.connection,
        tuple(session.bandwidth),
        " ".join(timing) if len(timing) == 2 and all(map(_NUMBER.match, timing)) else "0 0",
        tuple(session.attributes),
        tuple(
            Media(kind, port, protocol, formats, s.connection, tuple(s.bandwidth), tuple(s.attributes), count)
            for (kind, port, protocol, formats, count), s in sections
        ),
    )


def _origin(text: str) -> Origin:
    """Half an o= line is taken for what it is worth: nothing hangs on a far end's."""
    parts = text.split()
    if len(parts) < 6:
        return Origin()
    numbers = [int(p) % 2**64 if _NUMBER.match(p) else 0 for p in parts[1:3]]
    return Origin(parts[0], numbers[0], numbers[1], literal(parts[-1]) or "0.0.0.0")


def _connection(text: str) -> str:
    """The address of ``IN IP4 192.0.2.1``; "" if it is no IP literal of that type."""
    parts = text.split()
    if len(parts) < 3 or parts[0].upper() != "IN":
        return ""
    host = literal(parts[2])
    return host if host and parts[1].upper() == f"IP{ip_version(host)}" else ""


def _media_line(text: str) -> _MediaLine:
    """Kind, port, protocol, formats, number of ports."""
    parts = text.split()
    if len(parts) < 4:
        raise SdpError("Bad m= line")
    number, _, count = parts[1].partition("/")
    if not _NUMBER.match(number) or int(number) > 65535:
        raise SdpError("Bad media port")
    if len(parts) > MAX_FORMATS + 3:
        raise SdpError("Too many formats")
    formats = [part for part in parts[3:] if _TOKEN.match(part)]
    if not formats or not _TOKEN.match(parts[0]) or not all(_TOKEN.match(p) for p in parts[2].split("/")):
        raise SdpError("Bad m= line")
    ports = int(count) if _NUMBER.match(count) else 1
    return parts[0].lower(), int(number), parts[2].upper(), tuple(formats), max(1, min(ports, 32768))
