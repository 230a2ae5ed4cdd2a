"""SIP, SIPS and tel URIs, and name-addr (RFC 3261 §19.1, §20.10, §25.1; RFC 3966).

Lenient in what is accepted (RFC 4475 shows what is sent), strict in what is printed. Text is latin-1 decoded bytes,
so that whatever came in can go out unchanged.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from urllib.parse import quote, unquote

from gateway.sip.errors import ParseError

Params = tuple[tuple[str, str | None], ...]

_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*)\Z")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*\Z")
_THREE_COLONS = re.compile(r":::(?=[0-9]{1,3}(?:\.[0-9]{1,3}){3}\Z)")
"""What RFC 3261's grammar makes of ``::`` before an IPv4 address, to be borne (RFC 5118 §4.10)."""
_NUMBER = re.compile(r"[0-9]{1,5}\Z")


def is_ip(host: str) -> bool:
    """Whether ``host`` is an IPv4 or IPv6 literal (without brackets)."""
    return ip_version(host) != 0


@lru_cache(maxsize=4096)
def ip_version(host: str) -> int:
    """4 or 6 for an IP literal, 0 for everything else (scoped IPv6 included)."""
    if "%" in host:
        return 0
    try:
        return ipaddress.ip_address(host).version
    except ValueError:
        return 0


def bracketed(host: str) -> str:
    """``host`` as it is written in a URI or Via: IPv6 literals in brackets (RFC 3261 §25.1)."""
    return f"[{host}]" if ":" in host else host


def parse_port(text: str) -> int:
    """A port in 1..65535; raises ParseError."""
    if _NUMBER.match(text) and 0 < (port := int(text)) <= 65535:
        return port
    raise ParseError("Bad port")


def parse_hostport(text: str) -> tuple[str, int | None]:
    """``host``, ``host:port``, ``[v6]``, ``[v6]:port`` -> (host without brackets, port or None)."""
    text = text.strip()
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        host = _THREE_COLONS.sub("::", host)
        if not bracket or ip_version(host) != 6:
            raise ParseError("Bad IPv6 reference")
        if rest and not rest.startswith(":"):
            raise ParseError("Bad host")
        return host.lower(), parse_port(rest[1:]) if rest else None
    host, colon, port = text.partition(":")
    host = host.strip()
    if not _HOST.match(host):
        raise ParseError("Bad host")
    return host.lower(), parse_port(port.strip()) if colon else None


def split_outside(text: str, separator: str) -> Iterator[str]:
    """The parts of ``text`` between ``separator``s that are outside quotes and angle brackets.

    Raises ParseError on a quote or bracket that is never closed.
    """
    if '"' not in text:
        if "<" not in text:
            yield from text.split(separator)
            return
        if separator not in text and text.rfind("<") < text.rfind(">"):
            yield text
            return
    start, quoted, bracket, skip = 0, False, False, False
    for index, char in enumerate(text):
        if skip:
            skip = False
        elif quoted:
            if char == "\\":
                skip = True
            elif char == '"':
                quoted = False
        elif char == '"' and not bracket:
            quoted = True
        elif char == "<":
            bracket = True
        elif char == ">":
            bracket = False
        elif char == separator and not bracket:
            yield text[start:index]
            start = index + 1
    if quoted or bracket:
        raise ParseError("Unbalanced quotes or brackets")
    yield text[start:]


def parse_params(text: str) -> Params:
    """``;a=1;b`` -> (("a", "1"), ("b", None)); names in lower case, values as they came."""
    if not text.strip():
        return ()
    parts = text.split(";") if '"' not in text else list(split_outside(text, ";"))
    found = []
    for part in parts:
        name, equals, value = part.partition("=")
        if name := name.strip().lower():
            found.append((name, value.strip() if equals else None))
    return tuple(found)


def print_params(params: Params) -> str:
    """The reverse of parse_params."""
    return "".join(f";{name}" if value is None else f";{name}={value}" for name, value in params)


@dataclass(frozen=True, slots=True)
class Uri:
    """A SIP, SIPS or tel URI. ``user`` is as on the wire (escaped); a tel number stands in ``user``, without host."""

    scheme: str
    user: str | None
    host: str
    port: int | None = None
    params: Params = ()
    headers: str = ""

    @classmethod
    def parse(cls, text: str) -> Uri:
        """Raises ParseError; 416 for a scheme that is neither sip, sips nor tel (RFC 3261 §8.2.2.1)."""
        return _parse_uri(text)

    def param(self, name: str) -> str | None:
        """The value of a parameter: None when it is absent, "" when it has no value."""
        for key, value in self.params:
            if key == name:
                return value or ""
        return None

    @property
    def username(self) -> str:
        """The user part unescaped, without password or user parameters (RFC 3261 §19.1.4: compared like that)."""
        user = (self.user or "").partition(":")[0]
        return (unquote(user, encoding="latin-1") if "%" in user else user).partition(";")[0]

    @property
    def secure(self) -> bool:
        """A SIPS URI: every hop is to be TLS (RFC 3261 §26.2.2, RFC 5630)."""
        return self.scheme == "sips"

    @property
    def transport(self) -> str:
        """``udp``, ``tcp``, ``tls`` or what else stands there; "" where the URI leaves it open. A SIPS URI means TLS,
        whatever its transport parameter says (RFC 5630 §3.1.3)."""
        return "tls" if self.secure else (self.param("transport") or "").lower()

    def with_params(self, *params: tuple[str, str | None]) -> Uri:
        return replace(self, params=params)

    def __str__(self) -> str:
        if self.scheme == "tel":
            return f"tel:{self.user}{print_params(self.params)}"
        user = f"{self.user}@" if self.user is not None else ""
        port = f":{self.port}" if self.port is not None else ""
        headers = f"?{self.headers}" if self.headers else ""
        return f"{self.scheme}:{user}{bracketed(self.host)}{port}{print_params(self.params)}{headers}"


@lru_cache(maxsize=4096)
def _parse_uri(text: str) -> Uri:
    text = text.strip()
    scheme, colon, rest = text.partition(":")
    if not colon or not _SCHEME.match(scheme):
        raise ParseError("Bad URI")
    scheme = scheme.lower()
    if any(char <= " " or char in '<>"' for char in rest):
        raise ParseError("Bad URI")
    if scheme == "tel":
        number, _, params = rest.partition(";")
        if not number:
            raise ParseError("Bad tel URI")
        return Uri("tel", number, "", None, parse_params(params))
    if scheme not in ("sip", "sips"):
        raise ParseError("Unsupported URI Scheme", 416)
    # '@' ends the user part; '?' and ';' may stand in it unescaped, so it is looked for first (RFC 3261 §25.1).
    user, at, tail = rest.rpartition("@") if "@" in rest.partition("?")[0] or rest.count("@") == 1 else ("", "", rest)
    tail, _, headers = tail.partition("?")
    hostport, _, params = tail.partition(";")
    host, port = parse_hostport(hostport)
    return Uri(scheme, user if at else None, host, port, parse_params(params), headers)


def default_port(transport: str) -> int:
    """Where a URI or Via without a port means (RFC 3261 §18.2.1, §19.1.2)."""
    return 5061 if transport == "tls" else 5060


@dataclass(frozen=True, slots=True)
class NameAddr:
    """``"Display" <uri>;params`` as in From, To, Contact, Route (RFC 3261 §20.10). ``uri`` is kept as text."""

    display: str
    """As on the wire, quotes included."""
    uri_text: str
    params: Params = ()

    @classmethod
    def parse(cls, text: str) -> NameAddr:
        """One address; raises ParseError, also when there are several (identity must not be guessed)."""
        return _parse_name_addr(text)

    @property
    def uri(self) -> Uri:
        return Uri.parse(self.uri_text)

    @property
    def tag(self) -> str | None:
        for key, value in self.params:
            if key == "tag":
                return value or ""
        return None

    def param(self, name: str) -> str | None:
        for key, value in self.params:
            if key == name:
                return value or ""
        return None

    @property
    def display_name(self) -> str:
        """The display name without quotes and escapes."""
        text = self.display
        if len(text) >= 2 and text[0] == text[-1] == '"':
            return re.sub(r"\\(.)", r"\1", text[1:-1])
        return text

    def __str__(self) -> str:
        display = f"{self.display} " if self.display else ""
        return f"{display}<{self.uri_text}>{print_params(self.params)}"


@lru_cache(maxsize=8192)
def _parse_name_addr(text: str) -> NameAddr:
    text = text.strip()
    if len(parts := list(split_outside(text, ","))) != 1 and "<" in text:
        raise ParseError("More than one address" if len([p for p in parts if p.strip()]) > 1 else "Stray comma")
    if "<" in text:
        display, uri, rest = _bracketed_parts(text)
        if rest.strip() and not rest.strip().startswith(";"):
            raise ParseError("Text after the address")
        return NameAddr(display, uri, parse_params(rest))
    # addr-spec without brackets: parameters are the header's (RFC 3261 §20)
    uri, _, params = text.partition(";")
    if not uri.strip() or any(char in uri for char in '"?,'):
        raise ParseError("Bad address")  # what has these in it must stand in brackets (§20)
    return NameAddr("", uri.strip(), parse_params(params))


def _bracketed_parts(text: str) -> tuple[str, str, str]:
    """Display, URI text and what follows, of a text that has an angle bracket (maybe inside quotes)."""
    at = 0
    if text.startswith('"'):
        match = re.match(r'"(?:[^"\\]|\\.)*"', text, re.DOTALL)
        if match is None:
            raise ParseError("Unbalanced quotes")
        at = match.end()
    start = text.find("<", at)
    end = text.find(">", start)
    if start < 0 or end < 0:
        raise ParseError("Bad address")
    display = text[:start].strip()
    if not text.startswith('"') and '"' in display:
        raise ParseError("Bad display name")
    if at and text[at:start].strip():
        raise ParseError("Text between display name and address")
    uri = text[start + 1 : end].strip()
    if not uri:
        raise ParseError("Empty address")
    return display, uri, text[end + 1 :]


def escaped_user(name: str) -> str:
    """``name`` as a user part: what may not stand there as it is, is escaped (RFC 3261 §25.1 ``user``)."""
    return quote(name, safe="-_.!~*'()&=+$,/", encoding="latin-1", errors="replace")


def display_quoted(name: str) -> str:
    """``name`` as a quoted display name; control characters are left out."""
    clean = "".join(char for char in name if char >= " " and char != "\x7f")
    escaped = clean.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"' if escaped else ""
