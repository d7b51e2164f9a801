/* The floor of TLS: SSL_read with 64 KiB of read-ahead, into the same memory as recv.c.  SSL_read gives one record
 * (16 KiB) at most; a connection yields after 1 MiB, and what OpenSSL then still holds is asked for without epoll.
 */
#include "floor.h"
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

static char *memory;

static _Noreturn void refused(const char *what)
{
    ERR_print_errors_fp(stderr);
    errx(1, "%s", what);
}

static ssize_t get(struct part *p, void *to, size_t n)
{
    size_t got;
    if (SSL_read_ex(p->session, to, n, &got))
        return got;
    if (SSL_get_error(p->session, 0) != SSL_ERROR_WANT_READ)
        refused("SSL_read");
    errno = EAGAIN;
    return -1;
}

static void put(struct part *p, const void *from, size_t n)
{
    size_t sent;
    if (!SSL_write_ex(p->session, from, n, &sent) || sent != n)
        refused("SSL_write");
}

static void early(struct part *p, const struct given *g, const char *bytes, size_t n)
{
    (void)g;
    memcpy(memory + p->at, bytes, n);
    p->at += n;
    p->more = 1;
}

static void take(struct part *p, const struct given *g)
{
    size_t most = p->at + g->read_size < p->end ? p->at + g->read_size : p->end;
    p->more = 1;
    while (p->at < most) {
        ssize_t n = get(p, memory + p->at, most - p->at);
        if (n < 0) {
            p->more = 0;
            return;
        }
        p->at += n;
    }
}

/* Blocking for the handshake, not for what follows. */
static void *shake_hands(int fd, SSL_CTX *context, const char *host)
{
    SSL *session = SSL_new(context);
    if (!session || !SSL_set_fd(session, fd))
        refused("SSL_new");
    if (!X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(session), host) && !SSL_set1_host(session, host))
        refused("host");
    if (SSL_connect(session) != 1)
        refused("SSL_connect");
    return session;
}

static SSL_CTX *context;

static void fetch(const struct given *g)
{
    struct part *parts = divide(g, 1);
    for (int i = 0; i < g->connections; i++) {
        struct part *p = &parts[i];
        p->fd = dial(g->host, g->port);
        p->session = shake_hands(p->fd, context, g->host);
        ask(p, g);
        if (fcntl(p->fd, F_SETFL, O_NONBLOCK))
            err(1, "O_NONBLOCK");
    }
    drain(parts, g);
    for (int i = 0; i < g->connections; i++)
        SSL_free(parts[i].session);
    free(parts);
}

int main(int argc, char **argv)
{
    struct given g = arguments(argc, argv);
    context = SSL_CTX_new(TLS_client_method());
    if (!context || !g.ca || !SSL_CTX_load_verify_locations(context, g.ca, NULL))
        refused("context; -a CA_FILE");
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_read_ahead(context, 1);
    SSL_CTX_set_default_read_buffer_len(context, 64 << 10);
    memory = huge(g.size);
    repeat(&g, fetch);
    tell(memory, g.size);
    if (!g.times)
        fprintf(stderr, "%s\n", OpenSSL_version(OPENSSL_VERSION));
    return 0;
}
