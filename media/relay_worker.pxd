"""What the relay's workers have in common, whichever way they wait (relay_epoll.pxd, relay_uring.pxd): receiving and
sending one datagram, the connected socket of a latched path, and how sessions come and go."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free

from media.relay_os cimport *
from media.relay_ring cimport *
from media.relay_session cimport *

cdef enum:
    MOST_AT_ONCE = 4096  # datagrams read in a row from one socket


cdef inline void count_sent(Path* path, bint sent) noexcept nogil:
    cdef Sent* counters = &path.session.sent[path.side]
    if not sent:
        counter_add(&counters.failed, 1)
    elif path.rtcp:
        counter_add(&counters.rtcp_forwarded, 1)
    else:
        counter_add(&counters.forwarded, 1)


cdef inline Path* out_of(Path* path) noexcept nogil:
    # The port that packets which came in on `path` leave by.
    return &path.session.legs[1 - path.side].paths[path.rtcp]


cdef inline bint is_direct(const Path* out, const endpoint_t* target) noexcept nogil:
    return out.direct.fd >= 0 and same_endpoint(target, &out.direct.peer)


cdef inline void send_now(Path* path, const uint8_t* data, ssize_t size, const endpoint_t* target) noexcept nogil:
    cdef Path* out = out_of(path)
    cdef ssize_t sent
    if is_direct(out, target):
        sent = send(out.direct.fd, data, size, MSG_DONTWAIT)
    else:
        sent = sendto(out.open.fd, data, size, MSG_DONTWAIT, <sockaddr*> target, endpoint_size(target))
    count_sent(path, sent == size)


cdef inline void ring_bell(Path* path) noexcept nogil:
    # After the packet was sent on: whoever takes events is told that there are some.
    cdef uint64_t one = 1
    if path.session.rung:
        path.session.rung = False
        if path.session.bell >= 0:
            write(path.session.bell, &one, sizeof(one))


cdef inline void note_unsettled(Worker* worker, Path* path) noexcept nogil:
    if path.unsettled and not path.listed:
        path.listed = True
        path.next = worker.unsettled
        worker.unsettled = path


cdef inline bint serve(Worker* worker, Sock* sock, uint64_t now) noexcept nogil:
    # Take one datagram and send it on; False when there was none. Errors of recvfrom (an ICMP answer to an earlier
    # packet) are of no use here.
    cdef endpoint_t source, target
    cdef socklen_t length = sizeof(endpoint_t)
    cdef Path* path = sock.path
    cdef ssize_t size = recvfrom(
        sock.fd, worker.buffer, PACKET_ROOM, MSG_DONTWAIT | MSG_TRUNC, <sockaddr*> &source, &length
    )
    if size < 0:
        return False
    if size > PACKET_ROOM:
        size = 0  # malformed
    if handle(path, &source, worker.buffer, <size_t> size, now, &target) == FORWARD:
        send_now(path, worker.buffer, size, &target)
    ring_bell(path)
    note_unsettled(worker, path)
    return True


cdef inline bint wants_direct(Path* path, endpoint_t* peer) noexcept nogil:
    # Whether a connected socket to another than the present one's peer is due.
    cdef bint wanted
    pthread_mutex_lock(&path.session.lock)
    wanted = path.has_latched and not path.session.closed and not path.rtcp
    peer[0] = path.latched
    pthread_mutex_unlock(&path.session.lock)
    return wanted and not (path.direct.fd >= 0 and same_endpoint(peer, &path.direct.peer))


cdef inline void close_sock(Worker* worker, Sock* sock) noexcept nogil:
    # `worker` NULL: of a session that never had one.
    if sock.fd < 0:
        return
    if worker != NULL and worker.ring != NULL:
        uring_file(worker.ring, sock.fd, False)
    elif worker != NULL:
        epoll_ctl(worker.epoll, EPOLL_CTL_DEL, sock.fd, NULL)
    close(sock.fd)
    sock.fd = -1


cdef inline bint open_direct(Worker* worker, Path* path, const endpoint_t* peer) noexcept nogil:
    # What came before keeps its place before what the new socket gets. False: packets go on by the open one.
    cdef uint64_t now = monotonic_ns()
    cdef int count = 0
    close_sock(worker, &path.direct)
    path.direct.fd = connected_twin(path.open.fd, peer)
    if path.direct.fd < 0:
        return False
    path.direct.peer = peer[0]
    while count < MOST_AT_ONCE and serve(worker, &path.open, now):
        count += 1
    return True


cdef inline void bury(CSession* session) noexcept nogil:
    # Nothing refers to the session any more: give back its sockets and its memory.
    cdef int side, kind
    for side in range(2):
        for kind in range(2):
            close_sock(session.worker, &session.legs[side].paths[kind].open)
            close_sock(session.worker, &session.legs[side].paths[kind].direct)
    pthread_mutex_destroy(&session.lock)
    free(session)


cdef inline void bury_all(CSession* session) noexcept nogil:
    cdef CSession* following
    while session != NULL:
        following = session.next
        bury(session)
        session = following


cdef inline CSession* take_list(Worker* worker, CSession** which) noexcept nogil:
    cdef CSession* taken
    pthread_mutex_lock(&worker.lock)
    taken = which[0]
    which[0] = NULL
    pthread_mutex_unlock(&worker.lock)
    return taken


cdef inline void wake(Worker* worker) noexcept nogil:
    cdef uint64_t one = 1
    write(worker.wake, &one, sizeof(one))


cdef inline void introduce(CSession* session) noexcept nogil:
    # To its worker, which looks between two batches; so it is with retiring.
    cdef Worker* worker = session.worker
    pthread_mutex_lock(&worker.lock)
    session.next_arrived = worker.arrived
    worker.arrived = session
    pthread_mutex_unlock(&worker.lock)
    wake(worker)


cdef inline void retire(CSession* session) noexcept nogil:
    cdef Worker* worker = session.worker
    pthread_mutex_lock(&worker.lock)
    session.next = worker.retired
    worker.retired = session
    pthread_mutex_unlock(&worker.lock)
    wake(worker)


cdef inline void close_worker(Worker* worker) noexcept nogil:
    if worker.ring != NULL:
        uring_close(worker.ring)
        free(worker.ring)
    if worker.epoll >= 0:
        close(worker.epoll)
    if worker.wake >= 0:
        close(worker.wake)
    free(worker.buffer)
    pthread_mutex_destroy(&worker.lock)


cdef inline void stop_worker(Worker* worker) noexcept nogil:
    flag_set(&worker.stop, 1)
    wake(worker)
    pthread_join(worker.thread, NULL)
    close_worker(worker)
