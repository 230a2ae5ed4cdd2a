/* RTP load for bench_media.py: both far ends of many calls behind two UDP sockets, cheap enough to share a small machine
 * with the relay under test.
 *
 *   rtp_load HOST CALLS SECONDS
 *
 * Prints "ports A B" (its own two sockets: all agents, all prospects), reads CALLS lines "a b" (the relay's RTP ports for
 * each call), then sends 50 packets a second from each leg, in 1 ms slots, and prints one JSON object. Latency is from
 * just before sendmmsg to the kernel's receive timestamp. A packet is lost when it is not back 300 ms after the last one.
 * Every packet that comes back is compared byte for byte with what was sent ("wrong"), and with the order it was sent in
 * ("reordered"; a packet that comes twice counts there, too).
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>

enum { SLOTS = 20, SIZE = 172, BATCH = 256, BINS = 20000, BIN_NS = 10000 };

struct leg { struct sockaddr_in to; uint32_t sent, expected; };

static uint64_t clock_ns(clockid_t id) {
    struct timespec t;
    clock_gettime(id, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int open_socket(const char *host, int *port) {
    struct sockaddr_in a = {.sin_family = AF_INET};
    socklen_t length = sizeof a;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0), one = 1, room = 8 << 20;
    inet_pton(AF_INET, host, &a.sin_addr);
    if (fd < 0 || bind(fd, (void *)&a, sizeof a) || getsockname(fd, (void *)&a, &length)) { perror("socket"); exit(1); }
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room)) setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
    setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &one, sizeof one);
    *port = ntohs(a.sin_port);
    return fd;
}

static uint64_t sent, refused, received, wrong, reordered, worst, histogram[BINS + 1];
static uint8_t packets[BATCH][SIZE], noise[65536 + SIZE];
static struct mmsghdr messages[BATCH];
static struct iovec vectors[BATCH];
static char controls[BATCH][64];

/* Packet `count` of a leg, but for its 8 bytes of time after the header: header, then noise from a place of its own. */
static void make_packet(uint8_t *p, uint32_t number, uint32_t count) {
    uint16_t sequence = htons((uint16_t)(count + number));
    uint32_t timestamp = htonl(count * 160 + number * 77777u), ssrc = htonl(0x10000u + number);
    p[0] = 0x80; p[1] = count ? 0 : 0x80;
    memcpy(p + 2, &sequence, 2); memcpy(p + 4, &timestamp, 4); memcpy(p + 8, &ssrc, 4);
    memcpy(p + 20, noise + ((number * 2654435761u + count * 40503u) & 0xFFFF), SIZE - 20);
}

static void send_slot(int fd, struct leg *legs, int calls, int side, int slot) {
    int n = 0;
    uint64_t now = clock_ns(CLOCK_REALTIME);
    for (int call = 0; call < calls; call++) {
        int number = 2 * call + side;
        if ((number * 7) % SLOTS != slot) continue;
        struct leg *leg = &legs[number];
        uint8_t *p = packets[n];
        make_packet(p, (uint32_t)number, leg->sent++);
        memcpy(p + 12, &now, 8);
        vectors[n] = (struct iovec){p, SIZE};
        messages[n].msg_hdr = (struct msghdr){.msg_name = &leg->to, .msg_namelen = sizeof leg->to, .msg_iov = &vectors[n], .msg_iovlen = 1};
        if (++n == BATCH) {
            int done = sendmmsg(fd, messages, (unsigned)n, 0);
            sent += done > 0 ? (uint64_t)done : 0; refused += (uint64_t)(n - (done > 0 ? done : 0));
            n = 0;
        }
    }
    if (n) {
        int done = sendmmsg(fd, messages, (unsigned)n, 0);
        sent += done > 0 ? (uint64_t)done : 0; refused += (uint64_t)(n - (done > 0 ? done : 0));
    }
}

/* Whether these are the bytes of a packet that was sent from the other side. */
static int is_right(const uint8_t *p, struct leg *legs, int calls, int side) {
    uint8_t good[SIZE];
    uint32_t ssrc, number, count;
    uint16_t sequence;
    memcpy(&ssrc, p + 8, 4); memcpy(&sequence, p + 2, 2);
    number = ntohl(ssrc) - 0x10000u;
    if (number >= 2 * (uint32_t)calls || (number & 1) == (uint32_t)side) return 0;
    struct leg *leg = &legs[number];
    count = leg->expected + (uint16_t)((uint16_t)(ntohs(sequence) - number) - (uint16_t)leg->expected + 0x4000u) - 0x4000u;
    if (count >= leg->sent) return 0;
    make_packet(good, number, count);
    if (memcmp(p, good, 12) || memcmp(p + 20, good + 20, SIZE - 20)) return 0;
    if (count < leg->expected) reordered++;
    else leg->expected = count + 1;
    return 1;
}

static void receive_all(int fd, struct leg *legs, int calls, int side) {
    for (;;) {
        for (int i = 0; i < BATCH; i++) {
            vectors[i] = (struct iovec){packets[i], SIZE};
            messages[i].msg_hdr = (struct msghdr){.msg_iov = &vectors[i], .msg_iovlen = 1, .msg_control = controls[i], .msg_controllen = sizeof controls[i]};
        }
        int n = recvmmsg(fd, messages, BATCH, MSG_DONTWAIT, NULL);
        for (int i = 0; i < n; i++) {
            struct cmsghdr *c = CMSG_FIRSTHDR(&messages[i].msg_hdr);
            struct timespec at;
            uint64_t then, took;
            if (messages[i].msg_len != SIZE || !c || !is_right(packets[i], legs, calls, side)) { wrong++; continue; }
            memcpy(&then, packets[i] + 12, 8);
            memcpy(&at, CMSG_DATA(c), sizeof at);
            took = (uint64_t)at.tv_sec * 1000000000u + (uint64_t)at.tv_nsec - then;
            received++;
            if (took > worst) worst = took;
            histogram[took / BIN_NS < BINS ? took / BIN_NS : BINS]++;
        }
        if (n < BATCH) return;
    }
}

static double quantile(double q) {
    uint64_t need = (uint64_t)(q * (double)received), seen = 0;
    for (int i = 0; i <= BINS; i++)
        if ((seen += histogram[i]) > need) return (i + 1) * (BIN_NS / 1e6);
    return 0;
}

int main(int argc, char **argv) {
    if (argc != 4) { fprintf(stderr, "usage: rtp_load HOST CALLS SECONDS\n"); return 2; }
    int calls = atoi(argv[2]), ports[2], fds[2];
    double seconds = atof(argv[3]);
    struct leg *legs = calloc(2 * (size_t)calls, sizeof *legs);
    uint32_t state = 1;
    for (size_t i = 0; i < sizeof noise; i++) noise[i] = (uint8_t)((state = state * 1664525u + 1013904223u) >> 24);
    for (int side = 0; side < 2; side++) fds[side] = open_socket(argv[1], &ports[side]);
    printf("ports %d %d\n", ports[0], ports[1]);
    fflush(stdout);
    for (int i = 0; i < calls; i++) {
        int to[2];
        if (scanf("%d %d", &to[0], &to[1]) != 2) { fprintf(stderr, "rtp_load: %d calls, %d lines\n", calls, i); return 2; }
        for (int side = 0; side < 2; side++) {
            legs[2 * i + side].to = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)to[side])};
            inet_pton(AF_INET, argv[1], &legs[2 * i + side].to.sin_addr);
        }
    }
    struct timespec next;
    clock_gettime(CLOCK_MONOTONIC, &next);
    uint64_t started = clock_ns(CLOCK_MONOTONIC), late = 0;
    long slots = (long)(seconds * 1000) / SLOTS * SLOTS;
    for (long slot = 0; slot < slots + 300; slot++) {
        if (slot < slots)
            for (int side = 0; side < 2; side++) send_slot(fds[side], legs, calls, side, (int)(slot % SLOTS));
        for (int side = 0; side < 2; side++) receive_all(fds[side], legs, calls, side);
        next.tv_nsec += 1000000;
        if (next.tv_nsec >= 1000000000) { next.tv_nsec -= 1000000000; next.tv_sec++; }
        uint64_t due = (uint64_t)next.tv_sec * 1000000000u + (uint64_t)next.tv_nsec;
        if (clock_ns(CLOCK_MONOTONIC) > due + 5000000) late++;
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
    }
    struct rusage use;
    getrusage(RUSAGE_SELF, &use);
    printf("{\"sent\": %llu, \"refused\": %llu, \"received\": %llu, \"wrong\": %llu, \"reordered\": %llu, \"p50_ms\": %.3f, \"p99_ms\": %.3f, \"p999_ms\": %.3f, "
           "\"max_ms\": %.3f, \"late_slots\": %llu, \"seconds\": %.3f, \"cpu_seconds\": %.3f}\n",
           (unsigned long long)sent, (unsigned long long)refused, (unsigned long long)received, (unsigned long long)wrong, (unsigned long long)reordered,
           quantile(0.5), quantile(0.99), quantile(0.999), (double)worst / 1e6, (unsigned long long)late,
           (double)(clock_ns(CLOCK_MONOTONIC) - started) / 1e9,
           (double)use.ru_utime.tv_sec + (double)use.ru_stime.tv_sec + (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec) / 1e6);
    return 0;
}
