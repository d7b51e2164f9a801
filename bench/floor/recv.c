/* The floor: what plain HTTP over N connections costs when nothing but the
 * kernel's copy is paid for.
 *
 * One thread, one epoll set, one Range request a connection.  Body bytes are
 * received straight at their final address in private anonymous memory with
 * MADV_HUGEPAGE; only the few bytes that arrive with the response header are
 * copied once more.  No checks but the status: anything a real client does on
 * top is what the benchmark compares.
 *
 * usage: recv HOST PORT PATH START STOP [-c CONNECTIONS] [-r READ_SIZE]
 * START is inclusive, STOP exclusive.  Prints one line of JSON; "sample" holds
 * SAMPLES bytes at equal distances, so that the caller can tell that the right
 * bytes came to the right place.
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { HEADER = 8192, SAMPLES = 64 };

struct part {
    int fd;
    char *at, *end;        /* where the next body byte goes; one past the last */
    int in_body;
    size_t header_length;
    char header[HEADER + 1];
};

static double seconds(struct timeval t) { return t.tv_sec + t.tv_usec / 1e6; }

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static int dial(const char *host, const char *port)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found;
    int failed = getaddrinfo(host, port, &hints, &found);
    if (failed)
        errx(1, "%s:%s: %s", host, port, gai_strerror(failed));
    for (struct addrinfo *a = found; a; a = a->ai_next) {
        int fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, a->ai_protocol);
        if (fd >= 0 && connect(fd, a->ai_addr, a->ai_addrlen) == 0) {
            freeaddrinfo(found);
            return fd;
        }
        if (fd >= 0)
            close(fd);
    }
    err(1, "connect to %s:%s", host, port);
}

static void ask(struct part *p, const char *host, const char *path, size_t first, size_t last)
{
    char request[4096];
    int n = snprintf(request, sizeof request,
                     "GET %s HTTP/1.1\r\nHost: %s\r\nRange: bytes=%zu-%zu\r\n\r\n",
                     path, host, first, last);
    if (n < 0 || (size_t)n >= sizeof request)
        errx(1, "path too long");
    if (send(p->fd, request, n, MSG_NOSIGNAL) != n)
        err(1, "send");
}

/* Reads until the blank line; what follows it is the start of the body. */
static void read_header(struct part *p)
{
    ssize_t n = recv(p->fd, p->header + p->header_length, HEADER - p->header_length, 0);
    if (n <= 0)
        errx(1, "connection closed in a header (or header over %d bytes)", HEADER);
    p->header_length += n;
    p->header[p->header_length] = 0;
    char *blank = strstr(p->header, "\r\n\r\n");
    if (!blank)
        return;
    if (strncmp(p->header, "HTTP/1.1 206", 12))
        errx(1, "not a partial response: %.40s", p->header);
    size_t body = p->header + p->header_length - (blank + 4);
    if (body > (size_t)(p->end - p->at))
        errx(1, "more bytes than asked for");
    memcpy(p->at, blank + 4, body);
    p->at += body;
    p->in_body = 1;
}

static void read_body(struct part *p, size_t read_size)
{
    size_t left = p->end - p->at;
    ssize_t n = recv(p->fd, p->at, left < read_size ? left : read_size, 0);
    if (n <= 0)
        errx(1, "connection closed with %zu bytes to come", left);
    p->at += n;
}

static void drain(struct part *parts, int connections, size_t read_size)
{
    struct epoll_event events[64];
    int set = epoll_create1(EPOLL_CLOEXEC), open_parts = connections;
    if (set < 0)
        err(1, "epoll_create1");
    for (int i = 0; i < connections; i++) {
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = &parts[i]};
        if (epoll_ctl(set, EPOLL_CTL_ADD, parts[i].fd, &e))
            err(1, "epoll_ctl");
    }
    while (open_parts) {
        int ready = epoll_wait(set, events, 64, -1);
        if (ready < 0 && errno != EINTR)
            err(1, "epoll_wait");
        for (int i = 0; i < ready; i++) {
            struct part *p = events[i].data.ptr;
            if (p->in_body)
                read_body(p, read_size);
            else
                read_header(p);
            if (p->in_body && p->at == p->end) {
                close(p->fd); /* also leaves the epoll set */
                open_parts--;
            }
        }
    }
    close(set);
}

int main(int argc, char **argv)
{
    int connections = 8, option;
    size_t read_size = 1 << 20;
    while ((option = getopt(argc, argv, "c:r:")) != -1) {
        if (option == 'c')
            connections = atoi(optarg);
        else if (option == 'r')
            read_size = strtoull(optarg, NULL, 10);
        else
            return 2;
    }
    if (argc - optind != 5)
        errx(2, "usage: recv HOST PORT PATH START STOP [-c CONNECTIONS] [-r READ_SIZE]");
    char **arg = argv + optind;
    size_t start = strtoull(arg[3], NULL, 10), stop = strtoull(arg[4], NULL, 10);
    if (connections < 1 || read_size < 1 || stop < start + connections)
        errx(2, "nothing to fetch");

    double begin = now();
    size_t size = stop - start;
    char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        err(1, "mmap");
    if (madvise(memory, size, MADV_HUGEPAGE))
        warn("MADV_HUGEPAGE");
    struct part *parts = calloc(connections, sizeof *parts);
    if (!parts)
        err(1, "calloc");
    for (int i = 0; i < connections; i++) {
        size_t from = size / connections * i;
        size_t to = i == connections - 1 ? size : size / connections * (i + 1);
        parts[i] = (struct part){.fd = dial(arg[0], arg[1]), .at = memory + from, .end = memory + to};
        ask(&parts[i], arg[0], arg[2], start + from, start + to - 1);
    }
    drain(parts, connections, read_size);
    double wall = now() - begin;

    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    printf("{\"bytes\": %zu, \"wall\": %.6f, \"user\": %.6f, \"sys\": %.6f, \"sample\": \"",
           size, wall, seconds(used.ru_utime), seconds(used.ru_stime));
    for (size_t i = 0; i < SAMPLES; i++)
        printf("%02x", (unsigned char)memory[size / SAMPLES * i]);
    puts("\"}");
    return 0;
}
