/* Plain HTTP for the floors: get and put are the system calls. */
static ssize_t get(struct part *p, void *to, size_t n) { return recv(p->fd, to, n, 0); }

static void put(struct part *p, const void *from, size_t n)
{
    if (send(p->fd, from, n, MSG_NOSIGNAL) != (ssize_t)n)
        err(1, "send");
}
