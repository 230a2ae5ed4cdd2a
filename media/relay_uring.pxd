"""The relay's worker on io_uring: every socket has one receive that goes on (multishot), what came in a batch is sent by one
entry into the kernel, and that same entry waits for the next batch.

A busy worker waits for ``gather`` packets, ``pause`` at the most; an idle one for the next packet. A socket is closed when
its receive has ended, a session is freed one round later than that, when no completion can speak of it any more.
"""

from libc.stdint cimport uint8_t, uint64_t

from media.relay_os cimport *
from media.relay_ring cimport *
from media.relay_session cimport *
from media.relay_worker cimport *

cdef enum:
    # What a completion is of, in the low bits of its tag; the rest is a pointer (to Sock, Path, nothing, nothing).
    RECEIVED = 0
    SENT = 1
    WOKEN = 2
    CANCELLED = 3
    KIND = 7

cdef enum:
    LAST_TRIES = 200  # of 10 ms, for receives to end when the worker is stopped


cdef inline void arm(Worker* worker, Sock* sock) noexcept nogil:
    if uring_receive(worker.ring, sock.fd, <uint64_t> sock | RECEIVED):
        sock.armed = True
        sock.path.session.armed += 1
    else:
        sock.path.unsettled = True  # to be tried again
        note_unsettled(worker, sock.path)


cdef inline void disarm(Worker* worker, Sock* sock) noexcept nogil:
    if sock.armed:
        uring_cancel(worker.ring, <uint64_t> sock | RECEIVED, CANCELLED)


cdef inline void settle(Worker* worker, Path* path) noexcept nogil:
    cdef endpoint_t peer
    if path.session.retiring:
        return
    if wants_direct(path, &peer):
        if path.direct.armed:
            disarm(worker, &path.direct)  # comes back here when that has ended
        else:
            uring_enter(worker.ring, 0, 0, False)  # what was received before leaves before
            if open_direct(worker, path, &peer):
                uring_file(worker.ring, path.direct.fd, True)
    if not path.open.armed:
        arm(worker, &path.open)
    if path.direct.fd >= 0 and not path.direct.armed:
        arm(worker, &path.direct)


cdef inline void settle_by_uring(Worker* worker) noexcept nogil:
    cdef Path* path
    cdef Path* waiting = worker.unsettled
    worker.unsettled = NULL
    while waiting != NULL:
        path = waiting
        waiting = path.next
        path.unsettled = path.listed = False
        settle(worker, path)


cdef inline void forward(Worker* worker, Path* path, const uring_completion_t* came, uint64_t now) noexcept nogil:
    cdef endpoint_t target
    cdef Path* out
    cdef bint direct, sent
    if handle(path, &came.source, <uint8_t*> came.data, came.size if came.whole else 0, now, &target) == FORWARD:
        out = out_of(path)
        direct = is_direct(out, &target)
        sent = uring_send(
            worker.ring, out.direct.fd if direct else out.open.fd, came.data, came.size,
            NULL if direct else &target, <uint64_t> path | SENT,
        )
        count_sent(path, sent)
    ring_bell(path)
    note_unsettled(worker, path)


cdef inline void count_failed(Path* path) noexcept nogil:
    # A send that was counted when it was submitted.
    cdef Sent* counters = &path.session.sent[path.side]
    counter_add(&counters.failed, 1)
    counter_add(&counters.rtcp_forwarded if path.rtcp else &counters.forwarded, <uint64_t> -1)


cdef inline void fade(Worker* worker, CSession* session) noexcept nogil:
    if session.armed == 0:
        session.next = worker.dying
        worker.dying = session


cdef inline void ended(Worker* worker, Sock* sock, int result) noexcept nogil:
    # A receive has ended: out of buffers, an ICMP error, cancelled. It goes on unless that makes no sense.
    sock.armed = False
    sock.path.session.armed -= 1
    if sock.path.session.retiring:
        fade(worker, sock.path.session)
    elif result not in (-EBADF, -EINVAL, -ENOTSOCK, -EOPNOTSUPP):
        sock.path.unsettled = True
        note_unsettled(worker, sock.path)


cdef inline Path* coming(Worker* worker, unsigned int ahead) noexcept nogil:
    # The path of a datagram that is still to be taken; NULL where there is none.
    cdef uint64_t tag = uring_peek(worker.ring, ahead)
    return (<Sock*> tag).path if tag and tag & KIND == RECEIVED else NULL


cdef inline void look_ahead(Worker* worker) noexcept nogil:
    # Each packet is of another session than the last: have what it touches in the cache when its turn comes.
    cdef uint64_t far = uring_peek(worker.ring, 8)
    cdef Path* path = coming(worker, 4)
    cdef Leg* other
    if far and far & KIND == RECEIVED:
        fetch_ahead(<void*> far)
    if path != NULL:
        other = &path.session.legs[1 - path.side]
        fetch_ahead(path.session)
        fetch_ahead(&path.session.sent[path.side])
        fetch_ahead(path)
        fetch_ahead(&path.session.legs[path.side])
        fetch_ahead(&path.session.legs[path.side].counts)
        fetch_ahead(&path.session.legs[path.side].stream.base_ns)
        fetch_ahead(other)
        fetch_ahead(&other.paths[path.rtcp])
        fetch_ahead(&other.paths[path.rtcp].direct.peer)
    path = coming(worker, 2)
    if path != NULL:
        fetch_to_write(counter_get(&path.session.legs[path.side].ring_at))
        fetch_to_write(counter_get(&path.session.legs[path.side].record_at))
        fetch_to_write(counter_get(&path.session.legs[path.side].record_at) + 64)
        fetch_to_write(counter_get(&path.session.legs[path.side].record_at) + 128)


cdef inline int take_completions(Worker* worker) noexcept nogil:
    # How many datagrams came.
    cdef uring_completion_t came
    cdef uint64_t now = monotonic_ns()
    cdef uint64_t kind
    cdef int count = 0
    while uring_next(worker.ring, &came):
        look_ahead(worker)
        kind = came.tag & KIND
        if kind == RECEIVED:
            if came.data != NULL:
                forward(worker, (<Sock*> came.tag).path, &came, now)
                count += 1
            if not came.more:
                ended(worker, <Sock*> came.tag, came.result)
        elif kind == SENT:
            count_failed(<Path*> (came.tag - SENT))
        elif kind == WOKEN:
            uring_read(worker.ring, worker.wake, &worker.woken, WOKEN)
    counter_add(&worker.events, count)
    return count


cdef inline void welcome(Worker* worker, CSession* session) noexcept nogil:
    cdef int side, kind
    while session != NULL:
        worker.live += 1
        for side in range(2):
            for kind in range(2):
                uring_file(worker.ring, session.legs[side].paths[kind].open.fd, True)
                arm(worker, &session.legs[side].paths[kind].open)
        session = session.next_arrived


cdef inline void dismiss(Worker* worker, CSession* session) noexcept nogil:
    # End the receives of retired sessions.
    cdef CSession* following
    cdef int side, kind
    while session != NULL:
        following = session.next
        session.retiring = True
        for side in range(2):
            for kind in range(2):
                disarm(worker, &session.legs[side].paths[kind].open)
                disarm(worker, &session.legs[side].paths[kind].direct)
        fade(worker, session)
        session = following


cdef inline void take_lists(Worker* worker) noexcept nogil:
    # Both at once: whoever is retired has arrived before.
    cdef CSession* arrived
    cdef CSession* retired
    pthread_mutex_lock(&worker.lock)
    arrived, retired = worker.arrived, worker.retired
    worker.arrived = worker.retired = NULL
    pthread_mutex_unlock(&worker.lock)
    welcome(worker, arrived)
    dismiss(worker, retired)


cdef inline void bury_dead(Worker* worker) noexcept nogil:
    cdef CSession* session = worker.dead
    while session != NULL:
        worker.live -= 1
        session = session.next
    bury_all(worker.dead)
    worker.dead = worker.dying
    worker.dying = NULL


cdef inline void wait(Worker* worker, bint busy) noexcept nogil:
    if worker.dead != NULL or worker.unsettled != NULL:
        uring_enter(worker.ring, 0, 0, True)
    elif flag_get(&worker.stop):
        uring_enter(worker.ring, 1, 10_000_000, True)
    elif busy and worker.pause:
        uring_enter(worker.ring, worker.gather, worker.pause, True)
    else:
        uring_enter(worker.ring, 1, 0, True)
    counter_add(&worker.wakeups, 1)


cdef inline void* run_uring(void* argument) noexcept nogil:
    cdef Worker* worker = <Worker*> argument
    cdef bint busy = False
    cdef int failed = uring_enable(worker.ring)
    cdef int tries = 0
    flag_set(&worker.ready, -failed if failed else 1)
    if failed:
        return NULL
    uring_read(worker.ring, worker.wake, &worker.woken, WOKEN)
    while True:
        wait(worker, busy)
        busy = take_completions(worker) > 0
        settle_by_uring(worker)
        take_lists(worker)
        bury_dead(worker)
        if flag_get(&worker.stop):
            tries += 1
            if worker.live == 0 or tries > LAST_TRIES:
                return NULL
