# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, embedsignature=False
"""The native data plane: worker threads without the GIL that forward RTP and RTCP and fill the capture rings.

It is small and dumb: it checks headers, finds out whom a packet is from, forwards it (unchanged, but for a leg that
something was played to: relay_player.pxd), and copies the payload
with its timestamp into the leg's ring, if the leg has one. It decodes nothing and never runs Python. Of telephone-events
it keeps a short list, and rings a bell (``Relay.events_fd``) when there is something in one.

Whom a leg's packets may come from, and what a ring is, is told in relay_session.pxd; what is known of a stream's quality in
relay_quality.pxd; how a worker waits and sends in relay_uring.pxd and relay_epoll.pxd.

Threads. The control methods run with the GIL and are therefore never concurrent with each other. A session has a lock,
held for well under a microsecond at a time and never across a system call: the worker takes it to decide about one
packet (and to capture it), a control method to change what is decided upon. Sockets and session memory are given back
by the session's own worker alone, between two batches of packets, when nothing can refer to them any more.
"""

from cython cimport no_gc_clear
from cpython.bytearray cimport PyByteArray_AS_STRING
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.errno cimport errno
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from media.relay_epoll cimport run_epoll, watch
from media.relay_os cimport *
from media.relay_player cimport *
from media.relay_quality cimport *
from media.relay_ring cimport *
from media.relay_session cimport *
from media.relay_uring cimport run_uring
from media.relay_worker cimport *

import os

RECORD_HEADER = 24
"""Bytes before the payload in a ring record; ``RECORD`` in media/rtp.py reads them."""

VERDICTS = ("forwarded", "malformed", "source", "no_target", "closed", "held")
"""What ``Session.feed`` answers, by number of ``Verdict``."""


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


cdef int _mask(uint64_t* mask, payload_types) except -1:
    mask[0] = mask[1] = 0
    for number in payload_types:
        if not 0 <= number <= 127:
            raise ValueError(f"payload type {number} is not in 0..127")
        mask[number >> 6] |= <uint64_t> 1 << (number & 63)
    return 0


@no_gc_clear  # its relay, and the worker with it, must outlive it
cdef class Session:
    """The native half of one call's media. Made by ``Relay.open``, or by ``Session.detached`` for tests."""

    cdef CSession* _session
    cdef object _relay
    cdef size_t _ring_bytes
    cdef tuple _final
    cdef tuple _final_quality
    cdef readonly bytes sent

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
        self._session.bell = -1 if relay is None else (<Relay> relay)._bell
        for side in range(2):
            self._session.legs[side].family = families[side]
            for kind in range(2):
                path = &self._session.legs[side].paths[kind]
                path.session = self._session
                init_sock(&path.open, path, fds[side][kind])
                init_sock(&path.direct, path, -1)
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
                rearm(&leg.paths[kind], &signalled[kind], until)
        leg.sending = True
        pthread_mutex_unlock(&self._session.lock)

    def set_capture_types(self, int side, payload_types):
        """The payload types (0..127) from ``side`` that are copied into its ring, if it has one."""
        cdef Leg* leg = self._leg(side)
        cdef uint64_t mask[2]
        _mask(mask, payload_types)
        pthread_mutex_lock(&self._session.lock)
        leg.capture_types[0] = mask[0]
        leg.capture_types[1] = mask[1]
        pthread_mutex_unlock(&self._session.lock)

    def set_clock_rates(self, int side, rates):
        """RTP clock rates in Hz by payload type (0..127), of those whose timestamps tell jitter: audio, not events."""
        cdef Leg* leg = self._leg(side)
        cdef uint32_t clocks[128]
        cdef int number
        memset(clocks, 0, sizeof(clocks))
        for number, rate in rates.items():
            if not 0 <= number <= 127:
                raise ValueError(f"payload type {number} is not in 0..127")
            clocks[number] = rate
        pthread_mutex_lock(&self._session.lock)
        memcpy(leg.clocks, clocks, sizeof(clocks))
        leg.stream.rate = clocks[leg.stream.payload_type & 0x7F]
        leg.stream.last_ns = 0  # signalling changed: the pause before it is no gap
        pthread_mutex_unlock(&self._session.lock)

    def hold_apart(self, int side, bint apart):
        """While ``apart``, nothing of the other leg goes out to ``side``; it is captured and counted all the same."""
        cdef Leg* leg = self._leg(side)
        pthread_mutex_lock(&self._session.lock)
        leg.out.apart = apart
        leg.numbered = leg.out.numbered or apart
        pthread_mutex_unlock(&self._session.lock)

    def begin_playing(
        self, int side, uint32_t clock, uint32_t ticks, uint32_t ssrc, uint16_t sequence, uint32_t timestamp, uint64_t now=0
    ):
        """From now on ``side`` is sent what ``play`` is given, packets of ``ticks`` of a ``clock`` in Hz, and nothing of the
        other leg. SSRC, sequence number and timestamp are where its stream begins, if it was sent nothing yet."""
        cdef Leg* leg = self._leg(side)
        now = now or monotonic_ns()
        pthread_mutex_lock(&self._session.lock)
        leg.out.clock, leg.out.ticks = clock, ticks
        begin_playing(&leg.out, &self._session.legs[1 - side].stream, ssrc, sequence, timestamp, now)
        leg.numbered = True
        pthread_mutex_unlock(&self._session.lock)

    def play(self, int side, int payload_type, bytes payload, bint first, uint64_t now=0):
        """Send ``side`` the next packet; its marker bit says ``first``. False: it was not sent, and took no number (on hold,
        not playing, closed), or the kernel did not take it."""
        cdef uint8_t packet[PACKET_ROOM]
        cdef size_t size = 12 + len(payload)
        cdef endpoint_t target
        cdef Leg* leg
        cdef Path* rtp
        cdef bint ready
        if self._session == NULL:
            return False
        leg = self._leg(side)
        if not 0 <= payload_type <= 127 or size > PACKET_ROOM:
            raise ValueError("no such packet")
        now = now or monotonic_ns()
        rtp = &leg.paths[0]
        packet[0], packet[1] = 0x80, <uint8_t> (payload_type | (first << 7))
        memcpy(packet + 12, <const char*> payload, len(payload))
        pthread_mutex_lock(&self._session.lock)
        ready = leg.out.playing and leg.sending and not self._session.closed
        if ready:
            number_played(&leg.out, packet, first, now)
            leg.out.more_packets += 1
            leg.out.more_octets += <int32_t> len(payload)
            leg.counts.played += 1
            target = rtp.latched if rtp.has_latched else rtp.signalled
        pthread_mutex_unlock(&self._session.lock)
        if not ready:
            return False
        self.sent = PyBytes_FromStringAndSize(<char*> packet, size) if rtp.open.fd < 0 else None
        # By the open socket, whose descriptor lives as long as the session: the connected one is the worker's alone.
        return rtp.open.fd < 0 or sendto(
            rtp.open.fd, packet, size, MSG_DONTWAIT, <sockaddr*> &target, endpoint_size(&target)
        ) == <ssize_t> size

    def end_playing(self, int side):
        """What the other leg sends goes out to ``side`` again, in one row with what was played. Idempotent."""
        if self._session == NULL:
            return
        pthread_mutex_lock(&self._session.lock)
        self._leg(side).out.playing = False
        pthread_mutex_unlock(&self._session.lock)

    def set_event_types(self, int side, payload_types):
        """The payload types (0..127) from ``side`` that are telephone-event (RFC 4733)."""
        cdef Leg* leg = self._leg(side)
        cdef uint64_t mask[2]
        _mask(mask, payload_types)
        pthread_mutex_lock(&self._session.lock)
        leg.event_types[0] = mask[0]
        leg.event_types[1] = mask[1]
        pthread_mutex_unlock(&self._session.lock)

    cdef bint _has_events(self):
        cdef bint found
        pthread_mutex_lock(&self._session.lock)
        found = self._session.legs[0].events.count > 0 or self._session.legs[1].events.count > 0
        pthread_mutex_unlock(&self._session.lock)
        return found

    def take_events(self, int side):
        """The telephone-events of ``side`` since the last call, and how many found no room: ([(code, ended, duration,
        timestamp, ssrc, arrival_ns), …], lost). Of each event its first packet and its end; nothing when closed."""
        cdef Event kept[EVENTS_KEPT]
        cdef Events* events
        cdef uint32_t count, lost, i
        if self._session == NULL:
            return [], 0
        events = &self._leg(side).events
        pthread_mutex_lock(&self._session.lock)
        count, lost = events.count, events.lost
        memcpy(kept, events.kept, count * sizeof(Event))
        memset(events.kept, 0, count * sizeof(Event))
        events.count = events.lost = 0
        pthread_mutex_unlock(&self._session.lock)
        return [
            (kept[i].code, bool(kept[i].ended), kept[i].duration, kept[i].timestamp, kept[i].ssrc, kept[i].arrival_ns)
            for i in range(count)
        ], lost

    def start_capture(self, int side, uint64_t start_ns):
        """Make the ring of ``side``; no record is older than ``start_ns``. False when there is no memory for it."""
        cdef Leg* leg = self._leg(side)
        cdef Ring* ring
        if leg.ring != NULL:
            return True
        ring = make_ring(self._ring_bytes)
        if ring == NULL:
            return False
        if self._relay is not None:
            (<Relay> self._relay).rings_made += 1
        pthread_mutex_lock(&self._session.lock)
        self._session.capture_start = start_ns
        leg.ring = ring
        counter_set(&leg.ring_at, <uint64_t> ring)
        counter_set(&leg.record_at, <uint64_t> ring.buffers[0])
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
        counter_set(&self._leg(side).record_at, <uint64_t> ring.buffers[ring.active])
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
        free_ring(ring)
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
        cdef Path* rtp = &self._session.legs[side].paths[0]
        cdef Sent* sent = &self._session.sent[side]
        cdef Counts counts
        cdef endpoint_t far_end
        cdef bint known
        pthread_mutex_lock(&self._session.lock)
        counts = self._session.legs[side].counts
        known = rtp.has_signalled
        far_end = rtp.latched if rtp.has_latched else rtp.signalled
        pthread_mutex_unlock(&self._session.lock)
        return {
            "received": counts.received,
            "received_bytes": counts.received_bytes,
            "forwarded": counter_get(&sent.forwarded),
            "dropped_source": counts.dropped_source,
            "dropped_malformed": counts.dropped_malformed,
            "dropped_no_target": counts.dropped_no_target,
            "captured": counts.captured,
            "captured_bytes": counts.captured_bytes,
            "ring_lost": counts.ring_lost,
            "rtcp_received": counts.rtcp_received,
            "rtcp_forwarded": counter_get(&sent.rtcp_forwarded),
            "held_back": counts.held_back,
            "played": counts.played,
            "send_failed": counter_get(&sent.failed),
            "last_packet_ns": counts.last_packet_ns,
            "far_end": _address(&far_end) if known else None,
        }

    cdef dict _leg_quality(self, int side):
        cdef Stream stream
        cdef Reported reported
        cdef uint32_t clock, other_clock
        pthread_mutex_lock(&self._session.lock)
        stream = self._session.legs[side].stream
        reported = self._session.legs[side].reported
        other_clock = self._session.legs[1 - side].stream.clock
        pthread_mutex_unlock(&self._session.lock)
        clock = stream.clock
        expected = stream.expected_before + (stream.cycles + stream.highest - stream.first + 1 if stream.begun else 0)
        return {
            "payload_type": stream.payload_type,
            "expected": expected,
            "lost": max(0, expected - <int64_t> (stream.came_before + stream.came)),
            "jitter_ms": <double> stream.jitter / 16 * 1000 / clock if clock else None,
            "jitter_most_ms": <double> stream.jitter_most / 16 * 1000 / clock if clock else None,
            "longest_gap_ms": <double> stream.longest_gap_ns / 1e6,
            "reports": reported.reports,
            "reported_lost": max(0, reported.lost),
            "reported_fraction_most": reported.fraction_most / 256.0,
            "reported_jitter_ms": reported.jitter * 1000.0 / other_clock if reported.reports and other_clock else None,
            "round_trip_ms": <double> reported.trip_sum_ns / reported.trips / 1e6 if reported.trips else None,
            "round_trip_most_ms": <double> reported.trip_most_ns / 1e6 if reported.trips else None,
        }

    def quality(self):
        """How good the streams of both legs are, (agent, prospect); see ``media.quality``. None when closed."""
        if self._session == NULL:
            return self._final_quality
        return self._leg_quality(0), self._leg_quality(1)

    def stats(self):
        """The counters of both legs, (agent, prospect); the last ones when closed. Names are those of LegStats, and
        ``send_failed``: accepted packets that the kernel did not take (ENOBUFS, EAGAIN, no route)."""
        if self._session == NULL:
            return self._final
        return self._leg_stats(0), self._leg_stats(1)

    def feed(self, int side, bint rtcp, source, bytes data, uint64_t now):
        """Test hook: what becomes of a packet, through the same code as the worker's, without a socket.

        Returns (verdict, target): a word of ``VERDICTS``, and (host, port) where it would be sent, else None. ``sent`` is
        then the packet as it would leave.
        """
        cdef bytearray copy = bytearray(data)
        cdef Leg* leg = self._leg(side)
        cdef endpoint_t origin, target
        cdef Verdict verdict
        if leg.paths[0].open.fd >= 0:
            raise ValueError("only a detached session can be fed")
        _parse_address(&origin, leg.family, source)
        verdict = handle(&leg.paths[rtcp], &origin, <uint8_t*> PyByteArray_AS_STRING(copy), len(data), now, &target)
        if verdict != FORWARD:
            return VERDICTS[verdict], None
        count_sent(&leg.paths[rtcp], True)
        self.sent = bytes(copy)
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
        self._final_quality = self.quality()
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
            bury(session)
            return
        if (<Relay> self._relay)._sessions is not None:
            (<Relay> self._relay)._sessions.discard(self)
        session.worker.sessions -= 1
        retire(session)


cdef class Relay:
    """The relay's worker threads. ``coalesce_us``: how long a busy worker lets packets gather, in microseconds; on io_uring
    it goes on earlier when it has ``gather`` of them.

    ``backend`` is "io_uring" (Linux 6.1 or newer), "epoll", or "auto": io_uring where the kernel allows it. ``ring_bytes``
    is the room of each capture ring, ``guard_ns`` see relay_session.pxd. Raises ValueError or OSError.
    """

    cdef Worker* _workers
    cdef int _count
    cdef int _started
    cdef set _sessions
    cdef size_t _ring_bytes
    cdef uint64_t _guard_ns
    cdef int _bell
    cdef readonly str backend
    cdef readonly str fallback
    cdef readonly uint64_t rings_made
    cdef readonly uint64_t rings_freed

    def __cinit__(self):
        self._workers = NULL
        self._sessions = set()
        self._bell = -1

    def __init__(
        self,
        int workers=1,
        *,
        backend="auto",
        uint64_t coalesce_us=2000,
        unsigned int gather=32,
        size_t ring_bytes=262144,
        uint64_t guard_ns=1_000_000_000,
    ):
        cdef int i
        if not 1 <= workers <= 64:
            raise ValueError(f"workers must be in 1..64, not {workers}")
        if not 4096 <= ring_bytes <= 1 << 30:
            raise ValueError(f"ring_bytes must be in 4096..2**30, not {ring_bytes}")
        if backend not in ("auto", "io_uring", "epoll"):
            raise ValueError(f"backend must be auto, io_uring or epoll, not {backend!r}")
        if not 1 <= gather <= 1024:
            raise ValueError(f"gather must be in 1..1024, not {gather}")
        if self._workers != NULL:
            raise ValueError("already initialised")
        self._ring_bytes = (ring_bytes + 4095) & ~(<size_t> 4095)
        self._guard_ns = guard_ns
        self._count = workers
        self._workers = <Worker*> calloc(workers, sizeof(Worker))
        if self._workers == NULL:
            raise MemoryError
        self._bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)
        if self._bell < 0:
            free(self._workers)
            self._workers = NULL
            raise OSError(errno, os.strerror(errno))
        self.backend = "epoll" if backend == "epoll" else "io_uring"
        self.fallback = ""
        for i in range(workers):
            self._workers[i].pause = coalesce_us * 1000
            self._workers[i].gather = gather
            self._start(&self._workers[i], backend == "auto" and i == 0)

    cdef int _start(self, Worker* worker, bint may_fall_back) except -1:
        """Raises OSError, with the relay closed."""
        cdef int failed = 0
        worker.epoll = worker.wake = -1
        pthread_mutex_init(&worker.lock, NULL)
        worker.buffer = <uint8_t*> calloc(1, PACKET_ROOM)
        worker.wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)
        if worker.buffer == NULL or worker.wake < 0:
            failed = errno
        elif self.backend == "io_uring":
            failed = self._start_uring(worker)
            if failed and may_fall_back:
                self.backend, self.fallback = "epoll", os.strerror(failed)
                failed = self._start_epoll(worker)
        else:
            failed = self._start_epoll(worker)
        if not failed:
            self._started += 1
            return 0
        close_worker(worker)
        self.close()
        raise OSError(failed, f"cannot start a relay worker on {self.backend}: {os.strerror(failed)}")

    cdef int _start_epoll(self, Worker* worker):
        """0 or an errno."""
        cdef epoll_event event
        worker.epoll = epoll_create1(EPOLL_CLOEXEC)
        event.events = EPOLLIN
        event.data.ptr = NULL
        if worker.epoll < 0 or epoll_ctl(worker.epoll, EPOLL_CTL_ADD, worker.wake, &event) != 0:
            return errno
        return start_thread(&worker.thread, run_epoll, worker)

    cdef int _start_uring(self, Worker* worker):
        """0 or an errno; then nothing of it is left."""
        cdef int failed
        worker.ring = <uring_t*> calloc(1, sizeof(uring_t))
        if worker.ring == NULL:
            return errno
        failed = uring_open(worker.ring)
        if not failed:
            failed = start_thread(&worker.thread, run_uring, worker)
            if not failed:
                with nogil:
                    while not flag_get(&worker.ready):
                        pause_ns(100_000)
                if worker.ready > 0:
                    return 0
                failed = -worker.ready
                pthread_join(worker.thread, NULL)
            uring_close(worker.ring)
        free(worker.ring)
        worker.ring = NULL
        worker.ready = 0
        return failed

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
        if worker.ring != NULL:
            introduce(session._session)
        elif not watch(session._session):
            failed = errno
            session.close()
            raise OSError(failed, f"cannot watch the sockets: {os.strerror(failed)}")
        return session

    @property
    def events_fd(self):
        """A descriptor that is readable when sessions have events to be taken; -1 when closed."""
        return self._bell

    def rung_sessions(self):
        """Quiet the bell; the sessions that have events to be taken."""
        cdef uint64_t rung
        cdef Session session
        if self._bell >= 0:
            read(self._bell, &rung, sizeof(rung))
        return [session for session in self._sessions if session._has_events()]

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
                stop_worker(&workers[i])
        free(workers)
        close(self._bell)
        self._bell = -1

    def __dealloc__(self):
        # A live session keeps its relay alive, so there is none left here.
        cdef int i
        if self._workers != NULL:
            for i in range(self._started):
                stop_worker(&self._workers[i])
            free(self._workers)
            close(self._bell)


def time_quality(uint32_t packets):
    """For the benchmark: nanoseconds that following a stream's quality takes for a packet, over ``packets`` of them."""
    cdef Stream stream
    cdef uint64_t began
    cdef uint32_t number
    memset(&stream, 0, sizeof(stream))
    stream.rate = 8000
    began = monotonic_ns()
    for number in range(packets):
        follow(&stream, 1, <uint16_t> number, number * 160, 1 + number * <uint64_t> 20_000_000 + number % 7 * 100_000)
    return (monotonic_ns() - began) / <double> max(1, packets)


cdef int _family(int fd) except -1:
    cdef endpoint_t local
    cdef socklen_t length = sizeof(endpoint_t)
    if getsockname(fd, <sockaddr*> &local, &length) != 0:
        raise OSError(errno, os.strerror(errno))
    if endpoint_family(&local) != AF_INET and endpoint_family(&local) != AF_INET6:
        raise ValueError("not an IPv4 or IPv6 socket")
    return endpoint_family(&local)
