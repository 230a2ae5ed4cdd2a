"""Digest authentication (RFC 7616, RFC 8760, RFC 3261 §22): MD5 and SHA-256, qop ``auth``, both ends of it.

The server keeps HA1 values, never passwords. Its nonces prove themselves (an HMAC over when they were made), so that
nothing is kept for a challenge that is never answered; only the nonce counts of nonces in use are, in bounded memory.
Text is latin-1 decoded wire bytes, as everywhere in messages; time, entropy and the secret come in as arguments.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from gateway.sip.errors import SipError
from gateway.sip.message import Response
from gateway.sip.uri import Uri

MD5: Final = "MD5"
SHA256: Final = "SHA-256"

_HASHES: Final = {MD5: hashlib.md5, SHA256: hashlib.sha256}
_PARAM: Final = re.compile(
    r"\s*([A-Za-z0-9\-.!%*_+`'~]+)\s*=\s*(?:\"((?:[^\"\\]|\\.)*)\"|([^\s,\"]*))\s*(?:,|\Z)", re.S
)
_HEX: Final = re.compile(r"[0-9a-fA-F]{1,8}\Z")
_MAX_HEADER: Final = 4096


def ha1(username: str, realm: str, password: str, algorithm: str = MD5) -> str:
    """H(username ":" realm ":" password) in lower-case hexadecimal (RFC 7616 §3.4.2); the text counts as UTF-8.

    Raises ValueError for an algorithm other than ``MD5`` and ``SHA-256``.
    """
    if (name := algorithm.upper()) not in _HASHES:
        raise ValueError(f"no such digest algorithm: {algorithm}")
    return _HASHES[name](f"{username}:{realm}:{password}".encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Ha1Pair:
    """What is stored of a user's password: ``ha1`` by either algorithm, in hexadecimal."""

    md5: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Credentials:
    """An Authorization or Proxy-Authorization value (RFC 7616 §3.4)."""

    username: str
    realm: str
    nonce: str
    uri: str
    response: str
    algorithm: str = MD5
    """Upper case."""
    qop: str = ""
    """Lower case, "" where it is absent (RFC 2069)."""
    nc: str = ""
    cnonce: str = ""
    opaque: str | None = None

    @classmethod
    def parse(cls, text: str) -> Credentials | None:
        """None for another scheme, and for whatever is not well-formed or lacks what is mandatory."""
        params = parse_digest_params(text)
        if params is None or any(name not in params for name in ("username", "realm", "nonce", "uri", "response")):
            return None
        return cls(
            params["username"], params["realm"], params["nonce"], params["uri"], params["response"].lower(),
            (params.get("algorithm") or MD5).upper(), params.get("qop", "").lower(), params.get("nc", ""),
            params.get("cnonce", ""), params.get("opaque"),
        )  # fmt: skip

    @property
    def user(self) -> str:
        """The user name as text: UTF-8 where it is that, else latin-1 (RFC 7616 §4)."""
        try:
            return self.username.encode("latin-1").decode("utf-8")
        except UnicodeError:
            return self.username


@dataclass(frozen=True, slots=True)
class Challenge:
    """A WWW-Authenticate or Proxy-Authenticate value (RFC 7616 §3.3)."""

    realm: str
    nonce: str
    algorithm: str = MD5
    """As it came; absent counts as MD5."""
    qops: tuple[str, ...] = ()
    opaque: str | None = None
    stale: bool = False

    @classmethod
    def parse(cls, text: str) -> Challenge | None:
        """None for another scheme, and for whatever is not well-formed or lacks realm or nonce."""
        params = parse_digest_params(text)
        if params is None or "realm" not in params or "nonce" not in params:
            return None
        qops = tuple(part for raw in params.get("qop", "").lower().split(",") if (part := raw.strip()))
        stale = params.get("stale", "").lower() == "true"
        return cls(params["realm"], params["nonce"], params.get("algorithm") or MD5, qops, params.get("opaque"), stale)


def parse_digest_params(text: str) -> dict[str, str] | None:
    """``Digest a="x, \\"y", b=z`` -> {"a": 'x, "y', "b": "z"}, names in lower case, values unquoted.

    None if the scheme is not Digest, a parameter is malformed or stands there twice, or there are over 4096 characters.
    """
    scheme, _, rest = text.strip().partition(" ")
    if scheme.lower() != "digest" or len(rest) > _MAX_HEADER:
        return None
    found: dict[str, str] = {}
    at = 0
    while at < len(rest):
        match = _PARAM.match(rest, at)
        if match is None:
            return found if not rest[at:].strip(" \t,") else None
        name = match[1].lower()
        if name in found:
            return None
        found[name] = re.sub(r"\\(.)", r"\1", match[2], flags=re.S) if match[2] is not None else match[3]
        at = match.end()
    return found


def quoted(text: str) -> str:
    """``text`` as a quoted string (RFC 3261 §25.1); control characters are left out."""
    clean = "".join(char for char in text if char >= " " and char != "\x7f")
    return '"' + clean.replace("\\", "\\\\").replace('"', '\\"') + '"'


def digest_response(
    algorithm: str, hashed: str, method: str, uri: str, nonce: str, *, qop: str = "", nc: str = "", cnonce: str = ""
) -> str:
    """The request-digest of RFC 7616 §3.4.1, or of RFC 2069 without ``qop``. ``hashed`` is H(A1) in hexadecimal.

    ``algorithm`` is a key of the two that there are, without ``-sess`` (which shows in ``hashed`` alone).
    """
    h = _HASHES[algorithm]
    a2 = h(f"{method}:{uri}".encode("latin-1", "replace")).hexdigest()
    middle = f"{nonce}:{nc}:{cnonce}:{qop}" if qop else nonce
    return h(f"{hashed}:{middle}:{a2}".encode("latin-1", "replace")).hexdigest()


class Verdict(Enum):
    """What came of checking credentials."""

    OK = "ok"
    STALE = "stale"
    """The password is right, but the nonce is too old or its count was used: challenge again with ``stale=true``."""
    FAILED = "failed"
    """Unknown user, wrong password, not our nonce or realm, an algorithm or qop that was not offered."""


class DigestServer:
    """Challenges and verifies (RFC 7616 §3.3, §5). One per realm and process.

    ``secret`` is at least 16 unguessable bytes; nonces live for ``nonce_seconds``; at most ``max_nonces`` are counted
    at once. When that is not enough, the nonces made before the one that was dropped become stale, never replayable.
    ``algorithms`` are offered in this order, and no other is taken.
    """

    def __init__(
        self, realm: str, secret: bytes, *, algorithms: Sequence[str] = (SHA256, MD5), nonce_seconds: float = 300.0,
        max_nonces: int = 20_000,
    ) -> None:  # fmt: skip
        if len(secret) < 16 or max_nonces < 1 or not algorithms or not set(algorithms) <= set(_HASHES):
            raise ValueError("the secret takes 16 bytes or more, max_nonces 1 or more, algorithms MD5 or SHA-256")
        self.algorithms = tuple(algorithms)
        self.realm = realm
        self._secret = secret
        self._lifetime = int(nonce_seconds * 1000)
        self._max_nonces = max_nonces
        self._counts: OrderedDict[str, tuple[int, int]] = OrderedDict()
        self._floor = -1
        self.opaque = self._mac("opaque")[:16]

    def _mac(self, text: str) -> str:
        return hmac.new(self._secret, f"{self.realm}\0{text}".encode("utf-8", "replace"), "sha256").hexdigest()

    def nonce(self, now: float, entropy: str, source: str = "") -> str:
        """A new nonce, good for ``source`` alone: who answers it has received it there. ``entropy`` is unguessable
        text of letters and digits; ``now`` in seconds, 0 or more."""
        made = f"{_base36(int(now * 1000))}.{entropy}"
        return f"{made}.{self._nonce_mac(made, source)}"

    def _nonce_mac(self, made: str, source: str) -> str:
        """72 bits: every byte of a challenge counts (nothing larger than the request goes to a stranger)."""
        return base64.urlsafe_b64encode(bytes.fromhex(self._mac(f"nonce\0{source}\0{made}")[:18])).decode()

    def challenges(
        self, now: float, entropy: str, *, stale: bool = False, source: str = "", brief: bool = False
    ) -> tuple[str, ...]:
        """The values for WWW-Authenticate or Proxy-Authenticate, the preferred one first (RFC 8760 §2.4). ``brief``
        leaves out what a client does not need: spaces, ``opaque``, and MD5, which goes without saying."""
        nonce = self.nonce(now, entropy, source)
        if brief:
            start, tail = (
                f'Digest realm={quoted(self.realm)},nonce="{nonce}",qop="auth"',
                ",stale=true" if stale else "",
            )
            return tuple(f"{start}{'' if name == MD5 else f',algorithm={name}'}{tail}" for name in self.algorithms)
        tail = ", stale=true" if stale else ""
        start = f'Digest realm={quoted(self.realm)}, nonce="{nonce}", opaque="{self.opaque}", qop="auth", algorithm='
        return tuple(f"{start}{algorithm}{tail}" for algorithm in self.algorithms)

    def recognises(self, found: Credentials, now: float, source: str = "") -> bool:
        """Whether credentials answer a challenge of ours to ``source`` that has not expired, right or wrong."""
        made = self._made_at(found.nonce, source)
        return made is not None and not self._expired(made, int(now * 1000))

    def credentials(self, values: Iterable[str]) -> Credentials | None:
        """The credentials for our realm among the header's values; None where there are none, or none well-formed."""
        for value in values:
            found = Credentials.parse(value)
            if found is not None and found.realm == self.realm:
                return found
        return None

    def verify(
        self, found: Credentials, method: str, uri: str, stored: Ha1Pair | None, now: float, source: str = ""
    ) -> Verdict:
        """Check credentials for a request. ``stored`` is None for an unknown user, who takes the same way as a wrong
        password. ``uri`` is the Request-URI. Never raises."""
        known = stored or Ha1Pair(self._mac(f"md5\0{found.username}")[:32], self._mac(f"sha\0{found.username}"))
        algorithm = found.algorithm if found.algorithm in self.algorithms else MD5
        expected = digest_response(
            algorithm, known.md5 if algorithm == MD5 else known.sha256, method, found.uri, found.nonce,
            qop=found.qop, nc=found.nc, cnonce=found.cnonce,
        )  # fmt: skip
        right = hmac.compare_digest(expected.encode(), found.response.encode("latin-1", "replace"))
        made = self._made_at(found.nonce, source)
        offered = found.algorithm in self.algorithms and found.qop in ("auth", "") and found.realm == self.realm
        opaque_kept = found.opaque in (None, "", self.opaque)
        count = _count(found)
        if not (right and stored and offered and opaque_kept and same_target(found.uri, uri)):
            return Verdict.FAILED
        if made is None or count is None:
            return Verdict.FAILED
        return self._count_up(found.nonce, made, count, int(now * 1000))

    def _made_at(self, nonce: str, source: str) -> int | None:
        """When one of our nonces for ``source`` was made, in milliseconds; None for any other text."""
        made, _, mac = nonce.rpartition(".")
        if not hmac.compare_digest(self._nonce_mac(made, source).encode(), mac.encode("latin-1", "replace")):
            return None
        return int(made.partition(".")[0], 36)

    def _expired(self, made: int, now: int) -> bool:
        return made > now + 1000 or now - made > self._lifetime

    def _count_up(self, nonce: str, made: int, count: int, now: int) -> Verdict:
        known = self._counts.get(nonce)
        if self._expired(made, now):
            self._counts.pop(nonce, None)
            return Verdict.STALE
        if (known is None and made <= self._floor) or (known is not None and count <= known[1]):
            return Verdict.STALE
        self._counts[nonce] = (made, count)
        self._counts.move_to_end(nonce)
        while len(self._counts) > self._max_nonces:
            _, (dropped, _) = self._counts.popitem(last=False)
            self._floor = max(self._floor, dropped)
        return Verdict.OK


def _base36(number: int) -> str:
    digits = ""
    while number or not digits:
        number, digit = divmod(number, 36)
        digits = "0123456789abcdefghijklmnopqrstuvwxyz"[digit] + digits
    return digits


def _count(found: Credentials) -> int | None:
    """The nonce count; without qop (RFC 2069) there is none, and a nonce serves once."""
    if not found.qop:
        return 1
    return int(found.nc, 16) if _HEX.match(found.nc) and found.cnonce else None


def is_stale(response: Response) -> bool:
    """Whether a challenge says that the password was right and the nonce too old (RFC 7616 §3.3)."""
    values = response.all("www-authenticate") + response.all("proxy-authenticate")
    return any(found is not None and found.stale for found in map(Challenge.parse, values))


def same_target(digest_uri: str, request_uri: str) -> bool:
    """Whether the ``uri`` of credentials means the Request-URI: user and host agree.

    Port and parameters may differ, and the user may be missing on one side: phones write them so, and the nonce count
    keeps credentials from being used a second time.
    """
    if digest_uri == request_uri:
        return True
    try:
        one, other = Uri.parse(digest_uri), Uri.parse(request_uri)
    except SipError:
        return False
    users = one.username, other.username
    return one.host == other.host and (users[0] == users[1] or "" in users)


def authorization_for(
    challenges: Iterable[str],
    method: str,
    uri: str,
    username: str,
    password: str = "",
    *,
    cnonce: str,
    nc: int = 1,
    stored: Ha1Pair | None = None,
) -> str | None:
    """The Authorization (or Proxy-Authorization) value that answers a 401 (or 407).

    ``challenges`` are the header's values; the first that we can do is answered (RFC 8760 §2.4). ``stored`` takes the
    place of the password. None when there is none that we can do.
    """
    for text in challenges:
        challenge = Challenge.parse(text)
        if challenge is None or (challenge.qops and "auth" not in challenge.qops):
            continue
        base = challenge.algorithm.upper().removesuffix("-SESS")
        if base in _HASHES:
            hashed = _ha1_for(challenge, base, username, password, stored, cnonce)
            return _authorization(challenge, base, hashed, method, uri, username, cnonce, nc)
    return None


def _ha1_for(challenge: Challenge, base: str, username: str, password: str, stored: Ha1Pair | None, cnonce: str) -> str:
    if stored is not None:
        hashed = stored.md5 if base == MD5 else stored.sha256
    else:
        h = _HASHES[base]
        realm = challenge.realm.encode("latin-1", "replace")
        hashed = h(username.encode() + b":" + realm + b":" + password.encode()).hexdigest()
    if challenge.algorithm.upper().endswith("-SESS"):
        text = f"{hashed}:{challenge.nonce}:{cnonce}"
        return _HASHES[base](text.encode("latin-1", "replace")).hexdigest()
    return hashed


def _authorization(
    challenge: Challenge, base: str, hashed: str, method: str, uri: str, username: str, cnonce: str, nc: int
) -> str:
    qop = "auth" if challenge.qops else ""
    count = f"{nc:08x}"
    response = digest_response(base, hashed, method, uri, challenge.nonce, qop=qop, nc=count, cnonce=cnonce)
    wire_name = username.encode().decode("latin-1")
    parts = [
        f"username={quoted(wire_name)}", f"realm={quoted(challenge.realm)}", f"nonce={quoted(challenge.nonce)}",
        f"uri={quoted(uri)}", f'response="{response}"', f"algorithm={challenge.algorithm}",
    ]  # fmt: skip
    if qop or challenge.algorithm.upper().endswith("-SESS"):
        parts.append(f"cnonce={quoted(cnonce)}")
    if qop:
        parts += [f"qop={qop}", f"nc={count}"]
    if challenge.opaque is not None:
        parts.append(f"opaque={quoted(challenge.opaque)}")
    return "Digest " + ", ".join(parts)
