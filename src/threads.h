/* A bare thread with all signals blocked: they belong to Python's main thread. */
#ifndef PARPULL_THREADS_H
#define PARPULL_THREADS_H
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static inline int start_thread(void **handle, void *(*run)(void *), void *argument) {
  pthread_t *thread = malloc(sizeof *thread);
  sigset_t all, before;
  int code;
  if (thread == NULL) return -1;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  code = pthread_create(thread, NULL, run, argument);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  if (code != 0) {
    free(thread);
    return code;
  }
#ifdef __linux__
  pthread_setname_np(*thread, "parpull-reactor");
#endif
  *handle = thread;
  return 0;
}

static inline void join_thread(void *handle) {
  pthread_join(*(pthread_t *)handle, NULL);
  free(handle);
}

static inline int open_socket(int family, int type, int protocol) {
#ifdef SOCK_CLOEXEC
  return socket(family, type | SOCK_CLOEXEC, protocol);
#else
  int fd = socket(family, type, protocol);
  if (fd >= 0) fcntl(fd, F_SETFD, FD_CLOEXEC);
  return fd;
#endif
}

static inline double wall_clock(void) { return (double)time(NULL); }
#endif
