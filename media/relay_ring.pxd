"""io_uring for one thread; uring.h, typed."""

from libc.stdint cimport uint8_t, uint64_t

from media.relay_os cimport endpoint_t


cdef extern from "uring.h":
    const int URING_PACKET
    ctypedef struct uring_t:
        int fd
        uint64_t entered
    ctypedef struct uring_completion_t:
        uint64_t tag
        int result
        bint more
        const uint8_t* data
        size_t size
        bint whole
        endpoint_t source
    int uring_open(uring_t*) noexcept nogil
    void uring_close(uring_t*) noexcept nogil
    int uring_enable(uring_t*) noexcept nogil
    unsigned int uring_pending(const uring_t*) noexcept nogil
    void uring_enter(uring_t*, unsigned int wait, uint64_t ns, bint collect) noexcept nogil
    bint uring_receive(uring_t*, int fd, uint64_t tag) noexcept nogil
    bint uring_send(uring_t*, int fd, const uint8_t*, size_t, const endpoint_t*, uint64_t tag) noexcept nogil
    bint uring_read(uring_t*, int fd, uint64_t*, uint64_t tag) noexcept nogil
    bint uring_cancel(uring_t*, uint64_t what, uint64_t tag) noexcept nogil
    bint uring_next(uring_t*, uring_completion_t*) noexcept nogil
    uint64_t uring_peek(const uring_t*, unsigned int ahead) noexcept nogil
    void uring_file(uring_t*, int fd, bint put) noexcept nogil
