/* The least that relaying costs: for bench_media.py, a loop of epoll, recv and send over connected sockets, which checks
 * and keeps nothing.
 *
 *   rtp_echo HOST CALLS A B
 *
 * A and B are the load's two ports. Prints CALLS lines "a b", its own RTP ports, and relays until it is killed. A busy
 * loop lets packets gather for a millisecond, as the relay does.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>

struct leg { int fd; struct leg *other; };

static int open_leg(const char *host, int far, int *port) {
    struct sockaddr_in a = {.sin_family = AF_INET};
    socklen_t length = sizeof a;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0), room = 128 * 1024;
    inet_pton(AF_INET, host, &a.sin_addr);
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
    if (fd < 0 || bind(fd, (void *)&a, sizeof a) || getsockname(fd, (void *)&a, &length)) { perror("socket"); exit(1); }
    *port = ntohs(a.sin_port);
    a.sin_port = htons((uint16_t)far);
    if (connect(fd, (void *)&a, sizeof a)) { perror("connect"); exit(1); }
    return fd;
}

int main(int argc, char **argv) {
    if (argc != 5) { fprintf(stderr, "usage: rtp_echo HOST CALLS A B\n"); return 2; }
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    int calls = atoi(argv[2]), epoll = epoll_create1(0);
    struct leg *legs = calloc(2 * (size_t)calls, sizeof *legs);
    for (int i = 0; i < 2 * calls; i++) {
        int port;
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &legs[i]};
        legs[i].fd = open_leg(argv[1], atoi(argv[3 + (i & 1)]), &port);
        legs[i].other = &legs[i ^ 1];
        epoll_ctl(epoll, EPOLL_CTL_ADD, legs[i].fd, &event);
        printf(i & 1 ? "%d\n" : "%d ", port);
    }
    fflush(stdout);
    for (;;) {
        static struct epoll_event events[256];
        static char packet[2048];
        int n = epoll_wait(epoll, events, 256, -1);
        while (n > 0) {
            for (int i = 0; i < n; i++) {
                struct leg *leg = events[i].data.ptr;
                ssize_t size = recv(leg->fd, packet, sizeof packet, MSG_DONTWAIT);
                if (size > 0) send(leg->other->fd, packet, (size_t)size, MSG_DONTWAIT);
            }
            n = epoll_wait(epoll, events, 256, 0);
        }
        struct timespec pause = {0, 1000000};
        clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
    }
}
