"""SIP messages (RFC 3261 §7): lenient in what is accepted, strict in what is sent.

Text is latin-1 decoded bytes, so a display name in any charset passes unchanged. Headers are kept as they came and
are parsed when somebody asks; compact forms are expanded, folded lines are joined.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

from gateway.sip.errors import REASONS, ParseError
from gateway.sip.uri import NameAddr, Params, bracketed, parse_hostport, parse_params, print_params, split_outside

MAX_MESSAGE = 65535
MAX_HEADERS = 512


@dataclass(frozen=True, slots=True)
class MessageLimits:
    """How large a message may be: bytes in all, header lines, bytes of its body."""

    message: int = MAX_MESSAGE
    headers: int = MAX_HEADERS
    body: int = MAX_MESSAGE


ANY_SIZE = MessageLimits()
MAGIC_COOKIE = "z9hG4bK"
METHODS = ("INVITE", "ACK", "BYE", "CANCEL", "INFO", "OPTIONS", "REGISTER", "UPDATE")
"""What the gateway implements, in the order of its Allow header."""

_COMPACT = {
    "a": "accept-contact", "b": "referred-by", "c": "content-type", "d": "request-disposition", "e": "content-encoding",
    "f": "from", "i": "call-id", "j": "reject-contact", "k": "supported", "l": "content-length", "m": "contact",
    "o": "event", "r": "refer-to", "s": "subject", "t": "to", "u": "allow-events", "v": "via", "x": "session-expires",
    "y": "identity",
}  # fmt: skip
_PRETTY = {
    "call-id": "Call-ID", "cseq": "CSeq", "www-authenticate": "WWW-Authenticate", "mime-version": "MIME-Version",
    "rack": "RAck", "rseq": "RSeq", "sip-etag": "SIP-ETag", "min-se": "Min-SE",
}  # fmt: skip
_SINGLE = ("from", "to", "call-id", "cseq", "max-forwards", "content-length", "content-type")
_TOKEN = re.compile(r"[A-Za-z0-9\-.!%*_+`'~]+\Z")
_START_RESPONSE = re.compile(r"SIP/(\d+)\.(\d+) ([1-6]\d\d)(?: (.*))?\Z", re.IGNORECASE | re.DOTALL)
_START_REQUEST = re.compile(r"(\S+)[ \t]+(\S.*\S|\S)[ \t]+SIP/(\d+)\.(\d+)[ \t]*\Z", re.IGNORECASE | re.DOTALL)
_VIA = re.compile(r"SIP\s*/\s*2\.0\s*/\s*([A-Za-z0-9-]+)\s+(.+)\Z", re.IGNORECASE | re.DOTALL)
_CSEQ = re.compile(r"([0-9]{1,32})\s+(\S+)\Z")
_DIGITS = re.compile(r"[0-9]{1,32}\Z")
_BLANK = re.compile(r"[\0- ]")


def pretty(name: str) -> str:
    """The usual spelling of a header name given in lower case."""
    return _PRETTY.get(name) or "-".join(part.capitalize() for part in name.split("-"))


def canonical(name: str) -> str:
    """A header name in lower case, compact forms expanded."""
    name = name.strip().lower()
    return _COMPACT.get(name, name)


@dataclass(frozen=True, slots=True)
class Via:
    """One Via value (RFC 3261 §20.42)."""

    transport: str
    """Upper case."""
    host: str
    port: int | None = None
    params: Params = ()

    @classmethod
    def parse(cls, text: str) -> Via:
        """Raises ParseError."""
        sender, semicolon, params = text.partition(";")
        return cls(*_sender(sender), parse_params(params) if semicolon else ())

    def param(self, name: str) -> str | None:
        for key, value in self.params:
            if key == name:
                return value or ""
        return None

    @property
    def branch(self) -> str:
        return self.param("branch") or ""

    def with_param(self, name: str, value: str) -> Via:
        """``name`` set, in its place if it was there (``;rport`` gets its value, RFC 3581 §4)."""
        if any(key == name for key, _ in self.params):
            params = tuple([(k, value if k == name else v) for k, v in self.params])
        else:
            params = (*self.params, (name, value))
        return Via(self.transport, self.host, self.port, params)

    def __str__(self) -> str:
        port = f":{self.port}" if self.port is not None else ""
        return f"SIP/2.0/{self.transport} {bracketed(self.host)}{port}{print_params(self.params)}"


@lru_cache(maxsize=2048)
def _sender(text: str) -> tuple[str, str, int | None]:
    """What stands before a Via's parameters: transport, host and port. The same far ends come again and again."""
    match = _VIA.match(text.strip())
    if match is None:
        raise ParseError("Bad Via")
    return match[1].upper(), *parse_hostport(match[2])


@lru_cache(maxsize=2048)
def parse_cseq(text: str) -> tuple[int, str]:
    """``314159 INVITE`` -> (314159, "INVITE"); the number is below 2**31 (RFC 3261 §8.1.1.5)."""
    match = _CSEQ.match(text.strip())
    if match is None or (number := int(match[1])) >= 2**31 or not _TOKEN.match(match[2]):
        raise ParseError("Bad CSeq")
    return number, match[2]


class Message:
    """What requests and responses share. ``headers`` holds (lower-case name, value) in the order of the wire.

    From, To, Call-ID, CSeq and the top Via are parsed once, when they are asked for first: who it is about stays as it
    is from then on (the top Via: but for ``replace_top_via``)."""

    __slots__ = ("_call_id", "_cseq", "_from", "_to", "_via", "body", "defect", "headers")

    def __init__(self, headers: Iterable[tuple[str, str]] = (), body: bytes = b"") -> None:
        self.headers: list[tuple[str, str]] = list(headers)
        self.body = body
        self.defect: ParseError | None = None
        """What was wrong with the frame, for ``check`` to raise: who sent it can still be told."""
        self._via: Via | None = None
        self._from: NameAddr | None = None
        self._to: NameAddr | None = None
        self._call_id = ""
        self._cseq: tuple[int, str] | None = None

    def get(self, name: str) -> str | None:
        """The first value of a header, given in lower case; None when it is absent."""
        for key, value in self.headers:
            if key == name:
                return value
        return None

    def all(self, name: str) -> list[str]:
        """Every header line of that name, not split at commas."""
        return [value for key, value in self.headers if key == name]

    def values(self, name: str) -> list[str]:
        """Every value of that name, lines split at commas (RFC 3261 §7.3.1). Raises ParseError."""
        found: list[str] = []
        for key, line in self.headers:
            if key == name:
                found += [part for raw in split_outside(line, ",") if (part := raw.strip())]
        return found

    def tokens(self, name: str) -> set[str]:
        """The values of a list of option tags or methods, in lower case."""
        return {value.lower() for value in self.values(name)}

    @property
    def via(self) -> Via:
        """The topmost Via; raises ParseError."""
        if self._via is None:
            line = self.get("via")
            if line is None:
                raise ParseError("Missing Via")
            self._via = Via.parse(next(iter(split_outside(line, ","))))
        return self._via

    def replace_top_via(self, via: Via) -> None:
        """Put ``via`` in the place of the topmost one."""
        for index, (key, value) in enumerate(self.headers):
            if key == "via":
                rest = list(split_outside(value, ","))[1:]
                self.headers[index] = ("via", ",".join([str(via), *rest]))
                break
        self._via = via

    def _address(self, name: str) -> NameAddr:
        value = self.get(name)
        if value is None:
            raise ParseError(f"Missing {pretty(name)}")
        return NameAddr.parse(value)

    @property
    def from_(self) -> NameAddr:
        if self._from is None:
            self._from = self._address("from")
        return self._from

    @property
    def to(self) -> NameAddr:
        if self._to is None:
            self._to = self._address("to")
        return self._to

    @property
    def call_id(self) -> str:
        if not self._call_id:
            value = self.get("call-id")
            if not value or _BLANK.search(value):
                raise ParseError("Bad Call-ID" if value is not None else "Missing Call-ID")
            self._call_id = value
        return self._call_id

    @property
    def cseq(self) -> tuple[int, str]:
        if self._cseq is None:
            value = self.get("cseq")
            if value is None:
                raise ParseError("Missing CSeq")
            self._cseq = parse_cseq(value)
        return self._cseq

    @property
    def contact(self) -> NameAddr | None:
        """The first Contact; None when there is none or it is ``*``."""
        values = self.values("contact")
        return NameAddr.parse(values[0]) if values and values[0] != "*" else None

    @property
    def content_type(self) -> str:
        """The media type in lower case without parameters, "" when absent."""
        return (self.get("content-type") or "").partition(";")[0].strip().lower()

    def start_line(self) -> str:
        raise NotImplementedError

    def __bytes__(self) -> bytes:
        lines = [self.start_line()]
        lines += [f"{_spelled(key)}: {value}" for key, value in self.headers if key != "content-length"]
        lines.append(f"Content-Length: {len(self.body)}\r\n\r\n")
        return "\r\n".join(lines).encode("latin-1", "replace") + self.body

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.start_line()!r}>"


_spelled = lru_cache(maxsize=512)(pretty)


class Request(Message):
    """A SIP request. ``uri`` is the Request-URI as text."""

    __slots__ = ("method", "uri")
    version: ClassVar[str] = "SIP/2.0"

    def __init__(self, method: str, uri: str, headers: Iterable[tuple[str, str]] = (), body: bytes = b"") -> None:
        super().__init__(headers, body)
        self.method = method
        self.uri = uri

    def start_line(self) -> str:
        return f"{self.method} {self.uri} {self.version}"

    @property
    def max_forwards(self) -> int:
        """70 where it is absent (RFC 3261 §16.6)."""
        value = self.get("max-forwards")
        if value is None:
            return 70
        if not _DIGITS.match(value := value.strip()) or int(value) > 255:
            raise ParseError("Bad Max-Forwards")
        return int(value)

    def response(
        self, status: int, reason: str = "", *, to_tag: str | None = None, headers: Iterable[tuple[str, str]] = ()
    ) -> Response:
        """A response with the headers of RFC 3261 §8.2.6.2; ``to_tag`` is added where To has none yet."""
        copied = []
        for header in self.headers:
            key = header[0]
            if key in ("via", "from", "call-id", "cseq"):
                copied.append(header)
            elif key == "to":
                copied.append((key, tagged(header[1], to_tag)) if to_tag and status > 100 else header)
        copied.extend(headers)
        return Response(status, reason, copied)

    def check(self) -> None:
        """Raise SipError if a mandatory header is missing, doubled or wrong (RFC 3261 §8.1.1, §8.2)."""
        if self.defect is not None:
            raise self.defect
        names = [key for key, _ in self.headers]
        if len(set(names)) < len(names):
            for name in _SINGLE:
                if names.count(name) > 1:
                    raise ParseError(f"Multiple {pretty(name)}")
        number_method = self.cseq[1]
        if number_method != self.method:
            raise ParseError("CSeq method does not match")
        _ = self.via, self.call_id, self.max_forwards, self.to
        if not self.from_.tag and self.via.branch.startswith(MAGIC_COOKIE):
            raise ParseError("Missing From tag")


class Response(Message):
    """A SIP response."""

    __slots__ = ("reason", "status")

    def __init__(
        self, status: int, reason: str = "", headers: Iterable[tuple[str, str]] = (), body: bytes = b""
    ) -> None:
        super().__init__(headers, body)
        self.status = status
        self.reason = reason or REASONS.get(status, "")

    def start_line(self) -> str:
        return f"SIP/2.0 {self.status} {self.reason}"

    def check(self) -> None:
        """Raise ParseError if what matching needs is missing or wrong; such a response is dropped."""
        if self.defect is not None:
            raise self.defect
        _ = self.via, self.cseq, self.call_id, self.from_, self.to


_SHORT = {name: letter for letter, name in _COMPACT.items()}


def compact(message: Message, *, length: bool = True) -> bytes:
    """A message in its shortest spelling: compact header names (RFC 3261 §7.3.3); no Content-Length if so wished."""
    lines = [message.start_line()]
    lines += [
        f"{_SHORT.get(key) or _spelled(key)}:{value}" for key, value in message.headers if key != "content-length"
    ]
    lines.append(f"l:{len(message.body)}\r\n\r\n" if length else "\r\n")
    return "\r\n".join(lines).encode("latin-1", "replace") + message.body


def tagged(to: str, tag: str) -> str:
    """A To value with ``tag`` added where it has none."""
    try:
        address = NameAddr.parse(to)
    except ParseError:
        return to
    if address.tag is not None:
        return to
    if "<" in to or ";" not in to:
        return f"{to};tag={tag}"
    return f"<{address.uri_text}>{print_params(address.params)};tag={tag}"


def parse(data: bytes, limits: MessageLimits = ANY_SIZE) -> Request | Response:
    """One message out of one datagram (or one frame of a stream); raises ParseError.

    Only the frame is looked at: start line, header lines, body by Content-Length (RFC 3261 §18.3).
    """
    if len(data) > limits.message:
        raise ParseError("Message Too Large", 513)
    head, body = _split(data)
    # a CR alone ends a line for some, so it must never be passed on within a value
    lines = head.decode("latin-1").replace("\r\n", "\n").replace("\r", " ").lstrip("\n").split("\n")
    if len(lines) > limits.headers:
        raise ParseError("Too many headers")
    message = _start(lines[0].rstrip())
    _read_headers(message, lines)
    message.body = _body(message, body)
    if len(message.body) > limits.body:
        message.defect = message.defect or ParseError("Request Entity Too Large", 413)
    return message


def _split(data: bytes) -> tuple[bytes, bytes]:
    data = data.lstrip(b"\r\n")
    head, separator, body = data.partition(b"\r\n\r\n")
    if not separator or b"\n\n" in head:
        head, separator, body = data.partition(b"\n\n")
    if not separator:
        head = data
    if b"\0" in head:
        raise ParseError("NUL in header")
    return head, body


def _start(line: str) -> Request | Response:
    if match := _START_RESPONSE.match(line):
        if (match[1], match[2]) != ("2", "0"):
            raise ParseError("Version Not Supported", 505)
        return Response(int(match[3]), match[4] or "")
    match = _START_REQUEST.match(line)
    if match is None or not _TOKEN.match(match[1]):
        raise ParseError("Bad start line")
    request = Request(match[1], match[2])
    if (match[3], match[4]) != ("2", "0"):
        request.defect = ParseError("Version Not Supported", 505)
    return request


def _read_headers(message: Message, lines: list[str]) -> None:
    headers = message.headers
    for line in lines[1:]:
        if line[:1] in (" ", "\t"):
            if headers:
                key, value = headers[-1]
                headers[-1] = (key, f"{value} {line.strip()}".strip())
            continue
        spelled, colon, value = line.partition(":")
        if colon and (name := _named(spelled) if len(spelled) < 32 else _name_of(spelled)):
            headers.append((name, value.strip()))


def _name_of(spelled: str) -> str:
    """The canonical name of a header as it was spelled, "" for what is no name."""
    name = canonical(spelled)
    return name if _TOKEN.match(name) else ""


_named = lru_cache(maxsize=512)(_name_of)


def _body(message: Message, body: bytes) -> bytes:
    length = message.get("content-length")
    if length is None or (length == "0" and not body):
        return body
    if not _DIGITS.match(length):
        message.defect = message.defect or ParseError("Bad Content-Length")
        return body
    if int(length) > len(body):
        message.defect = message.defect or ParseError("Body shorter than Content-Length")
        return body
    return body[: int(length)]
