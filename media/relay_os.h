/* What the relay asks of the C library and the kernel: endpoints, clock, memory, atomics, threads, sockets. */
#ifndef TWOPARTY_RELAY_OS_H
#define TWOPARTY_RELAY_OS_H

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

static inline void counter_set(uint64_t *counter, uint64_t n) { __atomic_store_n(counter, n, __ATOMIC_RELAXED); }

/* Into the cache; any address will do. */
static inline void fetch_ahead(const void *at) { __builtin_prefetch(at); }
static inline void fetch_to_write(uint64_t at) { __builtin_prefetch((const void *)(uintptr_t)at, 1); }

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

/* Room of a socket option that is an int; 0 where it can't be read. */
static inline int option_of(int fd, int level, int name) {
    int value = 0;
    socklen_t length = sizeof value;
    return getsockopt(fd, level, name, &value, &length) == 0 ? value : 0;
}

/* A socket on the same local address as `fd`, with its options, connected to `peer`; -1 when that can't be had.
 *
 * The kernel then gives this one what comes from `peer`, and `fd` all else. The two share a port by SO_REUSEPORT, which
 * they have for the moment of the bind alone: nobody else can bind to the port before or after that, and no packet is
 * ever spread between them by hash. */
static inline int connected_twin(int fd, const endpoint_t *peer) {
    endpoint_t local;
    socklen_t length = sizeof local;
    int on = 1, off = 0, made, good, v6, value;
    if (getsockname(fd, &local.any, &length) != 0) return -1;
    v6 = local.any.sa_family == AF_INET6;
    made = socket(local.any.sa_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (made < 0) return -1;
    if (v6) {
        setsockopt(made, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
        value = option_of(fd, IPPROTO_IPV6, IPV6_TCLASS);
        setsockopt(made, IPPROTO_IPV6, IPV6_TCLASS, &value, sizeof value);
    } else {
        value = option_of(fd, IPPROTO_IP, IP_TOS);
        setsockopt(made, IPPROTO_IP, IP_TOS, &value, sizeof value);
    }
    value = option_of(fd, SOL_SOCKET, SO_RCVBUF) / 2;   /* the kernel doubles what it is asked for */
    setsockopt(made, SOL_SOCKET, SO_RCVBUF, &value, sizeof value);
    setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
    setsockopt(made, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
    good = bind(made, &local.any, length) == 0 && connect(made, &peer->any, endpoint_size(peer)) == 0;
    setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &off, sizeof off);
    setsockopt(made, SOL_SOCKET, SO_REUSEPORT, &off, sizeof off);
    if (good) return made;
    close(made);
    return -1;
}

#endif
