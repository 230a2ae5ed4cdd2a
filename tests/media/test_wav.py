"""Growing WAV files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from media.wav import HEADER_BYTES, WavWriter, header, repair


@pytest.mark.parametrize("channels", [1, 2])
def test_it_can_be_read_after_every_step(tmp_path: Path, channels: int) -> None:
    path = tmp_path / "x.wav.part"
    writer = WavWriter(path, channels)
    audio = np.random.default_rng(1).integers(-32768, 32767, (8000, channels)).astype(np.int16)
    for at in range(0, 8000, 1000):
        writer.append(audio[at : at + 1000])
        read, rate = soundfile.read(path, dtype="int16", always_2d=True)
        assert rate == 8000
        assert np.array_equal(read, audio[: at + 1000])
    writer.finish()
    writer.close()
    assert path.stat().st_size == HEADER_BYTES + 8000 * channels * 2


def test_a_header_that_counts_less_than_there_is_reads_what_it_counts(tmp_path: Path) -> None:
    """The moment between the samples and the header."""
    path = tmp_path / "x.wav"
    path.write_bytes(header(1, 10) + bytes(100))
    assert soundfile.info(str(path)).frames == 10


def test_the_longest_file_that_the_format_can_tell() -> None:
    """36 hours in stereo: RIFF counts to 4 GiB, the header stays right for what it can count."""
    size = int.from_bytes(header(2, 2**31)[40:44], "little")
    assert size % 4 == 0
    assert 2**32 - 100 < size + 36 < 2**32


@pytest.mark.parametrize("extra", [0, 1, 3, 4001])
def test_repair_counts_what_is_there(tmp_path: Path, extra: int) -> None:
    path = tmp_path / "x.wav.part"
    path.write_bytes(header(2, 0) + bytes(4 * 100 + extra))
    channels, frames, rate = repair(path)
    assert (channels, frames, rate) == (2, 100 + extra // 4, 8000)
    assert soundfile.info(str(path)).frames == frames
    assert path.stat().st_size == HEADER_BYTES + frames * 4


@pytest.mark.parametrize("content", [b"", b"RIFF", bytes(44), header(1, 0).replace(b"WAVE", b"EVAW"), header(3, 0)])
def test_repair_refuses_what_it_did_not_write(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.wav.part"
    path.write_bytes(content)
    with pytest.raises(ValueError):
        repair(path)
    assert path.read_bytes() == content


def test_a_file_that_cannot_be_made_leaves_no_descriptor(tmp_path: Path) -> None:
    with pytest.raises(OSError):
        WavWriter(tmp_path / "no" / "x.wav", 1)
