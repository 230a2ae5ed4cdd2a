"""What may not be heard in a recording although its leg has audio: paused stretches, and legs that were narrowed away.

Positions are samples of the file.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from media.codecs import Samples
from media.engine import Side


@dataclass
class Silences:
    """Stretches of silence for all legs, and a last sample for some."""

    pauses: list[tuple[int, int | None]] = field(default_factory=list)
    """First sample and the one after the last; None: still paused."""
    ended: dict[Side, int] = field(default_factory=dict)
    """Legs that are silent from a sample on."""
    begun: dict[Side, int] = field(default_factory=dict)
    """Legs that are silent until a sample."""

    @property
    def paused(self) -> bool:
        return bool(self.pauses) and self.pauses[-1][1] is None

    def pause(self, sample: int) -> None:
        if not self.paused:
            self.pauses.append((sample, None))

    def resume(self, sample: int) -> None:
        if self.paused:
            begin, _ = self.pauses[-1]
            self.pauses[-1] = begin, max(begin, sample)

    def end(self, side: Side, sample: int) -> None:
        self.ended[side] = min(sample, self.ended.get(side, sample))

    def begin(self, side: Side, sample: int) -> None:
        self.begun[side] = sample

    def apply(self, side: Side, samples: Samples, first: int) -> None:
        """Silence what must be, in samples of a leg that begin at position ``first``."""
        if not (self.pauses or self.ended or self.begun):
            return
        for begin, end in reversed(self.pauses):
            if end is not None and end <= first:
                break
            samples[max(0, begin - first) : None if end is None else max(0, end - first)] = 0
        if side in self.begun:
            samples[: max(0, self.begun[side] - first)] = 0
        if side in self.ended:
            samples[max(0, self.ended[side] - first) :] = 0

    def ranges(self, until: int) -> list[list[int]]:
        """The pauses of a recording that ends at ``until``, for its manifest."""
        clipped = ((begin, until if end is None else min(end, until)) for begin, end in self.pauses)
        return [[begin, end] for begin, end in clipped if begin < end]
