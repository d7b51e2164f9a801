/* What Python does not tell about file systems. Linux; elsewhere the answers are
 * "unknown" and "not possible", and files are written through the page cache. */
#ifndef PARPULL_DISK_H
#define PARPULL_DISK_H
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/stat.h>
#include <sys/vfs.h>
#endif

/* f_type of statfs(2), or 0. */
static inline int64_t disk_type(int fd) {
#ifdef __linux__
  struct statfs about;
  if (fstatfs(fd, &about) == 0) return (int64_t)about.f_type;
#endif
  (void)fd;
  return 0;
}

/* Reserve `size` bytes. fallocate(2) itself, never posix_fallocate: glibc writes
 * zeros where a file system can't do it. Returns 0 or an errno. */
static inline int disk_reserve(int fd, int64_t size) {
#ifdef __linux__
  while (fallocate(fd, 0, 0, size) != 0)
    if (errno != EINTR) return errno;
  return 0;
#else
  (void)fd; (void)size;
  return EOPNOTSUPP;
#endif
}

/* What O_DIRECT wants of offsets and lengths in bytes; 0: no O_DIRECT here. Memory
 * is page-aligned anyway. */
static inline int64_t disk_direct_align(int fd) {
#if defined(__linux__) && defined(STATX_DIOALIGN)
  struct statx about;
  if (statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &about) == 0 && (about.stx_mask & STATX_DIOALIGN))
    return about.stx_dio_offset_align;
#endif
  (void)fd;
  return 4096;
}
#endif
