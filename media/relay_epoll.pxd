"""The relay's worker on epoll, for kernels without a fit io_uring: level-triggered, one datagram for each event, so that no
recvfrom is spent on an empty socket."""

from libc.stdint cimport uint64_t

from media.relay_os cimport *
from media.relay_session cimport *
from media.relay_worker cimport *

cdef enum:
    BATCH = 64  # events taken from epoll at a time


cdef inline bint watch_sock(Worker* worker, Sock* sock) noexcept nogil:
    cdef epoll_event event
    event.events = EPOLLIN
    event.data.ptr = sock
    return epoll_ctl(worker.epoll, EPOLL_CTL_ADD, sock.fd, &event) == 0


cdef inline bint watch(CSession* session) noexcept nogil:
    cdef int side, kind
    for side in range(2):
        for kind in range(2):
            if not watch_sock(session.worker, &session.legs[side].paths[kind].open):
                return False
    return True


cdef inline void settle_by_epoll(Worker* worker) noexcept nogil:
    cdef Path* path
    cdef endpoint_t peer
    while worker.unsettled != NULL:
        path = worker.unsettled
        worker.unsettled = path.next
        path.unsettled = path.listed = False
        if wants_direct(path, &peer) and open_direct(worker, path, &peer) and not watch_sock(worker, &path.direct):
            close_sock(worker, &path.direct)


cdef inline void serve_batch(Worker* worker, epoll_event* events, int count) noexcept nogil:
    cdef uint64_t now = monotonic_ns()
    cdef uint64_t woken
    cdef int i
    for i in range(count):
        if events[i].data.ptr != NULL:
            serve(worker, <Sock*> events[i].data.ptr, now)
        else:
            read(worker.wake, &woken, sizeof(woken))
    counter_add(&worker.events, count)
    settle_by_epoll(worker)


cdef inline void* run_epoll(void* argument) noexcept nogil:
    # When nothing is left, and batches follow each other closely, a pause lets the next one grow: one wakeup for many
    # packets, and none of the senders has to wake this thread.
    cdef Worker* worker = <Worker*> argument
    cdef epoll_event events[BATCH]
    cdef uint64_t woken_at, woken_before = 0
    cdef int count
    flag_set(&worker.ready, 1)
    while not flag_get(&worker.stop):
        count = epoll_wait(worker.epoll, events, BATCH, -1)
        woken_at = monotonic_ns()
        counter_add(&worker.wakeups, 1)
        while count > 0:
            serve_batch(worker, events, count)
            bury_all(take_list(worker, &worker.retired))
            count = epoll_wait(worker.epoll, events, BATCH, 0) if not flag_get(&worker.stop) else 0
        if worker.pause and woken_at - woken_before < 2 * worker.pause:
            pause_ns(worker.pause)
        woken_before = woken_at
    bury_all(take_list(worker, &worker.retired))
    return NULL
