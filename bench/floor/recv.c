/* The floor of memory: recv of READ_SIZE (1 MiB) straight to the final address, in private anonymous memory with
 * MADV_HUGEPAGE; only the few bytes that arrive with the response header are copied once more.
 */
#include "floor.h"
#include "plain.h"

static char *memory;

static void early(struct part *p, const struct given *g, const char *bytes, size_t n)
{
    (void)g;
    memcpy(memory + p->at, bytes, n);
    p->at += n;
}

static void take(struct part *p, const struct given *g)
{
    size_t left = p->end - p->at;
    ssize_t n = get(p, memory + p->at, left < g->read_size ? left : g->read_size);
    if (n <= 0)
        errx(1, "connection closed with %zu bytes to come", left);
    p->at += n;
}

static void fetch(const struct given *g)
{
    struct part *parts = divide(g, 1);
    for (int i = 0; i < g->connections; i++) {
        parts[i].fd = dial(g->host, g->port);
        ask(&parts[i], g);
    }
    drain(parts, g);
    free(parts);
}

int main(int argc, char **argv)
{
    struct given g = arguments(argc, argv);
    memory = huge(g.size);
    repeat(&g, fetch);
    tell(memory, g.size);
    return 0;
}
