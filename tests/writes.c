/* Notes down what a process writes to the files of one folder: to be loaded with
   LD_PRELOAD. WRITES names the log, WRITES_IN the folder; see tests/writes.py. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

struct head { char kind; uint16_t name, other; int64_t offset, size; } __attribute__((packed));

static const char *inside(const char *path) {
    const char *folder = getenv("WRITES_IN");
    size_t n = folder ? strlen(folder) : 0;
    return n && strncmp(path, folder, n) == 0 && path[n] == '/' ? path + n + 1 : NULL;
}

static void note(char kind, const char *path, const char *other, int64_t offset, int64_t size, const void *data) {
    static int fd = -1;
    const char *name = inside(path);
    struct head head;
    if (!name) return;
    other = other ? inside(other) : "";
    if (!other) other = "";
    head = (struct head){kind, (uint16_t)strlen(name), (uint16_t)strlen(other), offset, size};
    if (fd < 0) fd = open(getenv("WRITES"), O_WRONLY | O_APPEND | O_CLOEXEC);
    if (syscall(SYS_write, fd, &head, sizeof head) < 0 || syscall(SYS_write, fd, name, head.name) < 0
        || syscall(SYS_write, fd, other, head.other) < 0 || (data && syscall(SYS_write, fd, data, size) < 0)) abort();
}

static const char *path_of(int fd, char *room, size_t size) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, room, size - 1);
    room[n > 0 ? n : 0] = 0;
    return room;
}

/* The log has the order of the calls: one lock around each of them and its note. */
#define ON_FD(type, name, kind, arguments, call, offset, bytes, data)                        \
    type name arguments {                                                                   \
        char room[4096];                                                                    \
        pthread_mutex_lock(&lock);                                                          \
        type done = call;                                                                   \
        if (done >= 0) note(kind, path_of(fd, room, sizeof room), NULL, offset, bytes, data); \
        pthread_mutex_unlock(&lock);                                                        \
        return done;                                                                        \
    }
#define WRITE(name) ON_FD(ssize_t, name, 'w', (int fd, const void *data, size_t size, off_t at), \
                          syscall(SYS_pwrite64, fd, data, size, at), at, done, data)
#define TRUNCATE(name) ON_FD(int, name, 't', (int fd, off_t size), syscall(SYS_ftruncate, fd, size), 0, size, NULL)
#define RESERVE(name) ON_FD(int, name, 'r', (int fd, int mode, off_t at, off_t size), \
                            syscall(SYS_fallocate, fd, mode, at, size), at, size, NULL)
WRITE(pwrite)
WRITE(pwrite64)
TRUNCATE(ftruncate)
TRUNCATE(ftruncate64)
RESERVE(fallocate)
RESERVE(fallocate64)

#define ON_NAME(name, kind, arguments, first, second, call) \
    int name arguments {                                    \
        pthread_mutex_lock(&lock);                          \
        int done = call;                                    \
        if (done == 0) note(kind, first, second, 0, 0, NULL); \
        pthread_mutex_unlock(&lock);                        \
        return done;                                        \
    }
ON_NAME(unlink, 'u', (const char *path), path, NULL, syscall(SYS_unlinkat, AT_FDCWD, path, 0))
ON_NAME(rename, 'm', (const char *from, const char *to), from, to,
        syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0))
ON_NAME(link, 'l', (const char *from, const char *to), from, to,
        syscall(SYS_linkat, AT_FDCWD, from, AT_FDCWD, to, 0))
