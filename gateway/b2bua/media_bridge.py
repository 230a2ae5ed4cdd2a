"""Offer and answer from leg to leg, with the media engine's addresses in them, and what they mean for the engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future

from gateway.sip.offer_answer import FarEnd, HostPort, LegSdp
from gateway.sip.sdp import Codec as SdpCodec
from gateway.sip.sdp import SdpError
from media.announcement import Announcement
from media.engine import Address, Codec, MediaError, MediaSession, Side


class MediaBridge:
    """The SDP of both legs of one call, and its media session.

    What raises SdpError has changed nothing. ``advertise`` maps a bound address to the one that peers are told.
    """

    def __init__(self, media: MediaSession, advertise: Mapping[str, str], choose: Callable[[int, int], int]) -> None:
        self.media = media
        self._advertise = advertise
        self._choose = choose
        self._legs = {side: self._leg(side) for side in Side}
        self._bodies: dict[Side, bytes] = {}
        self._offered: tuple[Side, bytes] | None = None
        self._applied: dict[Side, tuple[FarEnd, Mapping[int, SdpCodec]]] = {}
        self._held: dict[Side, bool] = {}
        self._heard: dict[Side, tuple[int, float]] = {}

    def _leg(self, side: Side) -> LegSdp:
        local = self.media.local(side)
        host = self._advertise.get(local.host, local.host)
        return LegSdp(host, local.port, session_id=self._choose(1, 2**53))

    def restart(self, callee: Side) -> None:
        """The callee's leg starts anew with another target; the caller's offer will be given once more."""
        self._legs[callee.other].rollback()
        if not self._legs[callee].untouched:
            self._legs[callee] = self._leg(callee)
        if self._applied.pop(callee, None) is not None:
            self.media.set_remote(callee, None)

    def offer_from(self, side: Side, body: bytes) -> bytes:
        """``side`` offers; the offer for the other leg. Raises SdpError."""
        leg, other = self._legs[side], self._legs[side.other]
        stream = leg.receive_offer(body)
        try:
            offer = other.send_offer(stream)
        except SdpError:
            leg.rollback()
            raise
        self._offered = side, body
        self._apply()
        return offer

    def answer_from(self, side: Side, body: bytes, *, fork: str = "", final: bool = True) -> bytes:
        """``side`` answers (finally, or early in a 18x of the far end ``fork``); the answer for the other leg. Raises
        SdpError; the offer is then still open."""
        stream = self._legs[side].receive_answer(body, fork=fork, final=final)
        answer = self._legs[side.other].send_answer(stream, final=final)
        if final:
            if body:
                self._bodies[side] = body
            if self._offered is not None:
                self._bodies[self._offered[0]] = self._offered[1]
            self._offered = None
        self._apply()
        return answer

    def refuse_offer_of(self, side: Side) -> bytes:
        """An answer for ``side`` that declines its offer, where nobody else will answer it; b"" when none is open."""
        try:
            return self._legs[side].refuse()
        except SdpError:
            return b""

    def rollback(self) -> None:
        """The open offer was rejected: everything stays as it was (RFC 3264 §8)."""
        for leg in self._legs.values():
            leg.rollback()
        self._offered = None
        self._apply()

    def play(self, side: Side, announcement: Announcement) -> Future[int] | None:
        """See ``MediaSession.play``; None also while ``side`` has not agreed on anything."""
        codecs = self._legs[side].accepted
        return self.media.play(side, announcement, {pt: _codec(codec) for pt, codec in codecs.items()})

    @property
    def agreed(self) -> bool:
        """Whether offer and answer are done on both legs."""
        return all(leg.stream is not None for leg in self._legs.values())

    def is_refresh(self, side: Side, body: bytes) -> bool:
        """Whether a re-offer says what ``side`` said before: a session refresh (RFC 4028 §7.4), nothing to relay."""
        return body == self._bodies.get(side)

    def repeat_for(self, side: Side) -> bytes:
        """The description that ``side`` was sent last."""
        return self._legs[side].sent

    def _apply(self) -> None:
        """Tell the engine what has changed."""
        for side, leg in self._legs.items():
            now = leg.far_end, leg.codecs
            before = self._applied.get(side)
            if before == now or (before is None and now[0].rtp is None):
                continue
            self._applied[side] = now
            if before is None or before[0] != now[0]:
                self._send_to(side, now[0])
            self.media.set_codecs(side, {pt: _codec(codec) for pt, codec in now[1].items()})
        self._mark_holds()

    def _send_to(self, side: Side, far_end: FarEnd) -> None:
        """A far end that can't be sent to (our own port, say) is sent nothing; the call goes on."""
        try:
            self.media.set_remote(side, _address(far_end.rtp), _address(far_end.rtcp))
        except MediaError as error:
            self.media.set_remote(side, None)
            self.media.mark("unusable far end", leg=side.name.lower(), error=str(error))

    def _mark_holds(self) -> None:
        for side, leg in self._legs.items():
            if leg.stream is None:
                continue
            held = not self._expected(side)
            if held != self._held.get(side, False):
                self._held[side] = held
                self.media.mark("hold" if held else "resume", leg=side.name.lower())

    def _expected(self, side: Side) -> bool:
        """Whether ``side`` should be sending."""
        own, other = self._legs[side].stream, self._legs[side.other].stream
        if own is None or other is None or own.refused:
            return False
        return own.direction.sends and other.direction.receives

    def inactive_seconds(self, now: float) -> float:
        """How long the longest silent leg of those that should send has sent neither RTP nor RTCP, by the calls of this
        method (in seconds of the same clock)."""
        stats = self.media.stats()
        longest = 0.0
        for side, leg in ((Side.AGENT, stats.agent), (Side.PROSPECT, stats.prospect)):
            count = leg.received + leg.rtcp_received
            known = self._heard.get(side)
            if known is None or known[0] != count or not self._expected(side):
                self._heard[side] = count, now
            else:
                longest = max(longest, now - known[1])
        return longest


def _codec(codec: SdpCodec) -> Codec:
    return Codec(codec.name, codec.clock_rate, codec.channels)


def _address(pair: HostPort | None) -> Address | None:
    return Address(*pair) if pair is not None else None
