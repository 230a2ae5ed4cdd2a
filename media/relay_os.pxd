"""What the relay asks of the C library and the kernel; relay_os.h, typed."""

from libc.stdint cimport uint16_t, uint32_t, uint64_t


cdef extern from "relay_os.h":
    ctypedef union endpoint_t:
        pass
    ctypedef uint32_t socklen_t
    ctypedef struct pthread_mutex_t:
        pass
    ctypedef struct pthread_t:
        pass
    ctypedef union epoll_data_t:
        void* ptr
    struct epoll_event:
        uint32_t events
        epoll_data_t data
    struct sockaddr:
        pass
    const int AF_INET, AF_INET6, EAGAIN, EBADF, ECANCELED, EINVAL, ENOTSOCK, EOPNOTSUPP, EPOLLIN, EPOLL_CLOEXEC, EPOLL_CTL_ADD, EPOLL_CTL_DEL, EFD_CLOEXEC, EFD_NONBLOCK
    const int MSG_DONTWAIT, MSG_TRUNC, MADV_DONTNEED, INET6_ADDRSTRLEN
    bint same_host(const endpoint_t*, const endpoint_t*) noexcept nogil
    bint same_endpoint(const endpoint_t*, const endpoint_t*) noexcept nogil
    uint16_t endpoint_port(const endpoint_t*) noexcept nogil
    socklen_t endpoint_size(const endpoint_t*) noexcept nogil
    const void* endpoint_host(const endpoint_t*) noexcept nogil
    bint endpoint_parse(endpoint_t*, int, const char*, uint16_t) noexcept nogil
    int endpoint_family(const endpoint_t*) noexcept nogil
    uint64_t monotonic_ns() noexcept nogil
    void pause_ns(uint64_t) noexcept nogil
    void* map_memory(size_t) noexcept nogil
    int munmap(void*, size_t) noexcept nogil
    int madvise(void*, size_t, int) noexcept nogil
    void counter_set(uint64_t*, uint64_t) noexcept nogil
    void fetch_ahead(const void*) noexcept nogil
    void fetch_to_write(uint64_t) noexcept nogil
    uint64_t counter_get(const uint64_t*) noexcept nogil
    void counter_add(uint64_t*, uint64_t) noexcept nogil
    int flag_get(const int*) noexcept nogil
    void flag_set(int*, int) noexcept nogil
    int start_thread(pthread_t*, void* (*)(void*) noexcept nogil, void*) noexcept nogil
    int pthread_join(pthread_t, void**) noexcept nogil
    int pthread_mutex_init(pthread_mutex_t*, void*) noexcept nogil
    int pthread_mutex_lock(pthread_mutex_t*) noexcept nogil
    int pthread_mutex_unlock(pthread_mutex_t*) noexcept nogil
    int pthread_mutex_destroy(pthread_mutex_t*) noexcept nogil
    int epoll_create1(int) noexcept nogil
    int epoll_ctl(int, int, int, epoll_event*) noexcept nogil
    int epoll_wait(int, epoll_event*, int, int) noexcept nogil
    int eventfd(unsigned int, int) noexcept nogil
    int close(int) noexcept nogil
    int connected_twin(int, const endpoint_t*) noexcept nogil
    ssize_t read(int, void*, size_t) noexcept nogil
    ssize_t write(int, const void*, size_t) noexcept nogil
    ssize_t recvfrom(int, void*, size_t, int, sockaddr*, socklen_t*) noexcept nogil
    ssize_t send(int, const void*, size_t, int) noexcept nogil
    ssize_t sendto(int, const void*, size_t, int, const sockaddr*, socklen_t) noexcept nogil
    int getsockname(int, sockaddr*, socklen_t*) noexcept nogil
    const char* inet_ntop(int, const void*, char*, socklen_t) noexcept nogil
