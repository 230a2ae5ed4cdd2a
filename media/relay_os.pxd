"""What the relay asks of the C library and the kernel: endpoints, clock, memory, atomics, threads, epoll, sockets."""

from libc.stdint cimport uint16_t, uint32_t, uint64_t


cdef extern from *:
    """
    #ifndef _GNU_SOURCE
    #define _GNU_SOURCE
    #endif
    #include <arpa/inet.h>
    #include <errno.h>
    #include <netinet/in.h>
    #include <pthread.h>
    #include <signal.h>
    #include <string.h>
    #include <stdint.h>
    #include <sys/epoll.h>
    #include <sys/eventfd.h>
    #include <sys/mman.h>
    #include <sys/socket.h>
    #include <time.h>
    #include <unistd.h>

    typedef union { struct sockaddr any; struct sockaddr_in v4; struct sockaddr_in6 v6; } endpoint_t;

    /* Same family and address; the IPv6 flow label and scope do not tell senders apart. */
    static inline int same_host(const endpoint_t *a, const endpoint_t *b) {
        if (a->any.sa_family != b->any.sa_family) return 0;
        if (a->any.sa_family == AF_INET) return a->v4.sin_addr.s_addr == b->v4.sin_addr.s_addr;
        return memcmp(&a->v6.sin6_addr, &b->v6.sin6_addr, 16) == 0;
    }
    static inline uint16_t endpoint_port(const endpoint_t *a) {
        return ntohs(a->any.sa_family == AF_INET ? a->v4.sin_port : a->v6.sin6_port);
    }
    static inline int same_endpoint(const endpoint_t *a, const endpoint_t *b) {
        return endpoint_port(a) == endpoint_port(b) && same_host(a, b);
    }
    static inline int endpoint_family(const endpoint_t *a) { return a->any.sa_family; }
    static inline socklen_t endpoint_size(const endpoint_t *a) {
        return a->any.sa_family == AF_INET ? sizeof(a->v4) : sizeof(a->v6);
    }
    static inline const void *endpoint_host(const endpoint_t *a) {
        return a->any.sa_family == AF_INET ? (const void *)&a->v4.sin_addr : (const void *)&a->v6.sin6_addr;
    }
    static inline int endpoint_parse(endpoint_t *a, int family, const char *host, uint16_t port) {
        memset(a, 0, sizeof(*a));
        a->any.sa_family = (sa_family_t)family;
        if (family == AF_INET) {
            a->v4.sin_port = htons(port);
            return inet_pton(AF_INET, host, &a->v4.sin_addr) == 1;
        }
        a->v6.sin6_port = htons(port);
        return inet_pton(AF_INET6, host, &a->v6.sin6_addr) == 1;
    }
    static inline uint64_t monotonic_ns(void) {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    }
    static inline void pause_ns(uint64_t ns) {
        struct timespec span = {(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};
        clock_nanosleep(CLOCK_MONOTONIC, 0, &span, NULL);
    }
    static inline void *map_memory(size_t size) {
        void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        return memory == MAP_FAILED ? NULL : memory;
    }
    static inline uint64_t counter_get(const uint64_t *counter) {
        return __atomic_load_n(counter, __ATOMIC_RELAXED);
    }
    /* One writer per counter: no read-modify-write needed. */
    static inline void counter_add(uint64_t *counter, uint64_t n) {
        __atomic_store_n(counter, __atomic_load_n(counter, __ATOMIC_RELAXED) + n, __ATOMIC_RELAXED);
    }
    static inline int flag_get(const int *flag) { return __atomic_load_n(flag, __ATOMIC_ACQUIRE); }
    static inline void flag_set(int *flag, int value) { __atomic_store_n(flag, value, __ATOMIC_RELEASE); }

    /* Workers get no signals: those are for Python's main thread. */
    static int start_thread(pthread_t *thread, void *(*run)(void *), void *argument) {
        sigset_t all, before;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        int failed = pthread_create(thread, NULL, run, argument);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        if (!failed) pthread_setname_np(*thread, "rtp-relay");
        return failed;
    }
    """
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
    const int AF_INET, AF_INET6, EAGAIN, EINTR, EPOLLIN, EPOLL_CLOEXEC, EPOLL_CTL_ADD, EPOLL_CTL_DEL, EFD_CLOEXEC, EFD_NONBLOCK
    const int MSG_DONTWAIT, MADV_DONTNEED, INET6_ADDRSTRLEN
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
    ssize_t read(int, void*, size_t) noexcept nogil
    ssize_t write(int, const void*, size_t) noexcept nogil
    ssize_t recvfrom(int, void*, size_t, int, sockaddr*, socklen_t*) noexcept nogil
    ssize_t sendto(int, const void*, size_t, int, const sockaddr*, socklen_t) noexcept nogil
    int getsockname(int, sockaddr*, socklen_t*) noexcept nogil
    const char* inet_ntop(int, const void*, char*, socklen_t) noexcept nogil
