# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The common case of a drain, natively: equal records that follow on, checked and decoded in one pass each.

A ring record is a 24-byte header (arrival ns u64, timestamp u32, SSRC u32, sequence u16, payload type u8, flags u8,
payload length u16, 2 spare; little-endian) and the payload, padded to 8 bytes; see ``relay.pyi``. Whatever is not the
common case is left to ``timeline.py``.
"""

from libc.stdint cimport int16_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

cdef struct Header:
    uint64_t at
    uint32_t ts
    uint32_t ssrc
    uint16_t seq
    uint8_t pt
    uint8_t flags
    uint16_t length
    uint16_t spare

cdef enum:
    HEADER = 24
    RATE = 8000
    BILLION = 1000000000


def steady_arrival(
    const uint8_t[::1] data, Py_ssize_t length, uint32_t ssrc, uint16_t seq, uint32_t ts, uint8_t pt, int64_t start_ns
):
    """How early the records came: the least of (arrival in samples since ``start_ns``) - index * ``length``.

    None when they are not all of ``length`` bytes (samples) and of one source, numbered and stamped from ``seq`` and
    ``ts`` on without a break, when one came more than 200 ms after its turn, or when ``data`` ends within one.
    """
    cdef Py_ssize_t size = HEADER + (length + 7) // 8 * 8
    cdef Py_ssize_t count = data.shape[0] // size
    cdef Py_ssize_t index
    cdef int64_t came, before = 0, least = 0
    cdef Header head
    if length <= 0 or count == 0 or count * size != data.shape[0]:
        return None
    for index in range(count):
        memcpy(&head, &data[index * size], HEADER)
        if (
            head.length != length
            or head.ssrc != ssrc
            or head.pt != pt
            or head.seq != <uint16_t>(seq + index)
            or head.ts != <uint32_t>(ts + index * length)
        ):
            return None
        came = <int64_t>head.at - start_ns
        # times before the start round down, as Python's // does
        came = came * RATE // BILLION if came >= 0 else -((-came * RATE + BILLION - 1) // BILLION)
        came -= index * length
        if index and came - before > RATE // 5:
            return None  # a pause, or a network that was held up
        before = came
        if index == 0 or came < least:
            least = came
    return least


def decode_steady(
    const uint8_t[::1] data, Py_ssize_t length, Py_ssize_t skip, const int16_t[::1] table, int16_t[::1] out
):
    """Decode records ``skip`` and on, each of ``length`` bytes, by a table of 256 samples into ``out``, one after the
    other. ``out`` must have room for all of them; raises ValueError if it has not."""
    cdef Py_ssize_t size = HEADER + (length + 7) // 8 * 8
    cdef Py_ssize_t count = data.shape[0] // size
    cdef Py_ssize_t index, at
    cdef const uint8_t* payload
    cdef int16_t* place
    if table.shape[0] < 256 or skip < 0 or skip > count or (count - skip) * length > out.shape[0]:
        raise ValueError("no room to decode into")
    if count == skip or length <= 0:
        return
    place = &out[0]
    with nogil:  # the writer's other threads, and the event loop, go on
        for index in range(skip, count):
            payload = &data[0] + index * size + HEADER
            for at in range(length):
                place[at] = table[payload[at]]
            place += length
