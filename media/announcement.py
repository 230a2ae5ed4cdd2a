"""What can be played into a call: a WAV file, or a beep, in the codec of whoever is to hear it, 20 ms to a packet."""

from __future__ import annotations

import fractions
import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import soundfile

from media.codecs import OPUS_CLOCK, Format, Samples, encode_alaw, encode_ulaw, format_of
from media.decoders import encoder_context
from media.engine import Codec
from media.player import PACKET_NS, Sound
from media.resample import resample

LONGEST_SECONDS: Final = 300
BEEP_RATE: Final = 16000
BEEP_LEVEL: Final = 0.1
"""Of full scale, -20 dBFS: to be heard beside speech, not over it."""


class AnnouncementError(ValueError):
    """A file that can't be played; the message says why."""


@dataclass(frozen=True, slots=True, eq=False)
class Announcement:
    """Mono audio and where it is from. Payloads are encoded once for each codec and kept."""

    name: str
    sha256: str
    """Of the file as it is on disk; "" for a beep."""
    rate: int
    samples: Samples
    _encoded: dict[Codec, tuple[bytes, ...]] = field(default_factory=dict, repr=False)

    @property
    def seconds(self) -> float:
        return len(self.samples) / self.rate

    def sound(self, codecs: Mapping[int, Codec], preferred: int | None = None) -> Sound | None:
        """The sound for a far end that takes these payload types: ``preferred`` if it can be encoded, else the first
        that can; None: none can."""
        first = [preferred] if preferred in codecs else []
        for payload_type in (*first, *codecs):
            assert payload_type is not None
            codec = codecs[payload_type]
            if (found := format_of(codec)) is not None:
                return Sound(payload_type, codec.clock_rate, self.payloads(codec, found))
        return None

    def payloads(self, codec: Codec, found: Format) -> tuple[bytes, ...]:
        """Payloads of 20 ms each; the last one is filled up with silence."""
        if codec not in self._encoded:
            self._encoded[codec] = tuple(_encode(found, self.samples, self.rate))
        return self._encoded[codec]

    def prepare(self) -> None:
        """Encode for the usual codecs now, rather than when a call waits for it."""
        for codec in (Codec("PCMU", 8000), Codec("PCMA", 8000), Codec("G722", 8000), Codec("OPUS", 48000, 2)):
            found = format_of(codec)
            assert found is not None
            self.payloads(codec, found)


def read_announcement(path: Path) -> Announcement:
    """A WAV file of any rate and channels (mixed to one). Raises AnnouncementError."""
    try:
        data = path.read_bytes()
        samples, rate = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    except (OSError, soundfile.LibsndfileError) as error:
        raise AnnouncementError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    if not 0 < len(samples) <= LONGEST_SECONDS * rate:
        raise AnnouncementError(f"{path}: it must have audio, and no more than {LONGEST_SECONDS} seconds of it")
    mono = np.clip(np.rint(samples.mean(axis=1) * 32768), -32768, 32767).astype(np.int16)
    return Announcement(path.name, hashlib.sha256(data).hexdigest(), int(rate), mono)


def beep(hertz: float, milliseconds: float) -> Announcement:
    """A sine that fades in and out within 5 ms."""
    times = np.arange(int(BEEP_RATE * milliseconds / 1000)) / BEEP_RATE
    edge = np.minimum(1.0, np.minimum(times, times[::-1]) / 0.005)
    samples = np.rint(32767 * BEEP_LEVEL * np.sin(2 * np.pi * hertz * times) * edge).astype(np.int16)
    return Announcement(f"beep {hertz:g} Hz {milliseconds:g} ms", "", BEEP_RATE, samples)


def _encode(found: Format, samples: Samples, rate: int) -> list[bytes]:
    """Payloads of 20 ms."""
    if rate != found.sample_rate:
        count = -(-len(samples) * found.sample_rate // rate)
        samples = resample(samples, 0, 0, count, rate, found.sample_rate)
    size = found.sample_rate * PACKET_NS // 10**9
    whole = np.zeros(-(-len(samples) // size) * size, dtype=np.int16)
    whole[: len(samples)] = samples
    pieces = whole.reshape(-1, size)
    if found.name == "PCMU":
        return [encode_ulaw(piece) for piece in pieces]
    if found.name == "PCMA":
        return [encode_alaw(piece) for piece in pieces]
    if found.name == "L16":
        return [np.repeat(piece, found.channels).astype(">i2").tobytes() for piece in pieces]
    if found.name == "G722":
        data = b"".join(_through_av("g722", whole, 16000, size))
        return [data[at : at + size // 2] for at in range(0, len(pieces) * size // 2, size // 2)]
    return _through_av("libopus", whole, OPUS_CLOCK, size)[: len(pieces)]


def _through_av(name: str, samples: Samples, rate: int, size: int) -> list[bytes]:
    from av.audio.frame import AudioFrame

    context = encoder_context(name, rate)
    packets: list[bytes] = []
    for at in range(0, len(samples), size):
        frame = AudioFrame.from_ndarray(samples[None, at : at + size], format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = rate, at, fractions.Fraction(1, rate)
        packets += [bytes(packet) for packet in context.encode(frame)]
    return packets + [bytes(packet) for packet in context.encode(None)]
