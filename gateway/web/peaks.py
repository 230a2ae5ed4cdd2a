"""Peaks of a recording for drawing: the least and greatest sample of each stretch, per channel. Read in blocks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

_BLOCK = 1 << 16


def peaks(path: Path, points: int) -> dict[str, object]:
    """``points`` stretches over the whole file. Per channel, ``min`` and ``max`` in -128 … 127. Raises OSError."""
    try:
        with soundfile.SoundFile(str(path)) as file:
            frames, channels, rate = file.frames, file.channels, file.samplerate
            width = max(1, -(-frames // points))
            count = -(-frames // width) if frames else 0
            low = np.zeros((count, channels), np.int16)
            high = np.zeros((count, channels), np.int16)
            step = max(1, _BLOCK // width) * width
            at = 0
            for block in file.blocks(blocksize=step, dtype="int16", always_2d=True):
                starts = np.arange(0, len(block), width)
                low[at : at + len(starts)] = np.minimum.reduceat(block, starts, axis=0)
                high[at : at + len(starts)] = np.maximum.reduceat(block, starts, axis=0)
                at += len(starts)
    except soundfile.SoundFileError as error:
        raise OSError(str(error)) from None
    return {
        "channels": channels,
        "sample_rate": rate,
        "samples": frames,
        "samples_per_point": width,
        "peaks": [
            {"min": (low[:, c] >> 8).tolist(), "max": (high[:, c] >> 8).tolist()} for c in range(channels)
        ],
    }  # fmt: skip
