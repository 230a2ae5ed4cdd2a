"""One call's media in C: whom a packet is from, where it goes, and what of it is captured. No system call is made here.

Whom a leg's packets may come from (symmetric RTP; ``admit``):

1. Before signalling named an address for the leg, nothing is accepted.
2. From then on, and until the leg is latched, the first valid packet latches the leg to its source, whether that is
   the signalled address or not (a far end behind a NAT signals an address that it does not send from).
3. Once latched, packets from anywhere else are dropped and counted, the signalled address included.
4. A changed signalled address unlatches the leg. For ``guard`` nanoseconds after that the old source is only believed
   if it is the new signalled address: its last packets, still under way, must not take the latch from the new far end.
5. RTCP has a latch of its own. It opens for the signalled RTCP address, and, where RTP has latched onto an address that
   was not signalled (NAT), for any port of that host.

Packets to a leg go to the address it is latched to, else to the signalled one; on hold (no address) nowhere. Hold
touches neither latch nor signalled address, so that a resume with the same address finds them as they were.

Once RTP is latched, the worker makes a second socket on the same port that is connected to the far end (``Sock``): the
kernel then looks up no route for what is sent there, and gives the first socket all that comes from elsewhere. Whom a
packet is from is checked all the same.

Of telephone-events (RFC 4733) each first packet and each end is kept in a short list until it is taken, the four bytes of
the event alone: never audio.

A capture ring is a pair of equal buffers. The worker appends whole records to one; ``drain`` has them change places and
returns what was in it. A record is kept whole or counted lost, and only pages that are used cost memory.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from media.relay_os cimport *
from media.relay_player cimport *
from media.relay_quality cimport *
from media.relay_ring cimport uring_t


cdef enum Verdict:
    FORWARD = 0
    MALFORMED = 1
    SOURCE = 2
    NO_TARGET = 3
    CLOSED = 4
    HELD = 5

cdef enum:
    PACKET_ROOM = 4560  # of a datagram; a longer one is no RTP (20 ms of L16/48000/2 has 3852) and counts as malformed
    RECORD_ROOM = 24
    TRIM_BYTES = 65536  # a buffer that had more than this in it gives its pages back
    EVENTS_KEPT = 32  # of a leg, until they are taken; a key pressed is two


cdef struct Ring:
    uint8_t* buffers[2]
    size_t capacity
    size_t used
    int active


cdef struct RecordHeader:
    uint64_t arrival_ns
    uint32_t timestamp
    uint32_t ssrc
    uint16_t sequence
    uint8_t payload_type
    uint8_t flags
    uint16_t length
    uint16_t reserved


cdef struct Packet:
    # The parts of a valid RTP packet that a record repeats.
    const uint8_t* payload
    size_t length
    uint32_t timestamp
    uint32_t ssrc
    uint16_t sequence
    uint8_t payload_type
    bint marker


cdef struct Sock:
    # A socket that the worker reads from; but for `fd` of an open one, which never changes, the worker's alone.
    Path* path
    int fd  # -1: none
    bint armed  # io_uring: a receive of it is under way
    endpoint_t peer  # whom it is connected to


cdef struct Path:
    # One port of a leg: its RTP or its RTCP. What every packet touches comes first.
    CSession* session
    uint8_t side
    bint rtcp
    bint has_latched
    bint unsettled  # its sockets are to be looked after: it was latched, or a receive has ended; the worker's alone
    endpoint_t latched
    Sock direct  # connected to whom the path is latched to; RTP alone
    Sock open  # takes packets from anywhere
    bint has_signalled
    bint has_previous
    bint listed
    Path* next  # in the worker's list of unsettled ones
    endpoint_t signalled
    endpoint_t previous  # the source it was latched to before signalling moved it
    uint64_t previous_until


cdef struct Counts:
    uint64_t received, received_bytes, last_packet_ns, captured, captured_bytes
    uint64_t dropped_source, dropped_malformed, dropped_no_target, ring_lost, rtcp_received
    uint64_t held_back, played  # of packets to the other leg; of packets to this one


cdef struct Event:
    # RFC 4733 §2.3, without the volume.
    uint64_t arrival_ns
    uint32_t timestamp
    uint32_t ssrc
    uint16_t duration
    uint8_t code
    bint ended


cdef struct Events:
    # Those of a leg that nobody has taken yet; what finds it full is counted and gone.
    Event kept[EVENTS_KEPT]
    Event last
    bint begun
    uint32_t count, lost


cdef struct Leg:
    # What every packet touches comes first.
    Ring* ring
    uint64_t ring_at, record_at  # addresses of the ring and its next record, read without the lock to fetch them ahead
    bint sending  # False: on hold, or never signalled
    bint numbered  # `out` is to be asked about what is sent to it
    int family
    uint64_t capture_types[2]
    uint64_t event_types[2]
    Counts counts
    Stream stream
    Path paths[2]  # RTP, RTCP
    Reported reported
    SenderReports sender_reports
    uint32_t clocks[128]  # by payload type, in Hz; 0 for what is no audio
    Events events
    Outgoing out


cdef struct Sent:
    # Counted without the lock, by the worker alone.
    uint64_t forwarded, rtcp_forwarded, failed


cdef struct CSession:
    pthread_mutex_t lock  # guards legs, closed and capture_start, but for what never changes, and what is the worker's
    bint closed
    bint rung  # an event was noted; the worker's alone
    uint64_t capture_start
    Sent sent[2]
    Leg legs[2]
    uint64_t guard_ns
    Worker* worker
    int bell  # an eventfd that is rung when there are events to be taken; -1: none
    int armed  # receives under way; the worker's alone, as is the next
    bint retiring
    CSession* next  # in the worker's `retired`, `dying` or `dead`
    CSession* next_arrived


cdef struct Worker:
    pthread_t thread
    pthread_mutex_t lock  # guards `arrived` and `retired`
    CSession* arrived
    CSession* retired
    CSession* dying  # its last receive ended in this round
    CSession* dead  # no completion speaks of it any more
    Path* unsettled
    uring_t* ring  # NULL: on epoll
    int epoll, wake
    int stop, ready
    int sessions  # under the GIL
    int live
    uint8_t* buffer  # the datagram at hand
    uint64_t pause, woken
    unsigned int gather
    uint64_t wakeups, events


cdef inline bint parse_rtp(const uint8_t* data, size_t size, Packet* packet) noexcept nogil:
    # RFC 3550 §5.1 and A.1. Payload types 72..76 are RTCP's (RFC 3551 §6).
    cdef size_t start, end = size
    if size < 12 or data[0] >> 6 != 2:
        return False
    packet.payload_type = data[1] & 0x7F
    if 72 <= packet.payload_type <= 76:
        return False
    start = 12 + 4 * (data[0] & 0x0F)
    if data[0] & 0x10:
        if start + 4 > size:
            return False
        start += 4 + 4 * <size_t> be16(data + start + 2)
    if start > size:
        return False
    if data[0] & 0x20:
        if start == size or data[size - 1] == 0 or data[size - 1] > size - start:
            return False
        end = size - data[size - 1]
    packet.payload = data + start
    packet.length = end - start
    packet.marker = data[1] >> 7
    packet.sequence = be16(data + 2)
    packet.timestamp = be32(data + 4)
    packet.ssrc = be32(data + 8)
    return True


cdef inline bint valid_rtcp(const uint8_t* data, size_t size) noexcept nogil:
    # The first packet of the compound: RFC 3550 §6.4, packet types as RFC 5761 §4 tells them apart from RTP.
    return size >= 8 and data[0] >> 6 == 2 and 192 <= data[1] <= 223 and 4 * (1 + <size_t> be16(data + 2)) <= size


cdef inline void latch(Path* path, const endpoint_t* source) noexcept nogil:
    path.unsettled = not path.rtcp
    path.latched = source[0]
    path.has_latched = True
    path.has_previous = False


cdef inline bint admit(Path* path, const endpoint_t* source, uint64_t now) noexcept nogil:
    # May a valid packet from `source` come in here? Latches. The rules are in the module's docstring.
    cdef Path* rtp
    if not path.has_signalled or endpoint_port(source) == 0:
        return False
    if path.has_latched:
        return same_endpoint(source, &path.latched)
    if not same_endpoint(source, &path.signalled):
        if path.has_previous and now < path.previous_until and same_endpoint(source, &path.previous):
            return False
        if path.rtcp:
            rtp = &path.session.legs[path.side].paths[0]
            if not rtp.has_latched or same_endpoint(&rtp.latched, &rtp.signalled):
                return False
            if not same_host(source, &rtp.latched):
                return False
    latch(path, source)
    return True


cdef inline void capture(CSession* session, Leg* leg, const Packet* packet, uint64_t now) noexcept nogil:
    cdef Ring* ring = leg.ring
    cdef RecordHeader header
    cdef size_t room
    cdef uint8_t* at
    if ring == NULL or packet.length == 0:
        return
    if not (leg.capture_types[packet.payload_type >> 6] >> (packet.payload_type & 63)) & 1:
        return
    room = (RECORD_ROOM + packet.length + 7) & ~(<size_t> 7)
    if ring.used + room > ring.capacity:
        leg.counts.ring_lost += 1
        return
    header.arrival_ns = now if now > session.capture_start else session.capture_start
    header.timestamp = packet.timestamp
    header.ssrc = packet.ssrc
    header.sequence = packet.sequence
    header.payload_type = packet.payload_type
    header.flags = packet.marker
    header.length = <uint16_t> packet.length
    header.reserved = 0
    at = ring.buffers[ring.active] + ring.used
    memcpy(at, &header, RECORD_ROOM)
    memcpy(at + RECORD_ROOM, packet.payload, packet.length)
    memset(at + RECORD_ROOM + packet.length, 0, room - RECORD_ROOM - packet.length)
    ring.used += room
    counter_set(&leg.record_at, <uint64_t> (at + room))
    leg.counts.captured += 1
    leg.counts.captured_bytes += packet.length


cdef inline void note_event(CSession* session, Events* events, const Packet* packet, uint64_t now) noexcept nogil:
    # Its first packet and its end, each once: what else is sent of an event (RFC 4733 §2.5.1.3, §2.5.1.4) says no more.
    cdef Event event
    cdef Event* last = &events.last
    event.arrival_ns = now
    event.timestamp = packet.timestamp
    event.ssrc = packet.ssrc
    event.code = packet.payload[0]
    event.ended = packet.payload[1] >> 7
    event.duration = be16(packet.payload + 2)
    if (
        events.begun and last.timestamp == event.timestamp and last.ssrc == event.ssrc and last.code == event.code
        and (last.ended or not event.ended)
    ):
        return
    events.last = event
    events.begun = True
    if events.count == EVENTS_KEPT:
        events.lost += 1
        return
    events.kept[events.count] = event
    events.count += 1
    session.rung = True


cdef inline bint pass_on(
    Leg* leg, Leg* other, bint rtcp, uint8_t* data, size_t size, const Packet* packet, uint64_t now
) noexcept nogil:
    # To a leg that something was played to, or that is held apart; see relay_player.pxd.
    if rtcp:
        return fit_rtcp(&other.out, data, size)
    if renumber(&other.out, data, packet.length, packet.ssrc, packet.sequence, packet.timestamp, now):
        return True
    leg.counts.held_back += 1
    return False


cdef inline Verdict decide(
    Path* path, const endpoint_t* source, uint8_t* data, size_t size, uint64_t now, endpoint_t* target
) noexcept nogil:
    # Everything about one packet but its sending (renumbering included), under the session's lock; `target` is set for FORWARD alone.
    cdef CSession* session = path.session
    cdef Leg* leg = &session.legs[path.side]
    cdef Leg* other = &session.legs[1 - path.side]
    cdef Path* out = &other.paths[path.rtcp]
    cdef Packet packet
    memset(&packet, 0, sizeof(packet))
    if session.closed:
        return CLOSED
    if path.has_latched and not same_endpoint(source, &path.latched):
        leg.counts.dropped_source += 1
        return SOURCE
    if not (valid_rtcp(data, size) if path.rtcp else parse_rtp(data, size, &packet)):
        leg.counts.dropped_malformed += 1
        return MALFORMED
    if not admit(path, source, now):
        leg.counts.dropped_source += 1
        return SOURCE
    if path.rtcp:
        leg.counts.rtcp_received += 1
        if leg.numbered:
            name_source(&leg.out, data, size)
        read_rtcp(&leg.sender_reports, &leg.reported, &other.stream, &other.sender_reports, data, size, now)
    else:
        leg.counts.received += 1
        leg.counts.received_bytes += size
        leg.counts.last_packet_ns = now
        if packet.payload_type != leg.stream.payload_type:
            leg.stream.payload_type, leg.stream.rate = packet.payload_type, leg.clocks[packet.payload_type]
        follow(&leg.stream, packet.ssrc, packet.sequence, packet.timestamp, now)
        capture(session, leg, &packet, now)
        if (leg.event_types[packet.payload_type >> 6] >> (packet.payload_type & 63)) & 1 and packet.length >= 4:
            note_event(session, &leg.events, &packet, now)
    if not other.sending:
        if not path.rtcp:
            leg.counts.dropped_no_target += 1
        return NO_TARGET
    if other.numbered and not pass_on(leg, other, path.rtcp, data, size, &packet, now):
        return HELD
    target[0] = out.latched if out.has_latched else out.signalled
    return FORWARD


cdef inline Verdict handle(
    Path* path, const endpoint_t* source, uint8_t* data, size_t size, uint64_t now, endpoint_t* target
) noexcept nogil:
    cdef Verdict verdict
    pthread_mutex_lock(&path.session.lock)
    verdict = decide(path, source, data, size, now, target)
    pthread_mutex_unlock(&path.session.lock)
    return verdict


cdef inline void init_sock(Sock* sock, Path* path, int fd) noexcept nogil:
    sock.path = path
    sock.fd = fd
    sock.armed = False


cdef inline void rearm(Path* path, const endpoint_t* signalled, uint64_t until) noexcept nogil:
    if path.has_latched:
        path.previous = path.latched
        path.has_previous = True
        path.previous_until = until
    path.has_latched = False
    path.signalled = signalled[0]
    path.has_signalled = True


cdef inline Ring* make_ring(size_t capacity) noexcept nogil:
    # NULL when there is no memory.
    cdef Ring* ring = <Ring*> calloc(1, sizeof(Ring))
    if ring == NULL:
        return NULL
    ring.capacity = capacity
    ring.buffers[0] = <uint8_t*> map_memory(2 * capacity)
    if ring.buffers[0] == NULL:
        free(ring)
        return NULL
    ring.buffers[1] = ring.buffers[0] + capacity
    return ring


cdef inline void free_ring(Ring* ring) noexcept nogil:
    munmap(ring.buffers[0], 2 * ring.capacity)
    free(ring)
