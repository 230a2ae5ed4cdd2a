"""How good a stream is, natively: what its sequence numbers and timestamps say (RFC 3550 A.1, A.3, A.8), and what RTCP
reports of it (§6.4). A few integer operations for a packet; everything that can be worked out later is (quality.py)."""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef enum:
    MAX_DROPOUT = 3000
    MAX_MISORDER = 100
    REPORTS_KEPT = 4  # sender reports that a receiver report may still refer to
    SENDER_REPORT = 200
    RECEIVER_REPORT = 201
    BLOCK = 24
    LONGEST_TRIP_MS = 60000  # a longer round trip is a lie, or an answer to a report of another call


cdef struct Stream:
    # What comes from a leg's far end; one source (SSRC) at a time. Times in ns, jitter in 1/16 timestamp units.
    bint begun
    uint8_t payload_type
    uint16_t first, highest
    uint32_t rate  # of the present payload type, in Hz; 0 where its timestamps say nothing of jitter
    uint32_t clock  # that the jitter is counted in
    uint32_t ssrc, cycles, came, suspect, transit
    uint64_t expected_before, came_before  # of earlier sources
    uint64_t base_ns, last_ns, longest_gap_ns
    uint64_t jitter, jitter_most
    uint32_t timestamp  # of the highest audio packet
    uint64_t timestamp_ns  # when that came; 0: none did


cdef struct Reported:
    # What a leg's far end reports of the stream that is sent to it.
    uint32_t reports, jitter
    int32_t lost
    uint8_t fraction_most
    uint64_t trips, trip_sum_ns, trip_most_ns


cdef struct SenderReports:
    # When sender reports of a leg's far end passed, by the middle of their NTP timestamps; the oldest is overwritten.
    uint32_t middle[REPORTS_KEPT]
    uint64_t passed_ns[REPORTS_KEPT]
    uint32_t count


cdef inline uint32_t be32(const uint8_t* at) noexcept nogil:
    return (<uint32_t> at[0] << 24) | (<uint32_t> at[1] << 16) | (<uint32_t> at[2] << 8) | at[3]


cdef inline uint16_t be16(const uint8_t* at) noexcept nogil:
    return (<uint16_t> at[0] << 8) | at[1]


cdef inline void begin(Stream* stream, uint32_t ssrc, uint16_t sequence, uint64_t now) noexcept nogil:
    if stream.begun:
        stream.expected_before += stream.cycles + stream.highest - stream.first + 1
        stream.came_before += stream.came
    stream.begun = True
    stream.ssrc = ssrc
    stream.first = stream.highest = sequence
    stream.cycles = 0
    stream.came = 0
    stream.suspect = 0x10000
    stream.base_ns = stream.last_ns = stream.timestamp_ns = 0


cdef inline bint number(Stream* stream, uint16_t sequence, uint64_t now) noexcept nogil:
    # RFC 3550 A.1: False for a packet that is not believed yet (a jump, until the next one follows it).
    cdef uint16_t step = <uint16_t> (sequence - stream.highest)
    if step < MAX_DROPOUT:
        if sequence < stream.highest:
            stream.cycles += 0x10000
        stream.highest = sequence
    elif step <= 0x10000 - MAX_MISORDER:
        if sequence != stream.suspect:
            stream.suspect = (<uint32_t> sequence + 1) & 0xFFFF
            return False
        begin(stream, stream.ssrc, sequence, now)
    return True


cdef inline void follow(
    Stream* stream, uint32_t ssrc, uint16_t sequence, uint32_t timestamp, uint64_t now
) noexcept nogil:
    # A packet came.
    cdef uint32_t clock = stream.rate, transit
    cdef int32_t change
    if not stream.begun or ssrc != stream.ssrc:
        begin(stream, ssrc, sequence, now)
    elif not number(stream, sequence, now):
        return
    stream.came += 1
    if stream.last_ns and now - stream.last_ns > stream.longest_gap_ns:
        stream.longest_gap_ns = now - stream.last_ns
    stream.last_ns = now
    if clock == 0:
        return
    if sequence == stream.highest:
        stream.timestamp, stream.timestamp_ns = timestamp, now
    if stream.base_ns == 0 or clock != stream.clock:
        stream.base_ns, stream.clock = now, clock
        stream.jitter = 0
        stream.transit = 0 - timestamp
        return
    transit = <uint32_t> ((now - stream.base_ns) // 1000 * clock // 1000000) - timestamp
    change = <int32_t> (transit - stream.transit)
    stream.transit = transit
    if change < 0:
        change = -change
    if <uint32_t> change > 2 * clock:
        return  # a new beginning of the timestamps, not a delay
    stream.jitter += <uint64_t> change - ((stream.jitter + 8) >> 4)
    if stream.jitter > stream.jitter_most:
        stream.jitter_most = stream.jitter


cdef inline void note_sender_report(SenderReports* kept, const uint8_t* report, uint64_t now) noexcept nogil:
    cdef uint32_t place = kept.count % REPORTS_KEPT
    kept.middle[place] = (<uint32_t> be16(report + 10) << 16) | be16(report + 12)
    kept.passed_ns[place] = now
    kept.count += 1


cdef inline void note_trip(Reported* reported, const SenderReports* kept, const uint8_t* block, uint64_t now) noexcept nogil:
    # RFC 3550 §6.4.1, from here to the reporter and back: the report was passed on at a known time.
    cdef uint32_t last = be32(block + 16)
    cdef int64_t trip
    cdef uint32_t i
    if last == 0:
        return
    for i in range(REPORTS_KEPT if kept.count > REPORTS_KEPT else kept.count):
        if kept.middle[i] == last:
            trip = <int64_t> (now - kept.passed_ns[i]) - <int64_t> (<uint64_t> be32(block + 20) * 1000000000 // 65536)
            if 0 <= trip < LONGEST_TRIP_MS * <int64_t> 1000000:
                reported.trips += 1
                reported.trip_sum_ns += <uint64_t> trip
                if <uint64_t> trip > reported.trip_most_ns:
                    reported.trip_most_ns = <uint64_t> trip
            return


cdef inline void note_block(
    Reported* reported, const Stream* stream, const SenderReports* kept, const uint8_t* block, uint64_t now
) noexcept nogil:
    # One report block; `stream` and `kept` are of the leg whose packets the reporter receives.
    cdef int32_t lost = <int32_t> (be32(block + 4) & 0xFFFFFF)
    if not stream.begun or be32(block) != stream.ssrc:
        return
    reported.reports += 1
    reported.lost = lost - 0x1000000 if lost & 0x800000 else lost
    reported.jitter = be32(block + 12)
    if block[4] > reported.fraction_most:
        reported.fraction_most = block[4]
    note_trip(reported, kept, block, now)


cdef inline void read_rtcp(
    SenderReports* own, Reported* reported, const Stream* stream, const SenderReports* kept,
    const uint8_t* data, size_t size, uint64_t now,
) noexcept nogil:
    # A compound packet from a leg's far end: `own` and `reported` are that leg's, `stream` and `kept` the other's.
    cdef size_t at = 0, length, block, end
    while at + 8 <= size and data[at] >> 6 == 2:
        length = 4 * (1 + <size_t> be16(data + at + 2))
        if at + length > size:
            return
        block = 0
        if data[at + 1] == SENDER_REPORT and length >= 28:
            note_sender_report(own, data + at, now)
            block = 28
        elif data[at + 1] == RECEIVER_REPORT:
            block = 8
        if block:
            end = block + BLOCK * <size_t> (data[at] & 0x1F)
            while block + BLOCK <= end and block + BLOCK <= length:
                note_block(reported, stream, kept, data + at + block, now)
                block += BLOCK
        at += length
