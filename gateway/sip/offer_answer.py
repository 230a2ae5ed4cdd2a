"""Offer/answer (RFC 3264, RFC 6337) for a gateway that stands between two legs and changes no codec.

A :class:`LegSdp` is one leg's side of it: what was sent to that leg and what came from it, who has an offer open, and
the layout of its m= lines. Between legs goes a :class:`Stream`: the audio of one leg without its addresses. So

    ``body_for_b = b.send_offer(a.receive_offer(body_of_a))``, and back
    ``body_for_a = a.send_answer(b.receive_answer(body_of_b))``

is a call, a hold, a codec change; with the legs swapped it is a delayed offer or B's own re-INVITE. A rejected offer
is taken back with ``rollback`` on both legs. Nothing of one far end's description reaches the other but a ``Stream``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from ipaddress import ip_address as parse_ip_address
from typing import Final

from gateway.sip.sdp import (
    STATIC_CODECS,
    Attributes,
    Codec,
    Direction,
    Media,
    NotAcceptable,
    Origin,
    SdpError,
    SessionDescription,
    codecs_of,
)
from gateway.sip.uri import ip_version

_PROTOCOLS: Final = ("RTP/AVP", "RTP/AVPF")
_PER_FORMAT: Final = ("rtpmap", "fmtp")
_PER_STREAM: Final = ("ptime", "maxptime", "silenceSupp")
_BANDWIDTHS: Final = ("AS", "TIAS")
_MAX_FORKS: Final = 32

HostPort = tuple[str, int]


@lru_cache(maxsize=4096)
def ip_address(host: str) -> IPv4Address | IPv6Address:
    """An IP literal parsed; the same few come again and again."""
    return parse_ip_address(host)


class OfferAnswerError(SdpError):
    """An offer or answer at the wrong time; ``status`` is 491 where two offers cross (RFC 3261 §14.2), else 400."""

    def __init__(self, reason: str, status: int = 400) -> None:
        super().__init__(reason)
        self.status = status


class OfferState(Enum):
    """Who has an offer open on a leg (RFC 6337 §1.1)."""

    STABLE = "stable"
    LOCAL_OFFER = "local-offer"
    """We sent one and wait for the answer."""
    REMOTE_OFFER = "remote-offer"
    """The far end sent one and waits for ours."""


@dataclass(frozen=True, slots=True)
class Stream:
    """The audio of one leg, as it may be told to the other: no address, no name, no other attribute."""

    payload_types: tuple[int, ...]
    attributes: Attributes = ()
    """rtpmap and fmtp of ``payload_types``, ptime, maxptime, silenceSupp."""
    direction: Direction = Direction.SENDRECV
    bandwidth: tuple[tuple[str, int], ...] = ()
    refused: bool = False
    """Port 0: the stream is declined or switched off (RFC 3264 §6, §8.2)."""

    def codecs(self) -> dict[int, Codec]:
        """Payload type to codec, for those that are known."""
        return codecs_of(self.payload_types, self.attributes)

    def with_direction(self, direction: Direction) -> Stream:
        if direction is self.direction:
            return self
        return Stream(self.payload_types, self.attributes, direction, self.bandwidth, self.refused)

    def only(self, payload_types: Iterable[int]) -> Stream:
        """The same with these payload types alone, in their present order."""
        kept = set(payload_types)
        numbers = tuple(n for n in self.payload_types if n in kept)
        return replace(self, payload_types=numbers, attributes=_allowed(self.attributes, numbers))


@dataclass(frozen=True, slots=True)
class FarEnd:
    """Where a leg wants its packets; both None where it wants none (``c=0.0.0.0``, port 0, nothing said yet)."""

    rtp: HostPort | None = None
    rtcp: HostPort | None = None


@lru_cache(maxsize=4096)
def _reach(host: str) -> int:
    """By which IP version (4, 6) a literal can be reached; 0: the unspecified address, -1: multicast or broadcast."""
    address = ip_address(host)
    if address.is_unspecified:
        return 0
    return -1 if address.is_multicast or host == "255.255.255.255" else address.version


def address_families(body: bytes) -> frozenset[int]:
    """The IP versions (4, 6) of the audio addresses in a description, for the choice of the local address."""
    try:
        sdp = SessionDescription.parse(body)
    except SdpError:
        return frozenset()
    hosts = [sdp.address(media) for media in sdp.media if media.kind == "audio" and media.port]
    return frozenset(ip_version(host) for host in hosts if host)


def _allowed(attributes: Attributes, payload_types: Iterable[int]) -> Attributes:
    """What of a far end's attributes the other leg may see; everything that is not named here is dropped."""
    numbers = {str(number) for number in payload_types}
    kept = []
    for name, value in attributes:
        words = (value or "").split(None, 1)
        if words and (name in _PER_STREAM or (name in _PER_FORMAT and words[0] in numbers)):
            kept.append((name, value))
    return tuple(kept)


@dataclass(frozen=True, slots=True)
class _Remote:
    """A description that came from the far end."""

    sdp: SessionDescription
    index: int
    """Which m= line is the audio stream."""
    stream: Stream
    far_end: FarEnd


@dataclass(frozen=True, slots=True)
class _Agreed:
    """What holds on a leg since its last answer."""

    remote: _Remote
    sent: Stream
    description: SessionDescription
    """What was sent to the leg, whole."""


class LegSdp:
    """Offer and answer on one leg. ``host`` and ``port`` are our own RTP address towards it, RTCP the port after it.

    They may be set until the first description is sent. ``session_id`` is unguessable and below 2**63. What is received
    raises SdpError (400), NotAcceptable (488) or OfferAnswerError (491, 400), and then nothing has changed.
    """

    def __init__(self, host: str, port: int, *, session_id: int, username: str = "-") -> None:
        self.host = host
        self.port = port
        self.state = OfferState.STABLE
        self._origin = Origin(username, session_id, session_id, host)
        self._sent_sdp: SessionDescription | None = None
        self._layout: tuple[Media, ...] = ()
        self._index = 0
        self._agreed: _Agreed | None = None
        self._local: Stream | None = None
        self._remote: _Remote | None = None
        self._forks: dict[str, _Remote] = {}
        self.answer_changed = False
        """Whether the final answer says other codecs or directions than one sent before it in a 1xx (a fork)."""

    # -- what holds --------------------------------------------------------------------------------------------------

    @property
    def far_end(self) -> FarEnd:
        """Where packets for this leg go now. An offer of the far end counts from its answer on, the first at once."""
        if self._agreed is not None:
            return self._agreed.remote.far_end
        return self._remote.far_end if self._remote is not None else FarEnd()

    @property
    def codecs(self) -> dict[int, Codec]:
        """The payload types that packets *from* this leg may carry: those of what was sent to it (RFC 3264 §5.1, §6.1).

        While our offer is open its payload types count besides. Numbers that only the leg's own description has come
        last: some senders use those.
        """
        agreed = self._agreed
        streams = [agreed.sent if agreed else None, self._local]
        streams += [agreed.remote.stream if agreed else None, self._remote.stream if self._remote else None]
        found: dict[int, Codec] = {}
        for stream in streams:
            if stream is not None:
                found = {**stream.codecs(), **found}
        return found

    @property
    def untouched(self) -> bool:
        """Nothing was ever sent to this leg, nor received from it."""
        return self._sent_sdp is None and self._remote is None and self._agreed is None

    @property
    def stream(self) -> Stream | None:
        """What this leg said last and was agreed on: what a third party is offered on a transfer."""
        return self._agreed.remote.stream if self._agreed is not None else None

    @property
    def accepted(self) -> dict[int, Codec]:
        """The payload types that may be sent *to* this leg: its own numbers, of the codecs that both descriptions have,
        in the order of its preference (RFC 3264 §5.1, §6.1). Empty while nothing is agreed, or it is declined."""
        if self._agreed is None or self._agreed.remote.stream.refused or self._agreed.sent.refused:
            return {}
        both = set(self._agreed.sent.codecs().values())
        found = self._agreed.remote.stream.codecs()
        order = [number for number in self._agreed.remote.stream.payload_types if found.get(number) in both]
        return {number: found[number] for number in order}

    @property
    def sent(self) -> bytes:
        """Our description that holds on this leg, or the one in an open offer or early answer; b"" when there is none.

        One in an offer that was rejected does not count: it is not what a session refresh is answered with.
        """
        if self.state is OfferState.STABLE:
            return bytes(self._agreed.description) if self._agreed is not None else b""
        return bytes(self._sent_sdp) if self._sent_sdp is not None else b""

    # -- what comes in -----------------------------------------------------------------------------------------------

    def receive_offer(self, body: bytes) -> Stream:
        """The far end offers; what it says, for the other leg. ``send_answer``, ``refuse`` or ``rollback`` is due."""
        if self.state is not OfferState.STABLE:
            raise OfferAnswerError("Request Pending", 491)
        sdp = SessionDescription.parse(body)
        index = self._choose(sdp)
        self._remote = self._read(sdp, index)
        self.state = OfferState.REMOTE_OFFER
        return self._remote.stream

    def receive_answer(self, body: bytes, *, fork: str = "", final: bool = True) -> Stream:
        """The far end answers our offer; what it says, for the other leg.

        ``final`` is false for a 1xx: more answers may come then, from the same or another ``fork`` (To tag), and the
        newest says where packets go. An empty ``body`` in a 2xx stands for what that fork had answered before.
        """
        if self.state is not OfferState.LOCAL_OFFER or self._local is None:
            raise OfferAnswerError("Answer without an offer")
        if body:
            remote = self._read_answer(body, self._local)
        elif (known := self._forks.get(fork)) is not None:
            remote = known
        else:
            raise NotAcceptable("Answer missing")
        self._remote = remote
        if final:
            self._agree(remote, self._local)
        elif fork in self._forks or len(self._forks) < _MAX_FORKS:
            self._forks[fork] = remote
        return remote.stream

    def _choose(self, sdp: SessionDescription) -> int:
        """The m= line to take: the one that was taken before if it still serves, else the first that does."""
        usable = [i for i, media in enumerate(sdp.media) if self._usable(sdp, media)]
        if self._layout and self._index < len(sdp.media):
            media = sdp.media[self._index]
            if self._index in usable or (media.kind == "audio" and not media.port and not usable):
                return self._index
        if not usable:
            raise NotAcceptable("No acceptable audio stream")
        return usable[0]

    def _usable(self, sdp: SessionDescription, media: Media) -> bool:
        return (
            media.kind == "audio"
            and media.protocol in _PROTOCOLS
            and media.port > 0
            and bool(media.payload_types)
            and self._reachable(sdp.address(media))
        )

    def _reachable(self, host: str | None) -> bool:
        """An address that our side of this leg can send to, or the unspecified one of an old-style hold."""
        if host is None:
            return False
        reach = _reach(host)
        return reach == 0 or reach == ip_version(self.host)

    def _read(self, sdp: SessionDescription, index: int) -> _Remote:
        media = sdp.media[index]
        host = sdp.address(media)
        held = host is not None and _reach(host) == 0
        direction = sdp.direction(media)
        if held:
            # RFC 3264 §8.4: nothing is to be sent to it; the other leg learns it the modern way
            direction = Direction.of(sends=direction.sends, receives=False)
        numbers = media.payload_types
        bandwidth = tuple(b for b in media.bandwidth if b[0] in _BANDWIDTHS)
        stream = Stream(numbers, _allowed(media.attributes, numbers), direction, bandwidth, refused=media.port == 0)
        if held or host is None or media.port == 0:
            return _Remote(sdp, index, stream, FarEnd())
        rtcp = sdp.rtcp(media)
        if rtcp is None or not self._reachable(rtcp[0]) or _reach(rtcp[0]) == 0:
            rtcp = (host, min(media.port + 1, 65535))
        return _Remote(sdp, index, stream, FarEnd((host, media.port), rtcp))

    def _read_answer(self, body: bytes, offered: Stream) -> _Remote:
        sdp = SessionDescription.parse(body)
        index = self._index
        if index >= len(sdp.media) or sdp.media[index].kind != "audio":
            # a lost or reordered m= line: the audio can still be told
            index = next((i for i, media in enumerate(sdp.media) if media.kind == "audio"), -1)
        if index < 0:
            raise NotAcceptable("Answer without an audio stream")
        media = sdp.media[index]
        if media.port and not self._usable(sdp, media):
            raise NotAcceptable("Answer with an unusable audio stream")
        remote = self._read(sdp, index)
        if remote.stream.refused:
            return replace(remote, stream=replace(offered, refused=True))
        return _Remote(sdp, index, _answer_to(offered, remote.stream), remote.far_end)

    # -- what goes out -----------------------------------------------------------------------------------------------

    def send_offer(self, stream: Stream) -> bytes:
        """Offer ``stream`` to this leg, with every earlier m= line in its place (RFC 3264 §8)."""
        if self.state is not OfferState.STABLE:
            raise OfferAnswerError("Request Pending", 491)
        if not self._layout:
            self._layout, self._index = (Media("audio", self.port, "RTP/AVP", ("0",)),), 0
        self._local = stream
        self._forks.clear()
        self.state = OfferState.LOCAL_OFFER
        return self._send(stream, self._layout, self._index)

    def send_answer(self, stream: Stream, *, final: bool = True) -> bytes:
        """Answer the far end's offer with what the other leg answered; port 0 for all that is not its audio.

        ``final`` is false for a 1xx. RFC 3261 §13.2.1 wants every answer of one INVITE alike; where a fork of the other
        leg answers otherwise in the end, its answer is sent nevertheless and ``answer_changed`` is set.
        """
        remote = self._remote
        if self.state is not OfferState.REMOTE_OFFER or remote is None:
            raise OfferAnswerError("Answer without an offer")
        if remote.stream.refused:
            stream = replace(stream, refused=True)
        stream = stream.with_direction(stream.direction.answering(remote.stream.direction))
        self.answer_changed = self._local is not None and stream != self._local
        self._local = stream
        body = self._send(stream, remote.sdp.media, remote.index)
        if final:
            self._layout, self._index = remote.sdp.media, remote.index
            self._agree(remote, stream)
        return body

    def answer_inactive(self) -> bytes:
        """Answer the far end's offer ourselves, its codecs taken and nothing flowing: the call stands, silent."""
        if self._remote is None:
            raise OfferAnswerError("Answer without an offer")
        return self.send_answer(self._remote.stream.with_direction(Direction.INACTIVE))

    def refuse(self) -> bytes:
        """Answer the far end's offer ourselves with every stream declined (RFC 3264 §6): what an ACK must carry when
        there is nobody to answer. A BYE follows."""
        if self._remote is None:
            raise OfferAnswerError("Answer without an offer")
        return self.send_answer(replace(self._remote.stream, refused=True))

    def rollback(self) -> None:
        """The open offer, whoever made it, was rejected: all is as before (RFC 3264 §8). None open: no effect."""
        self._settle()

    def _agree(self, remote: _Remote, sent: Stream) -> None:
        assert self._sent_sdp is not None
        self._agreed = _Agreed(remote, sent, self._sent_sdp)
        self._settle()

    def _settle(self) -> None:
        self.state = OfferState.STABLE
        self._local = self._remote = None
        self._forks.clear()
        if self._agreed is None:
            self._layout, self._index = (), 0

    def _send(self, stream: Stream, layout: tuple[Media, ...], index: int) -> bytes:
        media = tuple(self._audio(stream, m) if i == index else _declined(m) for i, m in enumerate(layout))
        previous = self._sent_sdp
        if previous is None:
            if self._origin.host != self.host:
                self._origin = replace(self._origin, host=self.host)
        elif (previous.media, previous.connection) != (media, self.host):
            # RFC 3264 §8; a number that was once on the wire, in an offer that was rejected even, is not used again
            self._origin = replace(self._origin, version=self._origin.version + 1, host=self.host)
        self._sent_sdp = SessionDescription(self._origin, "-", self.host, media=media)
        return bytes(self._sent_sdp)

    def _audio(self, stream: Stream, line: Media) -> Media:
        """Our audio m= line in the place of ``line``, whose profile it keeps (an answer must, RFC 3264 §6)."""
        protocol = line.protocol if line.protocol in _PROTOCOLS else "RTP/AVP"
        formats = tuple(map(str, stream.payload_types))
        if stream.refused:
            return Media("audio", 0, protocol, formats or ("0",))
        attributes = (*stream.attributes, (str(stream.direction), None))
        return Media("audio", self.port, protocol, formats, bandwidth=stream.bandwidth, attributes=attributes)


def _declined(media: Media) -> Media:
    """An m= line with port 0; its formats stay, as a line takes one at least, but never an attribute."""
    return Media(media.kind, 0, media.protocol, media.formats[:1])


def _answer_to(offered: Stream, answer: Stream) -> Stream:
    """``answer`` without formats that were never offered, and with what it left unsaid about those that were.

    A codec may have another payload type in the answer (RFC 3264 §6.1), so it is the codec that counts.
    """
    known = offered.codecs()
    said = answer.codecs()
    names = set(known.values())
    numbers = []
    attributes = list(answer.attributes)
    for number in answer.payload_types:
        codec = said.get(number)
        if codec in names or (codec is None and number in offered.payload_types):
            numbers.append(number)
            if codec is None and number in known and number not in STATIC_CODECS:
                attributes += [a for a in offered.attributes if a[0] == "rtpmap" and _of(a) == number]
    if not numbers:
        raise NotAcceptable("Answer with no codec that was offered")
    return Stream(
        tuple(numbers),
        _allowed(tuple(attributes), numbers),
        answer.direction.answering(offered.direction),
        answer.bandwidth,
        answer.refused,
    )


def _of(attribute: tuple[str, str | None]) -> int:
    number = (attribute[1] or "").split(None, 1)[0]
    return int(number) if number.isascii() and number.isdigit() else -1
