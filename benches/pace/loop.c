/* The minimum: one process, one loop, the system calls that a probe needs, at a given pace.
   Arguments: the port, the number of probes, the pause between two in microseconds, and the second
   octet of the targets 127.SECOND.1.0 and following. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static int probe(in_addr_t address, int port) {
    static const char request[] = "GET /keepalive HTTP/1.1\r\nHost: 127.0.0.1:9050\r\nWylis-Node: me\r\n"
                                  "Wylis-Instance: 00000000-0000-0000-0000-000000000000\r\n"
                                  "Wylis-Interval: 10000\r\n\r\n";
    struct sockaddr_in target = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {address}};
    char answer[1024];
    int off = 0;
    struct linger linger = {1, 0};
    struct tcp_info info;
    socklen_t length = sizeof info;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(fd, IPPROTO_TCP, TCP_QUICKACK, &off, sizeof off);
    int good = connect(fd, (struct sockaddr *)&target, sizeof target) == 0
        && send(fd, request, sizeof request - 1, MSG_NOSIGNAL) == sizeof request - 1
        && recv(fd, answer, sizeof answer, 0) > 12 && memcmp(answer, "HTTP/1.1 204", 12) == 0
        && getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) == 0;
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    close(fd);
    return good;
}

int main(int count, char **words) {
    if (count != 5) return 2;
    int port = atoi(words[1]), probes = atoi(words[2]), pause = atoi(words[3]), second = atoi(words[4]);
    struct timespec next;
    clock_gettime(CLOCK_MONOTONIC, &next);
    for (int number = 0; number < probes; number++) {
        in_addr_t address = htonl(127u << 24 | (unsigned)second << 16 | 1u << 8 | (unsigned)(number % 100));
        if (!probe(address, port)) {
            perror("probe");
            return 1;
        }
        next.tv_nsec += pause * 1000L;
        next.tv_sec += next.tv_nsec / 1000000000L;
        next.tv_nsec %= 1000000000L;
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
    }
    return 0;
}
