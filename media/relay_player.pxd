"""What is sent to a leg that something was played to: one SSRC, one row of sequence numbers and timestamps, whoever speaks.

Before anything was played to a leg, what is forwarded to it is not touched. From then on packets of the other leg are
renumbered (RFC 3550 §5.1: SSRC, sequence number, timestamp; the payload stays as it is) so that they follow on what was
played, with the time that has passed between. While something is played, or the leg is held apart, nothing of the
other leg goes out. A packet older than the first one after a join would take a number that was played: it is held back.

RTCP is made to fit: the SSRC of what the other leg's far end says of itself, timestamp and counts of its sender
reports; and the other way the SSRC and highest number in this leg's report blocks. A sender report whose stream is not
joined (yet) is held back with all of its compound.
"""

from libc.stdint cimport int16_t, int32_t, uint8_t, uint16_t, uint32_t, uint64_t

from media.relay_quality cimport *

cdef enum:
    REMEMBERED_AS_OLD = 0x4000  # packets after a join, while a late one can be told from a new one


cdef struct Outgoing:
    bint apart  # nothing of the other leg goes out
    bint playing  # nor does it now
    bint numbered  # something was played: the rest holds
    bint joined  # `source` and the steps are those of the stream that is forwarded
    uint32_t ssrc  # on the wire
    uint32_t source
    uint32_t timestamp  # of the highest number sent
    uint32_t timestamp_step
    uint16_t sequence  # the highest sent
    uint16_t sequence_step
    uint16_t floor  # the highest sent before the join
    uint16_t since
    uint32_t clock  # Hz
    uint32_t ticks  # of a packet played
    uint64_t sent_ns
    int32_t more_packets  # than the forwarded stream's sender counts
    int32_t more_octets


cdef inline void put16(uint8_t* at, uint16_t value) noexcept nogil:
    at[0], at[1] = <uint8_t> (value >> 8), <uint8_t> (value & 0xFF)


cdef inline void put32(uint8_t* at, uint32_t value) noexcept nogil:
    put16(at, <uint16_t> (value >> 16))
    put16(at + 2, <uint16_t> (value & 0xFFFF))


cdef inline uint32_t following_timestamp(const Outgoing* out, uint64_t now) noexcept nogil:
    # A packet's time after the last one, or as much later as it is.
    cdef uint64_t passed = (now - out.sent_ns) // 1000 * out.clock // 1000000 if now > out.sent_ns else 0
    return out.timestamp + (<uint32_t> passed if passed > out.ticks else out.ticks)


cdef inline void begin_playing(
    Outgoing* out, const Stream* forwarded, uint32_t ssrc, uint16_t sequence, uint32_t timestamp, uint64_t now
) noexcept nogil:
    # `ssrc`, `sequence` and `timestamp` are for a leg that was sent nothing yet.
    if not out.numbered:
        out.numbered = True
        out.ssrc, out.sequence, out.timestamp, out.sent_ns = ssrc, sequence, timestamp, now
        if forwarded.begun:
            out.ssrc = out.source = forwarded.ssrc
            out.sequence = forwarded.highest
        if forwarded.begun and forwarded.timestamp_ns:
            out.timestamp, out.sent_ns = forwarded.timestamp, forwarded.timestamp_ns
    out.playing = True
    out.joined = False


cdef inline void number_played(Outgoing* out, uint8_t* header, bint first, uint64_t now) noexcept nogil:
    # The next packet that is played; `header` has its first two bytes already.
    out.timestamp = following_timestamp(out, now) if first else out.timestamp + out.ticks
    out.sequence += 1
    out.sent_ns = now
    put16(header + 2, out.sequence)
    put32(header + 4, out.timestamp)
    put32(header + 8, out.ssrc)


cdef inline void join(Outgoing* out, uint32_t ssrc, uint16_t sequence, uint32_t timestamp, uint64_t now) noexcept nogil:
    out.joined = True
    out.source = ssrc
    out.floor = out.sequence
    out.since = 0
    out.sequence_step = <uint16_t> (out.sequence + 1 - sequence)
    out.timestamp_step = following_timestamp(out, now) - timestamp


cdef inline bint renumber(
    Outgoing* out, uint8_t* data, size_t length, uint32_t ssrc, uint16_t sequence, uint32_t timestamp, uint64_t now
) noexcept nogil:
    # A valid RTP packet of the other leg with `length` bytes of payload. False: it is held back.
    cdef uint16_t number
    if out.apart or out.playing:
        out.more_packets -= 1
        out.more_octets -= <int32_t> length
        return False
    if not out.numbered:
        return True
    if not out.joined or ssrc != out.source:
        join(out, ssrc, sequence, timestamp, now)
    number = <uint16_t> (sequence + out.sequence_step)
    if out.since < REMEMBERED_AS_OLD:
        if <int16_t> (number - out.floor) <= 0:
            out.more_packets -= 1
            out.more_octets -= <int32_t> length
            return False
        out.since += 1
    if <int16_t> (number - out.sequence) > 0:
        out.sequence = number
        out.timestamp = timestamp + out.timestamp_step
        out.sent_ns = now
    put16(data + 2, number)
    put32(data + 4, timestamp + out.timestamp_step)
    put32(data + 8, out.ssrc)
    return True


cdef inline void name_source(const Outgoing* out, uint8_t* data, size_t size) noexcept nogil:
    # A compound from the leg's own far end: what it says of the numbered stream is said of the forwarded one.
    cdef size_t at = 0, length, block, end
    cdef uint32_t highest
    if not out.joined:
        return
    while at + 8 <= size and data[at] >> 6 == 2:
        length = 4 * (1 + <size_t> be16(data + at + 2))
        if at + length > size:
            return
        block = 0
        if data[at + 1] == SENDER_REPORT and length >= 28:
            block = 28
        elif data[at + 1] == RECEIVER_REPORT:
            block = 8
        elif data[at + 1] in (205, 206) and length >= 12 and be32(data + at + 8) == out.ssrc:  # RFC 4585 §6.1
            put32(data + at + 8, out.source)
        if block:
            end = block + BLOCK * <size_t> (data[at] & 0x1F)
            while block + BLOCK <= end and block + BLOCK <= length:
                if be32(data + at + block) == out.ssrc:
                    put32(data + at + block, out.source)
                    highest = be32(data + at + block + 8)
                    put16(data + at + block + 10, <uint16_t> (highest - out.sequence_step))
                block += BLOCK
        at += length


cdef inline bint fit_rtcp(const Outgoing* out, uint8_t* data, size_t size) noexcept nogil:
    # A compound from the other leg's far end, for this leg. False: it is held back.
    cdef size_t at = 0, length
    cdef bint known
    if not out.numbered:
        return not out.apart
    while at + 8 <= size and data[at] >> 6 == 2:
        length = 4 * (1 + <size_t> be16(data + at + 2))
        if at + length > size:
            return False
        known = out.joined and be32(data + at + 4) == out.source
        if data[at + 1] == SENDER_REPORT:
            if not known or length < 28:
                return False
            put32(data + at + 16, be32(data + at + 16) + out.timestamp_step)
            put32(data + at + 20, be32(data + at + 20) + <uint32_t> out.more_packets)
            put32(data + at + 24, be32(data + at + 24) + <uint32_t> out.more_octets)
        if known:
            put32(data + at + 4, out.ssrc)
        at += length
    return True
