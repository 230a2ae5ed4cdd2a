/* io_uring for one thread, without a library: multishot receives into provided buffers, batched sends.
 *
 * Needs Linux 6.1 (IORING_SETUP_DEFER_TASKRUN; what else is used is older); uring_open answers ENOSYS, EPERM or EINVAL
 * where the kernel, its settings or the headers at the build do not have it. Memory order as in io_uring(7): heads and
 * tails that the kernel writes are read with acquire, those it reads are written with release.
 */
#ifndef TWOPARTY_URING_H
#define TWOPARTY_URING_H

#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "relay_os.h"

#if defined(__has_include)
#if __has_include(<linux/io_uring.h>)
#include <linux/io_uring.h>
#include <linux/time_types.h>
#endif
#endif

enum {
    URING_ENTRIES = 2048,       /* sends and the like between two entries into the kernel; a power of two */
    URING_COMPLETIONS = 8192,
    URING_BUFFERS = 1024,       /* a power of two; few, so that they stay in the cache */
    URING_FILES = 32768,        /* of the table of registered files, at the most */
    URING_ROOM = 4608,          /* of one buffer: what io_uring puts before the datagram, the datagram, rounded */
    URING_NAME = 32,            /* room for the source address in it */
    URING_PACKET = URING_ROOM - 16 - URING_NAME,
};

typedef struct {
    uint64_t tag;
    int result;                 /* bytes, or a negative errno */
    int more;                   /* a multishot receive goes on */
    const uint8_t *data;        /* NULL where there is no datagram */
    size_t size;
    int whole;                  /* 0: the datagram was longer than its buffer */
    endpoint_t source;
} uring_completion_t;

#ifdef IORING_SETUP_DEFER_TASKRUN

typedef struct {
    int fd;
    unsigned *sq_head, *sq_tail, *sq_array, *cq_head, *cq_tail;
    unsigned sq_mask, cq_mask, tail;
    struct io_uring_sqe *sqes;
    struct io_uring_cqe *cqes;
    char *sq_map, *cq_map;
    size_t sq_size, cq_size;
    struct io_uring_buf_ring *ring;
    uint8_t *pool;
    uint16_t ring_tail;
    unsigned files;                 /* size of the table of registered files; a file's place is its descriptor */
    unsigned used_count;
    uint16_t used[URING_BUFFERS];   /* read, and to be given back when what is sent from them is submitted */
    uint64_t entered;               /* how often the kernel was entered */
    struct msghdr receive;          /* of every receive: only its name length counts */
    struct { struct msghdr header; struct iovec data; endpoint_t to; } sends[URING_ENTRIES];
} uring_t;

static inline void uring_give(uring_t *u, uint16_t id) {
    struct io_uring_buf *buffer = &u->ring->bufs[u->ring_tail & (URING_BUFFERS - 1)];
    buffer->addr = (uint64_t)(uintptr_t)(u->pool + (size_t)id * URING_ROOM);
    buffer->len = URING_ROOM;
    buffer->bid = id;
    u->ring_tail++;
}

static inline void uring_close(uring_t *u) {
    if (u->fd >= 0) close(u->fd);
    if (u->sq_map) munmap(u->sq_map, u->sq_size);
    if (u->cq_map) munmap(u->cq_map, u->cq_size);
    if (u->sqes) munmap(u->sqes, URING_ENTRIES * sizeof *u->sqes);
    if (u->ring) munmap(u->ring, URING_BUFFERS * sizeof *u->ring->bufs);
    if (u->pool) munmap(u->pool, (size_t)URING_BUFFERS * URING_ROOM);
    memset(u, 0, sizeof *u);
    u->fd = -1;
}

static inline char *uring_map(size_t size, int fd, uint64_t offset) {
    int shared = fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED | MAP_POPULATE;
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, shared, fd, (off_t)offset);
    return memory == MAP_FAILED ? NULL : (char *)memory;
}

/* A table for registered files, which spare every request the look-up of its descriptor; without one it goes on, too. */
static inline void uring_register_table(uring_t *u) {
    struct io_uring_rsrc_register table;
    struct rlimit limit;
    memset(&table, 0, sizeof table);
    table.nr = URING_FILES;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < table.nr) table.nr = (uint32_t)limit.rlim_cur;
    table.flags = IORING_RSRC_REGISTER_SPARSE;
    if (syscall(__NR_io_uring_register, u->fd, IORING_REGISTER_FILES2, &table, sizeof table) == 0) u->files = table.nr;
}

/* Put a socket into the table, or (with `in` 0, before it is closed) take it out. */
static inline void uring_file(uring_t *u, int fd, int in) {
    int32_t entry = in ? fd : -1;
    struct io_uring_rsrc_update update;
    if (fd < 0 || (unsigned)fd >= u->files) return;
    memset(&update, 0, sizeof update);
    update.offset = (uint32_t)fd;
    update.data = (uint64_t)(uintptr_t)&entry;
    if (syscall(__NR_io_uring_register, u->fd, IORING_REGISTER_FILES_UPDATE, &update, 1) < 0 && in) u->files = 0;
}

/* Make the rings and register the buffers; 0 or an errno, nothing being left open then. The thread that makes the first
 * entry (uring_enable) is the only one that may use it. */
static inline int uring_open(uring_t *u) {
    struct io_uring_params p;
    struct io_uring_buf_reg registration;
    int failed;
    memset(u, 0, sizeof *u);
    memset(&p, 0, sizeof p);
    p.flags = IORING_SETUP_CQSIZE | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
              IORING_SETUP_R_DISABLED;
    p.cq_entries = URING_COMPLETIONS;
    u->fd = (int)syscall(__NR_io_uring_setup, URING_ENTRIES, &p);
    if (u->fd < 0) return errno;
    u->sq_size = p.sq_off.array + p.sq_entries * sizeof(unsigned);
    u->cq_size = p.cq_off.cqes + p.cq_entries * sizeof(struct io_uring_cqe);
    u->sq_map = uring_map(u->sq_size, u->fd, IORING_OFF_SQ_RING);
    u->cq_map = uring_map(u->cq_size, u->fd, IORING_OFF_CQ_RING);
    u->sqes = (struct io_uring_sqe *)uring_map(URING_ENTRIES * sizeof *u->sqes, u->fd, IORING_OFF_SQES);
    u->ring = (struct io_uring_buf_ring *)uring_map(URING_BUFFERS * sizeof *u->ring->bufs, -1, 0);
    u->pool = (uint8_t *)uring_map((size_t)URING_BUFFERS * URING_ROOM, -1, 0);
    if (!u->sq_map || !u->cq_map || !u->sqes || !u->ring || !u->pool || p.sq_entries != URING_ENTRIES) {
        uring_close(u);
        return ENOMEM;
    }
    u->sq_head = (unsigned *)(u->sq_map + p.sq_off.head);
    u->sq_tail = (unsigned *)(u->sq_map + p.sq_off.tail);
    u->sq_array = (unsigned *)(u->sq_map + p.sq_off.array);
    u->sq_mask = p.sq_entries - 1;
    u->cq_head = (unsigned *)(u->cq_map + p.cq_off.head);
    u->cq_tail = (unsigned *)(u->cq_map + p.cq_off.tail);
    u->cq_mask = p.cq_entries - 1;
    u->cqes = (struct io_uring_cqe *)(u->cq_map + p.cq_off.cqes);
    memset(&registration, 0, sizeof registration);
    registration.ring_addr = (uint64_t)(uintptr_t)u->ring;
    registration.ring_entries = URING_BUFFERS;
    if (syscall(__NR_io_uring_register, u->fd, IORING_REGISTER_PBUF_RING, &registration, 1) != 0) {
        failed = errno;
        uring_close(u);
        return failed;
    }
    uring_register_table(u);
    for (unsigned id = 0; id < URING_BUFFERS; id++) uring_give(u, (uint16_t)id);
    __atomic_store_n(&u->ring->tail, u->ring_tail, __ATOMIC_RELEASE);
    u->receive.msg_namelen = URING_NAME;
    return 0;
}

/* To be called once, by the thread that uses the ring from then on. */
static inline int uring_enable(uring_t *u) {
    return syscall(__NR_io_uring_register, u->fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0) == 0 ? 0 : errno;
}

static inline unsigned uring_pending(const uring_t *u) {
    return u->tail - __atomic_load_n(u->sq_head, __ATOMIC_ACQUIRE);
}

/* Submit what was prepared. With `wait` > 0 also wait for that many completions, or for `ns` nanoseconds (0: without
 * end). By calls with `collect` alone are completions posted and buffers given back. */
static inline void uring_enter(uring_t *u, unsigned wait, uint64_t ns, int collect) {
    struct __kernel_timespec limit = {(int64_t)(ns / 1000000000u), (long long)(ns % 1000000000u)};
    struct io_uring_getevents_arg argument;
    unsigned flags = collect ? IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG : 0;
    memset(&argument, 0, sizeof argument);
    argument.sigmask_sz = _NSIG / 8;
    argument.ts = ns ? (uint64_t)(uintptr_t)&limit : 0;
    __atomic_store_n(u->sq_tail, u->tail, __ATOMIC_RELEASE);
    u->entered++;
    /* Its result adds nothing: what was not submitted is still there, what came is in the ring. */
    syscall(__NR_io_uring_enter, u->fd, uring_pending(u), wait, flags, collect ? &argument : NULL, collect ? sizeof argument : 0);
    if (!collect || uring_pending(u)) return;
    for (unsigned i = 0; i < u->used_count; i++) uring_give(u, u->used[i]);
    u->used_count = 0;
    __atomic_store_n(&u->ring->tail, u->ring_tail, __ATOMIC_RELEASE);
}

static inline struct io_uring_sqe *uring_sqe(uring_t *u, uint64_t tag, unsigned *slot) {
    for (int tries = 0; uring_pending(u) == URING_ENTRIES; tries++) {
        if (tries == 8) return NULL;    /* the kernel takes nothing: out of memory, or too many completions wait */
        uring_enter(u, 0, 0, 0);
    }
    *slot = u->tail & u->sq_mask;
    struct io_uring_sqe *sqe = &u->sqes[*slot];
    memset(sqe, 0, sizeof *sqe);
    sqe->user_data = tag;
    u->sq_array[*slot] = *slot;
    u->tail++;
    return sqe;
}

static inline uint8_t uring_fixed(const uring_t *u, int fd) { return (unsigned)fd < u->files ? IOSQE_FIXED_FILE : 0; }

/* Receive datagrams from a socket until a completion says that there are no more; 0 when that could not be asked for. */
static inline int uring_receive(uring_t *u, int fd, uint64_t tag) {
    unsigned slot;
    struct io_uring_sqe *sqe = uring_sqe(u, tag, &slot);
    if (!sqe) return 0;
    sqe->opcode = IORING_OP_RECVMSG;
    sqe->fd = fd;
    sqe->flags = IOSQE_BUFFER_SELECT | uring_fixed(u, fd);
    sqe->ioprio = IORING_RECV_MULTISHOT;
    sqe->addr = (uint64_t)(uintptr_t)&u->receive;
    sqe->len = 1;
    return 1;
}

/* Send a datagram, to `target` or, where that is NULL, over a connected socket. Only a failure gives a completion. The
 * data must stay until the next submission. */
static inline int uring_send(uring_t *u, int fd, const uint8_t *data, size_t size, const endpoint_t *target, uint64_t tag) {
    unsigned slot;
    struct io_uring_sqe *sqe = uring_sqe(u, tag, &slot);
    if (!sqe) return 0;
    sqe->fd = fd;
    sqe->flags = IOSQE_CQE_SKIP_SUCCESS | uring_fixed(u, fd);
    sqe->msg_flags = MSG_DONTWAIT;
    if (!target) {
        sqe->opcode = IORING_OP_SEND;
        sqe->addr = (uint64_t)(uintptr_t)data;
        sqe->len = (unsigned)size;
        return 1;
    }
    u->sends[slot].to = *target;
    u->sends[slot].data = (struct iovec){(void *)(uintptr_t)data, size};
    u->sends[slot].header = (struct msghdr){.msg_name = &u->sends[slot].to, .msg_namelen = endpoint_size(target),
                                            .msg_iov = &u->sends[slot].data, .msg_iovlen = 1};
    sqe->opcode = IORING_OP_SENDMSG;
    sqe->addr = (uint64_t)(uintptr_t)&u->sends[slot].header;
    sqe->len = 1;
    return 1;
}

/* Read an eventfd. */
static inline int uring_read(uring_t *u, int fd, uint64_t *into, uint64_t tag) {
    unsigned slot;
    struct io_uring_sqe *sqe = uring_sqe(u, tag, &slot);
    if (!sqe) return 0;
    sqe->opcode = IORING_OP_READ;
    sqe->fd = fd;
    sqe->addr = (uint64_t)(uintptr_t)into;
    sqe->len = sizeof *into;
    return 1;
}

/* End the request with the tag `what`. */
static inline int uring_cancel(uring_t *u, uint64_t what, uint64_t tag) {
    unsigned slot;
    struct io_uring_sqe *sqe = uring_sqe(u, tag, &slot);
    if (!sqe) return 0;
    sqe->opcode = IORING_OP_ASYNC_CANCEL;
    sqe->addr = what;
    sqe->fd = -1;
    return 1;
}

/* The tag of a completion that is still to come, `ahead` after the next; 0 when there is none. */
static inline uint64_t uring_peek(const uring_t *u, unsigned ahead) {
    unsigned at = *u->cq_head + ahead;
    if ((int)(__atomic_load_n(u->cq_tail, __ATOMIC_ACQUIRE) - at) <= 0) return 0;
    return u->cqes[at & u->cq_mask].user_data;
}

/* The next completion; 0 when there is none. Its data is good until the next submission. */
static inline int uring_next(uring_t *u, uring_completion_t *c) {
    unsigned head = *u->cq_head;
    if (head == __atomic_load_n(u->cq_tail, __ATOMIC_ACQUIRE)) return 0;
    const struct io_uring_cqe *cqe = &u->cqes[head & u->cq_mask];
    c->tag = cqe->user_data;
    c->result = cqe->res;
    c->more = (cqe->flags & IORING_CQE_F_MORE) != 0;
    c->data = NULL;
    if (cqe->flags & IORING_CQE_F_BUFFER) {
        uint16_t id = (uint16_t)(cqe->flags >> IORING_CQE_BUFFER_SHIFT);
        const uint8_t *at = u->pool + (size_t)id * URING_ROOM;
        const struct io_uring_recvmsg_out *out = (const struct io_uring_recvmsg_out *)(const void *)at;
        u->used[u->used_count++] = id;
        if (c->result >= (int)(sizeof *out + URING_NAME)) {
            c->data = at + sizeof *out + URING_NAME;
            c->size = (size_t)c->result - sizeof *out - URING_NAME;
            c->whole = !(out->flags & MSG_TRUNC);
            memset(&c->source, 0, sizeof c->source);
            memcpy(&c->source, at + sizeof *out, out->namelen < sizeof c->source ? out->namelen : sizeof c->source);
        }
    }
    __atomic_store_n(u->cq_head, head + 1, __ATOMIC_RELEASE);
    return 1;
}

#else /* headers older than Linux 6.1: the relay uses epoll */

typedef struct { int fd; uint64_t entered; } uring_t;
static inline int uring_open(uring_t *u) { u->fd = -1; return ENOSYS; }
static inline void uring_close(uring_t *u) { u->fd = -1; }
static inline int uring_enable(uring_t *u) { (void)u; return ENOSYS; }
static inline unsigned uring_pending(const uring_t *u) { (void)u; return 0; }
static inline void uring_enter(uring_t *u, unsigned w, uint64_t n, int c) { (void)u; (void)w; (void)n; (void)c; }
static inline int uring_receive(uring_t *u, int f, uint64_t t) { (void)u; (void)f; (void)t; return 0; }
static inline int uring_send(uring_t *u, int f, const uint8_t *d, size_t s, const endpoint_t *e, uint64_t t) {
    (void)u; (void)f; (void)d; (void)s; (void)e; (void)t; return 0;
}
static inline int uring_read(uring_t *u, int f, uint64_t *i, uint64_t t) { (void)u; (void)f; (void)i; (void)t; return 0; }
static inline int uring_cancel(uring_t *u, uint64_t w, uint64_t t) { (void)u; (void)w; (void)t; return 0; }
static inline int uring_next(uring_t *u, uring_completion_t *c) { (void)u; (void)c; return 0; }
static inline uint64_t uring_peek(const uring_t *u, unsigned a) { (void)u; (void)a; return 0; }
static inline void uring_file(uring_t *u, int f, int i) { (void)u; (void)f; (void)i; }

#endif
#endif
