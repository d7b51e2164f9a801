/* What the floors share: arguments, one Range request a connection, one epoll loop, one line of JSON.
 *
 * A floor defines `take`, which moves what has arrived of one body, and includes this once.  One thread; level-triggered,
 * so that nothing is missed that the kernel still holds.  No checks but the status: anything a real client does on
 * top is what the benchmark compares.
 *
 * usage: FLOOR HOST PORT PATH SIZE [-c CONNECTIONS] [-r READ_SIZE] [-o FILE] [-a CA_FILE] [-n TIMES]
 * -n (memory only): after a first time that does not count, bench.steady's question: the CPU seconds of TIMES more.
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { HEADER = 8192, SAMPLES = 64, MIB = 1 << 20 };

struct part {
    int fd;
    size_t at, end;       /* offsets in the object: where the next body byte goes; one past the last */
    int in_body, more;    /* more: it has bytes that epoll will not tell of (TLS only) */
    size_t header_length;
    char header[HEADER + 1];
    char *block;          /* file floors: what is gathered, of block_length bytes */
    size_t block_length;
    void *session;        /* TLS floor: its SSL */
};

struct given {
    const char *host, *port, *path, *out, *ca;
    size_t size, read_size;
    int connections, times;
};

/* Of the floor that includes us.  `early`: bytes that came with the header. */
static void take(struct part *p, const struct given *g);
static void early(struct part *p, const struct given *g, const char *bytes, size_t n);
static ssize_t get(struct part *p, void *to, size_t n); /* recv or SSL_read; -1 with EAGAIN */
static void put(struct part *p, const void *from, size_t n);

static struct given arguments(int argc, char **argv)
{
    struct given g = {.connections = 8, .read_size = MIB};
    int option;
    while ((option = getopt(argc, argv, "c:r:o:a:n:")) != -1) {
        if (option == 'c')
            g.connections = atoi(optarg);
        else if (option == 'r')
            g.read_size = strtoull(optarg, NULL, 10);
        else if (option == 'o')
            g.out = optarg;
        else if (option == 'a')
            g.ca = optarg;
        else if (option == 'n')
            g.times = atoi(optarg);
        else
            exit(2);
    }
    if (argc - optind != 4)
        errx(2, "usage: HOST PORT PATH SIZE [-c CONNECTIONS] [-r READ_SIZE] [-o FILE] [-a CA_FILE]");
    g.host = argv[optind], g.port = argv[optind + 1], g.path = argv[optind + 2];
    g.size = strtoull(argv[optind + 3], NULL, 10);
    if (g.connections < 1 || g.read_size < 1 || g.size < (size_t)g.connections)
        errx(2, "nothing to fetch");
    return g;
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

/* Parts that begin at multiples of `step`: a block of a file is written by one connection. */
static struct part *divide(const struct given *g, size_t step)
{
    struct part *parts = calloc(g->connections, sizeof *parts);
    if (!parts)
        err(1, "calloc");
    for (int i = 0; i < g->connections; i++) {
        size_t from = g->size / g->connections * i / step * step;
        size_t to = i == g->connections - 1 ? g->size : g->size / g->connections * (i + 1) / step * step;
        parts[i] = (struct part){.fd = -1, .at = from, .end = to};
    }
    return parts;
}

static void ask(struct part *p, const struct given *g)
{
    char request[4096];
    int n = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: %s\r\nRange: bytes=%zu-%zu\r\n\r\n",
                     g->path, g->host, p->at, p->end - 1);
    if (n < 0 || (size_t)n >= sizeof request)
        errx(1, "path too long");
    put(p, request, n);
}

/* Reads until the blank line; what follows it is the start of the body. */
static void read_header(struct part *p, const struct given *g)
{
    ssize_t n = get(p, p->header + p->header_length, HEADER - p->header_length);
    if (n < 0 && errno == EAGAIN)
        return;
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
    if (body > p->end - p->at)
        errx(1, "more bytes than asked for");
    p->in_body = 1;
    early(p, g, blank + 4, body);
}

static void step(struct part *p, const struct given *g, int *open_parts)
{
    if (p->in_body)
        take(p, g);
    else
        read_header(p, g);
    if (p->in_body && p->at == p->end && p->fd >= 0) {
        close(p->fd); /* also leaves the epoll set */
        p->fd = -1;
        p->more = 0;
        --*open_parts;
    }
}

static void drain(struct part *parts, const struct given *g)
{
    struct epoll_event events[64];
    int set = epoll_create1(EPOLL_CLOEXEC), open_parts = 0, waiting = 0;
    if (set < 0)
        err(1, "epoll_create1");
    for (int i = 0; i < g->connections; i++) {
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = &parts[i]};
        if (parts[i].at == parts[i].end) /* more connections than blocks */
            continue;
        if (epoll_ctl(set, EPOLL_CTL_ADD, parts[i].fd, &e))
            err(1, "epoll_ctl");
        open_parts++;
    }
    while (open_parts) {
        int ready = epoll_wait(set, events, 64, waiting ? 0 : -1);
        if (ready < 0 && errno != EINTR)
            err(1, "epoll_wait");
        for (int i = 0; i < ready; i++)
            step(events[i].data.ptr, g, &open_parts);
        if (waiting || ready > 0) {
            waiting = 0;
            for (int i = 0; i < g->connections; i++) {
                if (parts[i].more)
                    step(&parts[i], g, &open_parts);
                waiting |= parts[i].more;
            }
        }
    }
    close(set);
}

/* Private and anonymous, in huge pages where the kernel gives them. */
__attribute__((unused)) static char *huge(size_t size)
{
    char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        err(1, "mmap");
    if (madvise(memory, size, MADV_HUGEPAGE))
        warn("MADV_HUGEPAGE");
    return memory;
}

static double seconds(struct timeval t)
{
    return t.tv_sec + t.tv_usec / 1e6;
}

/* `fetch` as often as wanted, into the same memory; with -n what that costs is told: in the program, in the kernel. */
__attribute__((unused)) static void repeat(const struct given *g, void (*fetch)(const struct given *))
{
    struct rusage before, after;
    fetch(g);
    getrusage(RUSAGE_SELF, &before);
    for (int i = 0; i < g->times; i++)
        fetch(g);
    getrusage(RUSAGE_SELF, &after);
    if (g->times)
        fprintf(stderr, "%f %f\n", seconds(after.ru_utime) - seconds(before.ru_utime),
                seconds(after.ru_stime) - seconds(before.ru_stime));
}

/* The size and bytes at equal distances, so that a part in the wrong place is noticed. */
__attribute__((unused)) static void tell(const char *memory, size_t size)
{
    printf("{\"bytes\": %zu, \"sample\": \"", size);
    for (size_t i = 0; i < SAMPLES; i++)
        printf("%02x", (unsigned char)memory[size / SAMPLES * i]);
    puts("\"}");
}
