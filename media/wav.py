"""WAV files (RIFF, PCM16) that are readable at any moment while they grow."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np

from media.codecs import SAMPLE_RATE, Samples

HEADER_BYTES = 44
_LIMIT = 2**32 - 1 - 36


def header(channels: int, frames: int, rate: int = SAMPLE_RATE) -> bytes:
    """The 44 bytes before the samples; ``rate`` is the sample rate in Hz."""
    size = min(frames * channels * 2, _LIMIT // (channels * 2) * (channels * 2))
    return struct.pack(
        "<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + size, b"WAVE", b"fmt ", 16, 1, channels, rate, rate * channels * 2,
        channels * 2, 16, b"data", size,
    )  # fmt: skip


WIDENED_AT_ONCE = 1 << 18
"""Frames."""


class WavWriter:
    """One growing file. Samples are written before the header counts them, each at its own offset: what fails to be
    written is a hole of silence, and the next write is at its place again. Methods raise OSError."""

    def __init__(self, path: Path, channels: int, rate: int = SAMPLE_RATE) -> None:
        self.path = path
        self.channels = channels
        self.rate = rate
        """May be set until the first sample is written."""
        self.frames = 0
        """Frames that the timeline has got to, written or not."""
        made = path.with_name(path.name + ".tmp")
        self._descriptor = os.open(made, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o640)
        try:
            self._write(header(channels, 0, rate), 0)
            made.replace(path)  # not before it can be read
        except OSError:
            self.close()
            raise

    def _write(self, data: bytes | memoryview, offset: int) -> None:
        done = 0
        while done < len(data):
            done += os.pwrite(self._descriptor, data[done:], offset + done)

    def append(self, samples: Samples) -> None:
        """Interleaved frames, shape (n, channels) or flat."""
        data = np.ascontiguousarray(samples, dtype="<i2").data.cast("B") if len(samples) else b""
        offset = HEADER_BYTES + self.frames * self.channels * 2
        self.frames += len(data) // (self.channels * 2)
        self._write(data, offset)
        self._write(header(self.channels, self.frames, self.rate), 0)

    def widen(self) -> None:
        """From one channel to two: what there is becomes channel 0, channel 1 is silence until now. When this raises,
        the file is as it was."""
        made = self.path.with_name(self.path.name + ".tmp")
        descriptor = os.open(made, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o640)
        old, self._descriptor = self._descriptor, descriptor
        try:
            for first in range(0, self.frames, WIDENED_AT_ONCE):
                data = os.pread(old, min(WIDENED_AT_ONCE, self.frames - first) * 2, HEADER_BYTES + first * 2)
                frames = np.zeros((len(data) // 2, 2), dtype="<i2")
                frames[:, 0] = np.frombuffer(data[: len(data) // 2 * 2], dtype="<i2")
                self._write(frames.data.cast("B"), HEADER_BYTES + first * 4)
            self._write(header(2, self.frames, self.rate), 0)
            made.replace(self.path)
        except OSError:
            self._descriptor = old
            os.close(descriptor)
            raise
        os.close(old)
        self.channels = 2

    def finish(self) -> None:
        """The header right, the length right (a hole at the end included), everything on the disk."""
        os.ftruncate(self._descriptor, HEADER_BYTES + self.frames * self.channels * 2)
        self._write(header(self.channels, self.frames, self.rate), 0)
        os.fsync(self._descriptor)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def repair(path: Path) -> tuple[int, int, int]:
    """Make the header of a file that a crash left say what the file holds; gives (channels, frames, sample rate).

    Raises OSError, or ValueError for what is no such file.
    """
    with path.open("r+b") as file:
        start = file.read(HEADER_BYTES)
        if len(start) < HEADER_BYTES or start[:4] != b"RIFF" or start[8:12] != b"WAVE":
            raise ValueError(f"{path.name} is not a WAV file")
        channels, rate = struct.unpack_from("<HI", start, 22)
        if channels not in (1, 2):
            raise ValueError(f"{path.name} has {channels} channels")
        frames = (path.stat().st_size - HEADER_BYTES) // (channels * 2)
        file.truncate(HEADER_BYTES + frames * channels * 2)
        file.seek(0)
        file.write(header(channels, frames, rate))
        file.flush()
        os.fsync(file.fileno())
    return channels, frames, rate
