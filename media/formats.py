"""What a finished recording is kept as: WAV, FLAC or Ogg Opus.

While a call runs its file is WAV, which can be read after a crash at any byte. For another format that file is
converted when the call has ended, beside it and under another name until it is whole; the WAV goes when the manifest is
in place.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from queue import SimpleQueue

import soundfile

from media.codecs import FILE_RATES

_BLOCK = 1 << 16
_OPUS_RATES = (8000, 16000, 24000, 48000)


class FileFormat(StrEnum):
    """The values are those of the settings, and the suffixes of the files."""

    WAV = "wav"
    FLAC = "flac"
    OGG = "ogg"

    @property
    def suffix(self) -> str:
        return f".{self.value}"

    @property
    def label(self) -> str:
        """As manifests call it."""
        return {"wav": "WAV PCM16", "flac": "FLAC PCM16", "ogg": "Ogg Opus"}[self.value]

    @property
    def subtype(self) -> str:
        """libsndfile's word."""
        return "OPUS" if self is FileFormat.OGG else "PCM_16"

    @property
    def media_type(self) -> str:
        """RFC 9639, RFC 7845 §9."""
        return {"wav": "audio/wav", "flac": "audio/flac", "ogg": "audio/ogg"}[self.value]

    def rate_for(self, wanted: int) -> int:
        """The least sample rate that the format has and that is no less than ``wanted``."""
        rates = _OPUS_RATES if self is FileFormat.OGG else FILE_RATES
        return next((rate for rate in rates if rate >= wanted), rates[-1])


def format_of_file(path: Path) -> FileFormat:
    """By its suffix. Raises ValueError."""
    return FileFormat(path.suffix.removeprefix("."))


def convert(source: Path, target: Path, format_: FileFormat) -> None:
    """Make ``target`` of a WAV file: all of it or nothing, on the disk when this returns. Raises OSError."""
    temporary = target.with_name(target.name + ".tmp")
    try:
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o640))
        with soundfile.SoundFile(str(source)) as given:
            with soundfile.SoundFile(
                str(temporary), "w", given.samplerate, given.channels, format_.subtype, format=format_.value.upper()
            ) as made:
                for block in given.blocks(blocksize=_BLOCK, dtype="int16", always_2d=True):
                    made.write(block)
            written, wanted = soundfile.info(str(temporary)).frames, given.frames
        if written != wanted:
            raise OSError(f"{written} samples of {wanted} were converted")
        descriptor = os.open(temporary, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        temporary.replace(target)
    except (soundfile.SoundFileError, OSError) as error:
        temporary.unlink(missing_ok=True)
        raise error if isinstance(error, OSError) else OSError(str(error)) from error


class Converter:
    """Converts in a thread of its own, one file at a time: neither the writer nor a call waits for it.

    ``thread`` False: ``submit`` does the work itself.
    """

    def __init__(self, *, thread: bool = True) -> None:
        self._queue: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._threaded = thread
        self._thread: threading.Thread | None = None

    def submit(self, work: Callable[[], None]) -> None:
        """Do ``work``, which raises nothing, after all that was submitted before."""
        if not self._threaded:
            work()
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="converter", daemon=True)
            self._thread.start()
        self._queue.put(work)

    def _run(self) -> None:
        while (work := self._queue.get()) is not None:
            work()

    def close(self) -> None:
        """End the thread after the work in hand. What is not done is done on the next start (``media.recovery``)."""
        if self._thread is not None:
            self._queue.put(None)
