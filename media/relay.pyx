# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, embedsignature=False
"""The native data plane: worker threads without the GIL that forward RTP and RTCP and fill the capture rings.

It is small and dumb: it checks headers, finds out whom a packet is from, forwards it unchanged, and copies the payload
with its timestamp into the leg's ring, if the leg has one. It decodes nothing and never runs Python.

Who a leg's packets may come from (symmetric RTP; ``_admit``):

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

Threads. The control methods run with the GIL and are therefore never concurrent with each other. A session has a lock,
held for well under a microsecond at a time and never across a system call: the worker takes it to decide about one
packet (and to capture it), a control method to change what is decided upon. Sockets and session memory are given back
by the session's own worker alone, between two batches of packets, when nothing can refer to them any more.

A capture ring is a pair of equal buffers. The worker appends whole records to one; ``drain`` has them change places and
returns what was in it. A record is kept whole or counted lost, and only pages that are used cost memory.
"""

from cython cimport no_gc_clear
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.errno cimport errno
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from media.relay_os cimport *

import os

RECORD_HEADER = 24
"""Bytes before the payload in a ring record; ``RECORD`` in media/rtp.py reads them."""

VERDICTS = ("forwarded", "malformed", "source", "no_target", "closed")
"""What ``Session.feed`` answers, by number of ``Verdict``."""

cdef enum Verdict:
    FORWARD = 0
    MALFORMED = 1
    SOURCE = 2
    NO_TARGET = 3
    CLOSED = 4

cdef enum:
    BATCH = 64  # events taken from epoll at a time
    PACKET_ROOM = 65536  # no UDP datagram is longer
    RECORD_ROOM = 24
    TRIM_BYTES = 65536  # a buffer that had more than this in it gives its pages back


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


cdef struct Path:
    # One socket of a leg: its RTP or its RTCP.
    CSession* session
    int fd
    int side
    bint rtcp
    bint has_signalled
    bint has_latched
    bint has_previous
    endpoint_t signalled
    endpoint_t latched
    endpoint_t previous  # the source it was latched to before signalling moved it
    uint64_t previous_until


cdef struct Leg:
    Path paths[2]  # RTP, RTCP
    bint sending  # False: on hold, or never signalled
    int family
    Ring* ring
    uint64_t capture_types[2]
    uint64_t received, received_bytes, dropped_source, dropped_malformed, dropped_no_target
    uint64_t captured, captured_bytes, ring_lost, rtcp_received
    uint64_t last_packet_ns


cdef struct Sent:
    # Counted without the lock, by the worker alone.
    uint64_t forwarded, rtcp_forwarded, failed


cdef struct CSession:
    pthread_mutex_t lock  # guards legs, closed and capture_start, but for what never changes: fd, side, session
    Leg legs[2]
    Sent sent[2]
    bint closed
    uint64_t capture_start
    uint64_t guard_ns
    Worker* worker
    CSession* next  # in the worker's list of retired sessions


cdef struct Worker:
    pthread_t thread
    pthread_mutex_t lock  # guards `retired`
    CSession* retired
    int epoll, wake
    int stop
    int sessions  # under the GIL
    uint8_t* buffer  # the datagram at hand
    uint64_t pause
    uint64_t wakeups, events


cdef inline uint32_t _be32(const uint8_t* at) noexcept nogil:
    return (<uint32_t> at[0] << 24) | (<uint32_t> at[1] << 16) | (<uint32_t> at[2] << 8) | at[3]


cdef inline uint16_t _be16(const uint8_t* at) noexcept nogil:
    return (<uint16_t> at[0] << 8) | at[1]


cdef bint _parse_rtp(const uint8_t* data, size_t size, Packet* packet) noexcept nogil:
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
        start += 4 + 4 * <size_t> _be16(data + start + 2)
    if start > size:
        return False
    if data[0] & 0x20:
        if start == size or data[size - 1] == 0 or data[size - 1] > size - start:
            return False
        end = size - data[size - 1]
    packet.payload = data + start
    packet.length = end - start
    packet.marker = data[1] >> 7
    packet.sequence = _be16(data + 2)
    packet.timestamp = _be32(data + 4)
    packet.ssrc = _be32(data + 8)
    return True


cdef bint _valid_rtcp(const uint8_t* data, size_t size) noexcept nogil:
    # The first packet of the compound: RFC 3550 §6.4, packet types as RFC 5761 §4 tells them apart from RTP.
    return size >= 8 and data[0] >> 6 == 2 and 192 <= data[1] <= 223 and 4 * (1 + <size_t> _be16(data + 2)) <= size


cdef inline void _latch(Path* path, const endpoint_t* source) noexcept nogil:
    path.latched = source[0]
    path.has_latched = True
    path.has_previous = False


cdef bint _admit(Path* path, const endpoint_t* source, uint64_t now) noexcept nogil:
    # May a valid packet from `source` come in here? Latches. The rules are in the module's docstring.
    cdef Path* rtp
    if not path.has_signalled:
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
    _latch(path, source)
    return True


cdef void _capture(CSession* session, Leg* leg, const Packet* packet, uint64_t now) noexcept nogil:
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
        leg.ring_lost += 1
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
    leg.captured += 1
    leg.captured_bytes += packet.length


cdef Verdict _decide(
    Path* path, const endpoint_t* source, const uint8_t* data, size_t size, uint64_t now, endpoint_t* target
) noexcept nogil:
    # Everything about one packet but its sending, under the session's lock; `target` is set for FORWARD alone.
    cdef CSession* session = path.session
    cdef Leg* leg = &session.legs[path.side]
    cdef Leg* other = &session.legs[1 - path.side]
    cdef Path* out = &other.paths[path.rtcp]
    cdef Packet packet
    memset(&packet, 0, sizeof(packet))
    if session.closed:
        return CLOSED
    if path.has_latched and not same_endpoint(source, &path.latched):
        leg.dropped_source += 1
        return SOURCE
    if not (_valid_rtcp(data, size) if path.rtcp else _parse_rtp(data, size, &packet)):
        leg.dropped_malformed += 1
        return MALFORMED
    if not _admit(path, source, now):
        leg.dropped_source += 1
        return SOURCE
    if path.rtcp:
        leg.rtcp_received += 1
    else:
        leg.received += 1
        leg.received_bytes += size
        leg.last_packet_ns = now
        _capture(session, leg, &packet, now)
    if not other.sending:
        if not path.rtcp:
            leg.dropped_no_target += 1
        return NO_TARGET
    target[0] = out.latched if out.has_latched else out.signalled
    return FORWARD


cdef Verdict _handle(
    Path* path, const endpoint_t* source, const uint8_t* data, size_t size, uint64_t now, endpoint_t* target
) noexcept nogil:
    cdef Verdict verdict
    pthread_mutex_lock(&path.session.lock)
    verdict = _decide(path, source, data, size, now, target)
    pthread_mutex_unlock(&path.session.lock)
    return verdict


cdef inline void _count_sent(Path* path, bint sent) noexcept nogil:
    cdef Sent* counters = &path.session.sent[path.side]
    if not sent:
        counter_add(&counters.failed, 1)
    elif path.rtcp:
        counter_add(&counters.rtcp_forwarded, 1)
    else:
        counter_add(&counters.forwarded, 1)


cdef void _serve(Path* path, uint8_t* buffer, uint64_t now) noexcept nogil:
    # One datagram that epoll says is there. Errors of recvfrom (an ICMP answer to an earlier packet) are of no use here.
    cdef endpoint_t source, target
    cdef socklen_t length = sizeof(endpoint_t)
    cdef ssize_t size = recvfrom(path.fd, buffer, PACKET_ROOM, MSG_DONTWAIT, <sockaddr*> &source, &length)
    cdef int fd
    if size < 0:
        return
    if _handle(path, &source, buffer, <size_t> size, now, &target) != FORWARD:
        return
    fd = path.session.legs[1 - path.side].paths[path.rtcp].fd
    _count_sent(path, sendto(fd, buffer, size, MSG_DONTWAIT, <sockaddr*> &target, endpoint_size(&target)) == size)


cdef void _bury(CSession* session, int epoll) noexcept nogil:
    # Nothing refers to the session any more: give back its sockets and its memory.
    cdef int side, kind, fd
    for side in range(2):
        for kind in range(2):
            fd = session.legs[side].paths[kind].fd
            if fd >= 0:
                epoll_ctl(epoll, EPOLL_CTL_DEL, fd, NULL)
                close(fd)
    pthread_mutex_destroy(&session.lock)
    free(session)


cdef void _bury_retired(Worker* worker) noexcept nogil:
    cdef CSession* session
    cdef CSession* following
    pthread_mutex_lock(&worker.lock)
    session = worker.retired
    worker.retired = NULL
    pthread_mutex_unlock(&worker.lock)
    while session != NULL:
        following = session.next
        _bury(session, worker.epoll)
        session = following


cdef void _serve_batch(Worker* worker, epoll_event* events, int count) noexcept nogil:
    cdef uint64_t now = monotonic_ns()
    cdef uint64_t woken
    cdef int i
    for i in range(count):
        if events[i].data.ptr != NULL:
            _serve(<Path*> events[i].data.ptr, worker.buffer, now)
        else:
            read(worker.wake, &woken, sizeof(woken))
    counter_add(&worker.events, count)


cdef void* _run(void* argument) noexcept nogil:
    # epoll is level-triggered and one datagram is read per event, so no recvfrom is spent on an empty socket. When
    # nothing is left, and batches follow each other closely, a pause lets the next one grow: one wakeup for many
    # packets, and none of the senders has to wake this thread.
    cdef Worker* worker = <Worker*> argument
    cdef epoll_event events[BATCH]
    cdef uint64_t woken_at, woken_before = 0
    cdef int count
    while not flag_get(&worker.stop):
        count = epoll_wait(worker.epoll, events, BATCH, -1)
        woken_at = monotonic_ns()
        counter_add(&worker.wakeups, 1)
        while count > 0:
            _serve_batch(worker, events, count)
            _bury_retired(worker)
            count = epoll_wait(worker.epoll, events, BATCH, 0) if not flag_get(&worker.stop) else 0
        if worker.pause and woken_at - woken_before < 2 * worker.pause:
            pause_ns(worker.pause)
        woken_before = woken_at
    _bury_retired(worker)
    return NULL


cdef Ring* _make_ring(size_t capacity) noexcept nogil:
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


cdef void _free_ring(Ring* ring) noexcept nogil:
    munmap(ring.buffers[0], 2 * ring.capacity)
    free(ring)


cdef object _address(const endpoint_t* endpoint):
    cdef char text[64]
    inet_ntop(endpoint_family(endpoint), endpoint_host(endpoint), text, sizeof(text))
    return text.decode("ascii"), endpoint_port(endpoint)


cdef int _parse_address(endpoint_t* endpoint, int family, address) except -1:
    host, port = address
    if not 1 <= port <= 65535:
        raise ValueError(f"port {port} is not in 1..65535")
    if not endpoint_parse(endpoint, family, host.encode("ascii", "replace"), port):
        raise ValueError(f"{host!r} is not an IPv{4 if family == AF_INET else 6} literal, as this leg needs")
    return 0


cdef void _rearm(Path* path, const endpoint_t* signalled, uint64_t until) noexcept nogil:
    if path.has_latched:
        path.previous = path.latched
        path.has_previous = True
        path.previous_until = until
    path.has_latched = False
    path.signalled = signalled[0]
    path.has_signalled = True


@no_gc_clear  # its relay, and the worker with it, must outlive it
cdef class Session:
    """The native half of one call's media. Made by ``Relay.open``, or by ``Session.detached`` for tests."""

    cdef CSession* _session
    cdef object _relay
    cdef size_t _ring_bytes
    cdef tuple _final

    def __cinit__(self):
        self._session = NULL

    def __dealloc__(self):
        self._dispose()

    @staticmethod
    def detached(*, int family=2, size_t ring_bytes=262144, uint64_t guard_ns=1_000_000_000):
        """A session without sockets and worker, to be fed packets by ``feed``; ``family`` is a ``socket.AF_*``."""
        cdef Session session = Session.__new__(Session)
        session._build(None, ring_bytes, guard_ns, (family, family), ((-1, -1), (-1, -1)))
        return session

    cdef int _build(self, relay, size_t ring_bytes, uint64_t guard_ns, families, fds) except -1:
        cdef int side, kind
        cdef Path* path
        self._session = <CSession*> calloc(1, sizeof(CSession))
        if self._session == NULL:
            raise MemoryError
        pthread_mutex_init(&self._session.lock, NULL)
        self._relay = relay
        self._ring_bytes = ring_bytes
        self._session.guard_ns = guard_ns
        for side in range(2):
            self._session.legs[side].family = families[side]
            for kind in range(2):
                path = &self._session.legs[side].paths[kind]
                path.session = self._session
                path.fd = fds[side][kind]
                path.side = side
                path.rtcp = kind
        return 0

    cdef Leg* _leg(self, int side) except NULL:
        if self._session == NULL:
            raise ValueError("the session is closed")
        if side != 0 and side != 1:
            raise ValueError(f"side must be 0 or 1, not {side}")
        return &self._session.legs[side]

    def set_remote(self, int side, rtp, rtcp=None, uint64_t now=0):
        """Where ``side`` wants its packets: (host, port) literals of the leg's family; None: nowhere (hold).

        ``rtcp`` None: the port after RTP (RFC 3550 §11). ``now`` 0: the monotonic clock's. Raises ValueError, having changed nothing.
        """
        cdef Leg* leg = self._leg(side)
        cdef endpoint_t signalled[2]
        cdef uint64_t until = (now or monotonic_ns()) + self._session.guard_ns
        cdef bint moved
        cdef int kind
        if rtp is None:
            pthread_mutex_lock(&self._session.lock)
            leg.sending = False
            pthread_mutex_unlock(&self._session.lock)
            return
        _parse_address(&signalled[0], leg.family, rtp)
        # The highest port has none after it: its RTCP goes nowhere useful rather than stopping the call.
        _parse_address(&signalled[1], leg.family, rtcp if rtcp is not None else (rtp[0], min(rtp[1] + 1, 65535)))
        pthread_mutex_lock(&self._session.lock)
        moved = not leg.paths[0].has_signalled or not same_endpoint(&signalled[0], &leg.paths[0].signalled)
        for kind in range(2):
            if moved or not same_endpoint(&signalled[kind], &leg.paths[kind].signalled):
                _rearm(&leg.paths[kind], &signalled[kind], until)
        leg.sending = True
        pthread_mutex_unlock(&self._session.lock)

    def set_capture_types(self, int side, payload_types):
        """The payload types (0..127) from ``side`` that are copied into its ring, if it has one."""
        cdef Leg* leg = self._leg(side)
        cdef uint64_t mask[2]
        mask[0] = mask[1] = 0
        for number in payload_types:
            if not 0 <= number <= 127:
                raise ValueError(f"payload type {number} is not in 0..127")
            mask[number >> 6] |= <uint64_t> 1 << (number & 63)
        pthread_mutex_lock(&self._session.lock)
        leg.capture_types[0] = mask[0]
        leg.capture_types[1] = mask[1]
        pthread_mutex_unlock(&self._session.lock)

    def start_capture(self, int side, uint64_t start_ns):
        """Make the ring of ``side``; no record is older than ``start_ns``. False when there is no memory for it."""
        cdef Leg* leg = self._leg(side)
        cdef Ring* ring
        if leg.ring != NULL:
            return True
        ring = _make_ring(self._ring_bytes)
        if ring == NULL:
            return False
        if self._relay is not None:
            (<Relay> self._relay).rings_made += 1
        pthread_mutex_lock(&self._session.lock)
        self._session.capture_start = start_ns
        leg.ring = ring
        pthread_mutex_unlock(&self._session.lock)
        return True

    def drain(self, int side):
        """The whole records captured since the last call, in order of arrival; b"" without a ring or when closed."""
        cdef Ring* ring
        cdef size_t used
        cdef uint8_t* taken
        if self._session == NULL:
            return b""
        ring = self._leg(side).ring
        if ring == NULL:
            return b""
        pthread_mutex_lock(&self._session.lock)
        taken = ring.buffers[ring.active]
        used = ring.used
        ring.active = 1 - ring.active
        ring.used = 0
        pthread_mutex_unlock(&self._session.lock)
        records = PyBytes_FromStringAndSize(<char*> taken, used)
        if used > TRIM_BYTES:
            madvise(taken, ring.capacity & ~(<size_t> 4095), MADV_DONTNEED)
        return records

    def stop_capture(self, int side):
        """Destroy the ring of ``side`` and return what was still in it: after that no payload of it is copied. None without one."""
        cdef Leg* leg
        cdef Ring* ring
        if self._session == NULL:
            return None
        leg = self._leg(side)
        pthread_mutex_lock(&self._session.lock)
        ring = leg.ring
        leg.ring = NULL
        pthread_mutex_unlock(&self._session.lock)
        if ring == NULL:
            return None
        try:
            return PyBytes_FromStringAndSize(<char*> ring.buffers[ring.active], ring.used)
        finally:
            self._free(ring)

    cdef void _free(self, Ring* ring):
        _free_ring(ring)
        if self._relay is not None:
            (<Relay> self._relay).rings_freed += 1

    def ring_memory(self, int side):
        """All memory of the side's ring, used or not, for tests; None when there is no ring."""
        cdef Ring* ring
        if self._session == NULL or self._leg(side).ring == NULL:
            return None
        ring = self._leg(side).ring
        pthread_mutex_lock(&self._session.lock)
        try:
            return PyBytes_FromStringAndSize(<char*> ring.buffers[0], 2 * ring.capacity)
        finally:
            pthread_mutex_unlock(&self._session.lock)

    cdef dict _leg_stats(self, int side):
        cdef Leg leg
        cdef Path* rtp = &leg.paths[0]
        cdef Sent* sent = &self._session.sent[side]
        pthread_mutex_lock(&self._session.lock)
        leg = self._session.legs[side]
        pthread_mutex_unlock(&self._session.lock)
        return {
            "received": leg.received,
            "received_bytes": leg.received_bytes,
            "forwarded": counter_get(&sent.forwarded),
            "dropped_source": leg.dropped_source,
            "dropped_malformed": leg.dropped_malformed,
            "dropped_no_target": leg.dropped_no_target,
            "captured": leg.captured,
            "captured_bytes": leg.captured_bytes,
            "ring_lost": leg.ring_lost,
            "rtcp_received": leg.rtcp_received,
            "rtcp_forwarded": counter_get(&sent.rtcp_forwarded),
            "send_failed": counter_get(&sent.failed),
            "last_packet_ns": leg.last_packet_ns,
            "far_end": _address(&rtp.latched if rtp.has_latched else &rtp.signalled) if rtp.has_signalled else None,
        }

    def stats(self):
        """The counters of both legs, (agent, prospect); the last ones when closed. Names are those of LegStats, and
        ``send_failed``: accepted packets that the kernel did not take (ENOBUFS, EAGAIN, no route)."""
        if self._session == NULL:
            return self._final
        return self._leg_stats(0), self._leg_stats(1)

    def feed(self, int side, bint rtcp, source, bytes data, uint64_t now):
        """Test hook: what becomes of a packet, through the same code as the worker's, without a socket.

        Returns (verdict, target): a word of ``VERDICTS``, and (host, port) where it would be sent, else None.
        """
        cdef Leg* leg = self._leg(side)
        cdef endpoint_t origin, target
        cdef Verdict verdict
        if leg.paths[0].fd >= 0:
            raise ValueError("only a detached session can be fed")
        _parse_address(&origin, leg.family, source)
        verdict = _handle(&leg.paths[rtcp], &origin, <const uint8_t*> <char*> data, len(data), now, &target)
        if verdict != FORWARD:
            return VERDICTS[verdict], None
        _count_sent(&leg.paths[rtcp], True)
        return VERDICTS[verdict], _address(&target)

    def close(self):
        """Stop relaying and capturing at once; sockets are closed by the worker a moment later. Idempotent."""
        if self._session == NULL:
            return
        pthread_mutex_lock(&self._session.lock)
        self._session.closed = True
        pthread_mutex_unlock(&self._session.lock)
        self.stop_capture(0)
        self.stop_capture(1)
        self._final = self.stats()
        self._dispose()

    cdef void _dispose(self):
        cdef CSession* session = self._session
        cdef int side
        if session == NULL:
            return
        pthread_mutex_lock(&session.lock)
        session.closed = True
        pthread_mutex_unlock(&session.lock)
        for side in range(2):
            if session.legs[side].ring != NULL:
                self._free(session.legs[side].ring)
                session.legs[side].ring = NULL
        self._session = NULL
        if session.worker == NULL:
            _bury(session, -1)
            return
        if (<Relay> self._relay)._sessions is not None:
            (<Relay> self._relay)._sessions.discard(self)
        _retire(session)


cdef void _retire(CSession* session) noexcept:
    # Hands the session to its worker, which buries it once its present batch is done.
    cdef Worker* worker = session.worker
    cdef uint64_t one = 1
    worker.sessions -= 1
    pthread_mutex_lock(&worker.lock)
    session.next = worker.retired
    worker.retired = session
    pthread_mutex_unlock(&worker.lock)
    write(worker.wake, &one, sizeof(one))


cdef class Relay:
    """The relay's worker threads. ``coalesce_us``: how long a busy worker lets packets gather, in microseconds.

    ``ring_bytes`` is the room of each capture ring, ``guard_ns`` see the module's docstring.
    Raises ValueError or OSError.
    """

    cdef Worker* _workers
    cdef int _count
    cdef int _started
    cdef set _sessions
    cdef size_t _ring_bytes
    cdef uint64_t _guard_ns
    cdef readonly uint64_t rings_made
    cdef readonly uint64_t rings_freed

    def __cinit__(self):
        self._workers = NULL
        self._sessions = set()

    def __init__(
        self,
        int workers=1,
        *,
        uint64_t coalesce_us=1000,
        size_t ring_bytes=262144,
        uint64_t guard_ns=1_000_000_000,
    ):
        cdef int i
        if not 1 <= workers <= 64:
            raise ValueError(f"workers must be in 1..64, not {workers}")
        if not 4096 <= ring_bytes <= 1 << 30:
            raise ValueError(f"ring_bytes must be in 4096..2**30, not {ring_bytes}")
        if self._workers != NULL:
            raise ValueError("already initialised")
        self._ring_bytes = (ring_bytes + 4095) & ~(<size_t> 4095)
        self._guard_ns = guard_ns
        self._count = workers
        self._workers = <Worker*> calloc(workers, sizeof(Worker))
        if self._workers == NULL:
            raise MemoryError
        for i in range(workers):
            self._start(&self._workers[i], coalesce_us * 1000)

    cdef int _start(self, Worker* worker, uint64_t pause) except -1:
        cdef epoll_event event
        cdef int failed
        worker.pause = pause
        worker.epoll = epoll_create1(EPOLL_CLOEXEC)
        worker.wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)
        worker.buffer = <uint8_t*> calloc(1, PACKET_ROOM)
        pthread_mutex_init(&worker.lock, NULL)
        self._started += 1
        event.events = EPOLLIN
        event.data.ptr = NULL
        if worker.buffer != NULL and not epoll_ctl(worker.epoll, EPOLL_CTL_ADD, worker.wake, &event):
            failed = start_thread(&worker.thread, _run, worker)
            if not failed:
                return 0
        else:
            failed = errno
        self._started -= 1
        _close_worker(worker)
        self.close()
        raise OSError(failed, f"cannot start a relay worker: {os.strerror(failed)}")

    def open(self, agent, prospect):
        """A session on bound UDP sockets: each leg is (RTP fd, RTCP fd), of one address family.

        The descriptors belong to the session from here on, whatever happens. Raises OSError or ValueError.
        """
        cdef Session session = Session.__new__(Session)
        cdef Worker* worker = NULL
        cdef int i
        try:
            if self._workers == NULL:
                raise ValueError("the relay is closed")
            families = tuple(_family(pair[0]) for pair in (agent, prospect))
            session._build(self, self._ring_bytes, self._guard_ns, families, (agent, prospect))
        except BaseException:
            for fd in (*agent, *prospect):
                os.close(fd)
            raise
        for i in range(self._count):
            if worker == NULL or self._workers[i].sessions < worker.sessions:
                worker = &self._workers[i]
        session._session.worker = worker
        worker.sessions += 1
        self._sessions.add(session)
        if not _watch(session._session):
            failed = errno
            session.close()
            raise OSError(failed, f"cannot watch the sockets: {os.strerror(failed)}")
        return session

    def stats(self):
        """Per worker: live sessions, wakeups, events (packets and wakings) since the start."""
        return [
            {
                "sessions": self._workers[i].sessions,
                "wakeups": counter_get(&self._workers[i].wakeups),
                "events": counter_get(&self._workers[i].events),
            }
            for i in range(self._count if self._workers != NULL else 0)
        ]

    def close(self):
        """Close every session and end the threads; returns when they have ended. Idempotent."""
        cdef Worker* workers = self._workers
        cdef int i
        for session in list(self._sessions):
            session.close()
        if workers == NULL:
            return
        self._workers = NULL
        with nogil:
            for i in range(self._started):
                _stop_worker(&workers[i])
        free(workers)

    def __dealloc__(self):
        # A live session keeps its relay alive, so there is none left here.
        cdef int i
        if self._workers != NULL:
            for i in range(self._started):
                _stop_worker(&self._workers[i])
            free(self._workers)


cdef int _family(int fd) except -1:
    cdef endpoint_t local
    cdef socklen_t length = sizeof(endpoint_t)
    if getsockname(fd, <sockaddr*> &local, &length) != 0:
        raise OSError(errno, os.strerror(errno))
    if endpoint_family(&local) != AF_INET and endpoint_family(&local) != AF_INET6:
        raise ValueError("not an IPv4 or IPv6 socket")
    return endpoint_family(&local)


cdef bint _watch(CSession* session) noexcept:
    cdef epoll_event event
    cdef int side, kind
    event.events = EPOLLIN
    for side in range(2):
        for kind in range(2):
            event.data.ptr = &session.legs[side].paths[kind]
            if epoll_ctl(session.worker.epoll, EPOLL_CTL_ADD, session.legs[side].paths[kind].fd, &event) != 0:
                return False
    return True


cdef void _close_worker(Worker* worker) noexcept nogil:
    if worker.epoll >= 0:
        close(worker.epoll)
    if worker.wake >= 0:
        close(worker.wake)
    free(worker.buffer)
    pthread_mutex_destroy(&worker.lock)


cdef void _stop_worker(Worker* worker) noexcept nogil:
    cdef uint64_t one = 1
    flag_set(&worker.stop, 1)
    write(worker.wake, &one, sizeof(one))
    pthread_join(worker.thread, NULL)
    _close_worker(worker)
