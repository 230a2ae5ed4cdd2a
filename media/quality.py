"""How good the audio of a call was: loss, jitter, round trip (RFC 3550), and a MOS by the E-model (ITU-T G.107).

The relay counts (relay_quality.pxd); what is worked out from the counts is worked out here, when a call has ended.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from media.engine import Codec

if TYPE_CHECKING:
    from media.relay import LegQualityCounts

BASIC_R = 93.2
"""R of a perfect narrowband connection, all other parameters at the defaults of G.107 table 3."""
PACKET_MS = 20.0
"""Delay of packetization, where nothing better is known."""

_IMPAIRMENTS = {
    "PCMU": (0.0, 25.1),
    "PCMA": (0.0, 25.1),
    "G729": (11.0, 19.0),
    "G723": (15.0, 16.1),
    "GSM-EFR": (5.0, 10.0),
    "AMR": (5.0, 10.0),
}
"""Ie and Bpl of ITU-T G.113 appendix I, with loss concealment and silence suppression where the codec has them."""


@dataclass(frozen=True, slots=True)
class StreamQuality:
    """One direction of one leg. Times in milliseconds; what is not known is None."""

    packets: int
    """Expected, by the sequence numbers."""
    lost: int
    loss_percent: float
    jitter_ms: float | None
    """Interarrival jitter (RFC 3550 §6.4.1) at the end."""
    jitter_most_ms: float | None
    longest_gap_ms: float | None
    """Longest time without a packet; pauses that signalling asked for are none."""
    mos: float | None
    """1 to 4.5; None without packets, and for codecs that G.113 has no figures for (wideband ones among them)."""

    def as_dict(self) -> dict[str, Any]:
        """See ``SessionQuality.as_dict``; by hand, as ``dataclasses.asdict`` costs more than all the counting."""
        return {
            "packets": self.packets,
            "lost": self.lost,
            "loss_percent": _rounded(self.loss_percent),
            "jitter_ms": _rounded(self.jitter_ms),
            "jitter_most_ms": _rounded(self.jitter_most_ms),
            "longest_gap_ms": _rounded(self.longest_gap_ms),
            "mos": _rounded(self.mos),
        }


@dataclass(frozen=True, slots=True)
class LegQuality:
    """A leg: what came from its far end, and what that says by RTCP of what was sent to it (None: nothing)."""

    received: StreamQuality
    sent: StreamQuality | None
    round_trip_ms: float | None
    """Mean, between the gateway and the far end."""
    round_trip_most_ms: float | None

    def as_dict(self) -> dict[str, Any]:
        """See ``SessionQuality.as_dict``."""
        return {
            "received": self.received.as_dict(),
            "sent": self.sent.as_dict() if self.sent is not None else None,
            "round_trip_ms": _rounded(self.round_trip_ms),
            "round_trip_most_ms": _rounded(self.round_trip_most_ms),
        }


@dataclass(frozen=True, slots=True)
class SessionQuality:
    """Both legs of a call."""

    agent: LegQuality
    prospect: LegQuality

    def as_dict(self) -> dict[str, Any]:
        """JSON-able, figures rounded to what they are worth."""
        return {"agent": self.agent.as_dict(), "prospect": self.prospect.as_dict()}


def _rounded(value: float | None) -> float | None:
    return round(value, 2) if isinstance(value, float) else value


def delay_impairment(one_way_ms: float) -> float:
    """Idd of G.107 §7.4 (03/2015): what a delay does that is free of echo."""
    if one_way_ms <= 100:
        return 0.0
    x = math.log2(one_way_ms / 100)
    return float(25 * ((1 + x**6) ** (1 / 6) - 3 * (1 + (x / 3) ** 6) ** (1 / 6) + 2))


def transmission_rating(one_way_ms: float, loss_percent: float, equipment: float, robustness: float) -> float:
    """R of G.107 §7.1, §7.5. ``equipment`` is the codec's Ie, ``robustness`` its Bpl; loss is taken as random."""
    effective = equipment + (95 - equipment) * loss_percent / (loss_percent + robustness)
    return BASIC_R - delay_impairment(one_way_ms) - effective


def mos_of(rating: float) -> float:
    """MOS_CQE of a rating (G.107 annex B)."""
    if rating <= 0:
        return 1.0
    if rating >= 100:
        return 4.5
    return max(1.0, 1 + 0.035 * rating + rating * (rating - 60) * (100 - rating) * 7e-6)


def estimated_mos(codec: Codec | None, loss_percent: float, jitter_ms: float, round_trip_ms: float) -> float | None:
    """The MOS of a stream whose receiver buffers twice the jitter; None for a codec without figures."""
    known = _IMPAIRMENTS.get(codec.name) if codec is not None else None
    if known is None:
        return None
    one_way = round_trip_ms / 2 + 2 * jitter_ms + PACKET_MS
    return mos_of(transmission_rating(one_way, min(100.0, max(0.0, loss_percent)), *known))


def session_quality(
    counts: tuple[LegQualityCounts, LegQualityCounts], codecs: tuple[Mapping[int, Codec], Mapping[int, Codec]]
) -> SessionQuality:
    """Out of the relay's counts; ``codecs`` by payload type, of what comes from each leg."""
    used = [by_type.get(of_leg["payload_type"]) for of_leg, by_type in zip(counts, codecs, strict=True)]
    agent, prospect = counts
    return SessionQuality(_leg(agent, prospect, used[0], used[1]), _leg(prospect, agent, used[1], used[0]))


def _leg(own: LegQualityCounts, other: LegQualityCounts, codec: Codec | None, other_codec: Codec | None) -> LegQuality:
    """``codec`` is what the leg's far end sends, ``other_codec`` what is sent to it."""
    trip = own["round_trip_ms"]
    received = _stream(
        own["expected"], own["lost"], own["jitter_ms"], own["jitter_most_ms"], own["longest_gap_ms"], codec, trip
    )
    sent = None
    if own["reports"]:
        jitter = own["reported_jitter_ms"]
        sent = _stream(other["expected"], own["reported_lost"], jitter, None, None, other_codec, trip)
    return LegQuality(received, sent, trip, own["round_trip_most_ms"])


def _stream(
    packets: int, lost: int, jitter: float | None, most: float | None, gap: float | None, codec: Codec | None,
    trip: float | None,
) -> StreamQuality:  # fmt: skip
    percent = 100 * lost / packets if packets else 0.0
    mos = estimated_mos(codec, percent, jitter or 0.0, trip or 0.0) if packets else None
    return StreamQuality(packets, lost, percent, jitter, most, gap, mos)
