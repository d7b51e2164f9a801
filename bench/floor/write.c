/* The floor of files: recv into one aligned block of 1 MiB a connection, pwrite when it is full.
 *
 * Compiled with -DDIRECT: O_DIRECT, whose offsets, addresses and lengths are multiples of the device's block, and
 * fdatasync at the end.  Parts begin at multiples of 1 MiB, so that only the end of the object is short: it is
 * written as whole pages and cut off.
 */
#include "floor.h"
#include "plain.h"

enum { PAGE = 4096 };

#ifdef DIRECT
enum { FLAGS = O_DIRECT };
#else
enum { FLAGS = 0 };
#endif

static int file;

static void flush(struct part *p)
{
    size_t length = p->block_length, from = p->at - length;
    if (FLAGS)
        length = (length + PAGE - 1) / PAGE * PAGE;
    if (pwrite(file, p->block, length, from) != (ssize_t)length)
        err(1, "pwrite");
    p->block_length = 0;
}

static void landed(struct part *p, size_t n)
{
    p->at += n;
    p->block_length += n;
    if (p->block_length == MIB || p->at == p->end)
        flush(p);
}

static void early(struct part *p, const struct given *g, const char *bytes, size_t n)
{
    (void)g;
    if (n) {
        memcpy(p->block, bytes, n); /* a header's buffer is smaller than a block */
        landed(p, n);
    }
}

static void take(struct part *p, const struct given *g)
{
    size_t left = p->end - p->at, room = MIB - p->block_length;
    (void)g;
    ssize_t n = get(p, p->block + p->block_length, left < room ? left : room);
    if (n <= 0)
        errx(1, "connection closed with %zu bytes to come", left);
    landed(p, n);
}

int main(int argc, char **argv)
{
    struct given g = arguments(argc, argv);
    if (!g.out)
        errx(2, "where to? -o FILE");
    file = open(g.out, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | FLAGS, 0666);
    if (file < 0)
        err(1, "%s", g.out);
    char *blocks = huge((size_t)g.connections * MIB);
    struct part *parts = divide(&g, MIB);
    for (int i = 0; i < g.connections; i++) {
        parts[i].block = blocks + (size_t)i * MIB;
        if (parts[i].at == parts[i].end)
            continue;
        parts[i].fd = dial(g.host, g.port);
        ask(&parts[i], &g);
    }
    drain(parts, &g);
    if (FLAGS && ftruncate(file, g.size))
        err(1, "ftruncate");
    if (FLAGS && fdatasync(file))
        err(1, "fdatasync");
    return close(file);
}
