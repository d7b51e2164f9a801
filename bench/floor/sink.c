/* The other end of a pipe: takes what comes on its input and throws it away.
 *
 * usage: sink SIZE [-p BYTES_A_SECOND].  Prints, once the input ends, how many bytes there were, the bytes at SAMPLES
 * equal distances of SIZE, and when (CLOCK_MONOTONIC) the first and the last came.  With -p it takes no more than so
 * much a second, as a slow disk would: in blocks of 1 MiB, with no credit for the time in which nothing came.
 */
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { SAMPLES = 64, BLOCK = 1 << 20 };

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void rest_until(double when)
{
    double left = when - now();
    if (left > 0) {
        struct timespec t = {(time_t)left, (long)((left - (time_t)left) * 1e9)};
        nanosleep(&t, NULL);
    }
}

int main(int argc, char **argv)
{
    int option;
    double pace = 0;
    while ((option = getopt(argc, argv, "p:")) != -1)
        if (option == 'p')
            pace = atof(optarg);
        else
            return 2;
    if (argc - optind != 1)
        errx(2, "usage: sink SIZE [-p BYTES_A_SECOND]");
    size_t size = strtoull(argv[optind], NULL, 10), at = 0, next = 0;
    unsigned char sample[SAMPLES] = {0}, *block = aligned_alloc(4096, BLOCK);
    if (!block)
        err(1, "aligned_alloc");
    fcntl(0, F_SETPIPE_SZ, BLOCK); /* a smaller one costs the writer twice as much */
    double first = 0, free_at = now();
    ssize_t n;
    while ((n = read(0, block, BLOCK)) > 0) {
        if (!at)
            first = now();
        for (; next < SAMPLES && size / SAMPLES * next < at + n; next++)
            sample[next] = block[size / SAMPLES * next - at];
        at += n;
        if (pace) {
            double t = now();
            free_at = (free_at > t ? free_at : t) + n / pace;
            rest_until(free_at);
        }
    }
    if (n < 0)
        err(1, "read");
    printf("{\"bytes\": %zu, \"first\": %.6f, \"last\": %.6f, \"sample\": \"", at, first, now());
    for (int i = 0; i < SAMPLES; i++)
        printf("%02x", sample[i]);
    puts("\"}");
    return 0;
}
