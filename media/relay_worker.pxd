"""The relay's worker: epoll, receive, decide, send; and the burial of sessions that are closed."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free

from media.relay_os cimport *
from media.relay_session cimport *


cdef inline void count_sent(Path* path, bint sent) noexcept nogil:
    cdef Sent* counters = &path.session.sent[path.side]
    if not sent:
        counter_add(&counters.failed, 1)
    elif path.rtcp:
        counter_add(&counters.rtcp_forwarded, 1)
    else:
        counter_add(&counters.forwarded, 1)


cdef inline void serve(Path* path, uint8_t* buffer, uint64_t now) noexcept nogil:
    # One datagram that epoll says is there. Errors of recvfrom (an ICMP answer to an earlier packet) are of no use here.
    cdef endpoint_t source, target
    cdef socklen_t length = sizeof(endpoint_t)
    cdef ssize_t size = recvfrom(path.fd, buffer, PACKET_ROOM, MSG_DONTWAIT, <sockaddr*> &source, &length)
    cdef int fd
    if size < 0:
        return
    if handle(path, &source, buffer, <size_t> size, now, &target) != FORWARD:
        return
    fd = path.session.legs[1 - path.side].paths[path.rtcp].fd
    count_sent(path, sendto(fd, buffer, size, MSG_DONTWAIT, <sockaddr*> &target, endpoint_size(&target)) == size)


cdef inline void bury(CSession* session, int epoll) noexcept nogil:
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


cdef inline void bury_retired(Worker* worker) noexcept nogil:
    cdef CSession* session
    cdef CSession* following
    pthread_mutex_lock(&worker.lock)
    session = worker.retired
    worker.retired = NULL
    pthread_mutex_unlock(&worker.lock)
    while session != NULL:
        following = session.next
        bury(session, worker.epoll)
        session = following


cdef inline void serve_batch(Worker* worker, epoll_event* events, int count) noexcept nogil:
    cdef uint64_t now = monotonic_ns()
    cdef uint64_t woken
    cdef int i
    for i in range(count):
        if events[i].data.ptr != NULL:
            serve(<Path*> events[i].data.ptr, worker.buffer, now)
        else:
            read(worker.wake, &woken, sizeof(woken))
    counter_add(&worker.events, count)


cdef inline void* run(void* argument) noexcept nogil:
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
            serve_batch(worker, events, count)
            bury_retired(worker)
            count = epoll_wait(worker.epoll, events, BATCH, 0) if not flag_get(&worker.stop) else 0
        if worker.pause and woken_at - woken_before < 2 * worker.pause:
            pause_ns(worker.pause)
        woken_before = woken_at
    bury_retired(worker)
    return NULL


cdef inline void retire(CSession* session) noexcept:
    # Hands the session to its worker, which buries it once its present batch is done.
    cdef Worker* worker = session.worker
    cdef uint64_t one = 1
    worker.sessions -= 1
    pthread_mutex_lock(&worker.lock)
    session.next = worker.retired
    worker.retired = session
    pthread_mutex_unlock(&worker.lock)
    write(worker.wake, &one, sizeof(one))


cdef inline bint watch(CSession* session) noexcept:
    cdef epoll_event event
    cdef int side, kind
    event.events = EPOLLIN
    for side in range(2):
        for kind in range(2):
            event.data.ptr = &session.legs[side].paths[kind]
            if epoll_ctl(session.worker.epoll, EPOLL_CTL_ADD, session.legs[side].paths[kind].fd, &event) != 0:
                return False
    return True


cdef inline void close_worker(Worker* worker) noexcept nogil:
    if worker.epoll >= 0:
        close(worker.epoll)
    if worker.wake >= 0:
        close(worker.wake)
    free(worker.buffer)
    pthread_mutex_destroy(&worker.lock)


cdef inline void stop_worker(Worker* worker) noexcept nogil:
    cdef uint64_t one = 1
    flag_set(&worker.stop, 1)
    write(worker.wake, &one, sizeof(one))
    pthread_join(worker.thread, NULL)
    close_worker(worker)
