"""Announcements and beeps in every codec: what is decoded again is what the file has."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import soundfile

from media.announcement import LONGEST_SECONDS, Announcement, AnnouncementError, beep, read_announcement
from media.codecs import format_of
from media.decoders import decoder_for
from media.engine import Codec
from scripts.demo import tone_level

CODECS = [
    Codec("PCMU", 8000), Codec("PCMA", 8000), Codec("G722", 8000), Codec("OPUS", 48000, 2), Codec("L16", 44100),
    Codec("L16", 16000, 2),
]  # fmt: skip


def wav(directory: Path, rate: int, seconds: float, channels: int = 1, hertz: float = 900.0) -> Path:
    tone = 0.3 * np.sin(2 * np.pi * hertz * np.arange(int(rate * seconds)) / rate)
    path = directory / "say.wav"
    soundfile.write(path, np.repeat(tone[:, None], channels, axis=1), rate, subtype="PCM_16")
    return path


@pytest.mark.parametrize("codec", CODECS, ids=str)
@pytest.mark.parametrize(("rate", "channels"), [(8000, 1), (44100, 2), (48000, 1)])
def test_every_codec_carries_it(tmp_path: Path, codec: Codec, rate: int, channels: int) -> None:
    announcement = read_announcement(wav(tmp_path, rate, 1.01, channels))
    sound = announcement.sound({101: Codec("TELEPHONE-EVENT", 8000), 96: codec})
    found = format_of(codec)
    assert sound is not None
    assert found is not None
    assert (sound.payload_type, sound.clock_rate, len(sound.payloads)) == (96, codec.clock_rate, 51)
    decoder = decoder_for(found)
    samples = np.concatenate([decoder.decode(payload) for payload in sound.payloads])
    assert abs(len(samples) - 1.02 * found.sample_rate) <= 0.02 * found.sample_rate
    heard = samples[found.sample_rate // 10 : found.sample_rate] / 32768
    assert tone_level(heard, 900.0, found.sample_rate) == pytest.approx(20 * np.log10(0.3), abs=1.0)
    assert tone_level(heard, 1500.0, found.sample_rate) < -45


def test_the_hash_is_the_files(tmp_path: Path) -> None:
    path = wav(tmp_path, 8000, 0.5)
    announcement = read_announcement(path)
    assert announcement.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (announcement.name, announcement.seconds) == ("say.wav", 0.5)


def test_which_codec_is_taken(tmp_path: Path) -> None:
    announcement = read_announcement(wav(tmp_path, 8000, 0.1))
    codecs = {18: Codec("G729", 8000), 8: Codec("PCMA", 8000), 0: Codec("PCMU", 8000)}
    for preferred, taken in ((None, 8), (0, 0), (18, 8), (77, 8)):
        sound = announcement.sound(codecs, preferred)
        assert sound is not None
        assert sound.payload_type == taken
    assert announcement.sound({18: Codec("G729", 8000), 101: Codec("TELEPHONE-EVENT", 8000)}) is None
    assert announcement.sound({}) is None


def test_what_can_not_be_played(tmp_path: Path) -> None:
    with pytest.raises(AnnouncementError, match=r"gone\.wav"):
        read_announcement(tmp_path / "gone.wav")
    (tmp_path / "text.wav").write_text("no audio")
    with pytest.raises(AnnouncementError, match=r"text\.wav"):
        read_announcement(tmp_path / "text.wav")
    for seconds in (0.0, LONGEST_SECONDS + 1.0):
        with pytest.raises(AnnouncementError, match=str(LONGEST_SECONDS)):
            read_announcement(wav(tmp_path, 8000, seconds))


def test_a_beep() -> None:
    made = beep(1400.0, 200.0)
    assert isinstance(made, Announcement)
    assert made.seconds == pytest.approx(0.2)
    middle = made.samples[160:-160] / 32768
    assert tone_level(middle, 1400.0, made.rate) == pytest.approx(-20.0, abs=0.5)
    assert abs(int(made.samples[0])) + abs(int(made.samples[-1])) < 10
