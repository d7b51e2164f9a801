/* Runs a command and tells its peak resident set: `launch FD COMMAND...` writes KiB on FD.
 *
 * The kernel counts what a process had before exec, and the harness is larger than most clients: this is not.
 */
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    if (argc < 3)
        errx(2, "usage: launch FD COMMAND...");
    int fd = atoi(argv[1]), status;
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    pid_t child = fork();
    if (child < 0)
        err(1, "fork");
    if (child == 0) {
        execvp(argv[2], argv + 2);
        err(127, "%s", argv[2]);
    }
    struct rusage used;
    if (wait4(child, &status, 0, &used) < 0)
        err(1, "wait4");
    dprintf(fd, "%ld", used.ru_maxrss);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
