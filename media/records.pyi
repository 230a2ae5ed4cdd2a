"""Typed twin of records.pyx."""

import numpy as np
from numpy.typing import NDArray

def steady_arrival(
    data: bytes | bytearray | memoryview, length: int, ssrc: int, seq: int, ts: int, pt: int, start_ns: int
) -> int | None: ...
def decode_steady(
    data: bytes | bytearray | memoryview, length: int, skip: int, table: NDArray[np.int16], out: NDArray[np.int16]
) -> None: ...
