/* RTP load for bench_media.py: both far ends of many calls behind two UDP sockets, cheap enough to share a small machine
 * with the relay under test.
 *
 *   rtp_load HOST CALLS SECONDS
 *
 * Prints "ports A B" (its own two sockets: all agents, all prospects), reads CALLS lines "a b" (the relay's RTP ports for
 * each call), then sends 50 packets a second from each leg, in 1 ms slots, and prints one JSON object. Latency is from
 * just before sendmmsg to the kernel's receive timestamp. A packet is lost when it is not back 300 ms after the last one.
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

struct leg { struct sockaddr_in to; uint32_t timestamp; uint16_t sequence; };

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

static uint64_t sent, refused, received, wrong, worst, histogram[BINS + 1];
static uint8_t packets[BATCH][SIZE];
static struct mmsghdr messages[BATCH];
static struct iovec vectors[BATCH];
static char controls[BATCH][64];

static void send_slot(int fd, struct leg *legs, int calls, int side, int slot) {
    int n = 0;
    uint64_t now = clock_ns(CLOCK_REALTIME);
    for (int call = 0; call < calls; call++) {
        int number = 2 * call + side;
        if ((number * 7) % SLOTS != slot) continue;
        struct leg *leg = &legs[number];
        uint8_t *p = packets[n];
        uint16_t sequence = htons(leg->sequence++);
        uint32_t timestamp = htonl(leg->timestamp), ssrc = htonl(0x10000u + (uint32_t)number);
        leg->timestamp += 160;
        memset(p, 0xFF, SIZE);
        p[0] = 0x80; p[1] = 0;
        memcpy(p + 2, &sequence, 2); memcpy(p + 4, &timestamp, 4); memcpy(p + 8, &ssrc, 4);
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

static void receive_all(int fd, int side) {
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
            uint32_t ssrc;
            memcpy(&ssrc, packets[i] + 8, 4);
            if (messages[i].msg_len != SIZE || (ntohl(ssrc) & 1) == (uint32_t)side || !c) { wrong++; continue; }
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
        for (int side = 0; side < 2; side++) receive_all(fds[side], side);
        next.tv_nsec += 1000000;
        if (next.tv_nsec >= 1000000000) { next.tv_nsec -= 1000000000; next.tv_sec++; }
        uint64_t due = (uint64_t)next.tv_sec * 1000000000u + (uint64_t)next.tv_nsec;
        if (clock_ns(CLOCK_MONOTONIC) > due + 5000000) late++;
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
    }
    struct rusage use;
    getrusage(RUSAGE_SELF, &use);
    printf("{\"sent\": %llu, \"refused\": %llu, \"received\": %llu, \"wrong\": %llu, \"p50_ms\": %.3f, \"p99_ms\": %.3f, \"p999_ms\": %.3f, "
           "\"max_ms\": %.3f, \"late_slots\": %llu, \"seconds\": %.3f, \"cpu_seconds\": %.3f}\n",
           (unsigned long long)sent, (unsigned long long)refused, (unsigned long long)received, (unsigned long long)wrong,
           quantile(0.5), quantile(0.99), quantile(0.999), (double)worst / 1e6, (unsigned long long)late,
           (double)(clock_ns(CLOCK_MONOTONIC) - started) / 1e9,
           (double)use.ru_utime.tv_sec + (double)use.ru_stime.tv_sec + (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec) / 1e6);
    return 0;
}
