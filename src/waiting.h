/* A condition variable on the monotonic clock: setting the wall clock must not
 * hold a download for an hour. macOS has no condattr_setclock, but a relative
 * wait of its own. */
#ifndef PARPULL_WAITING_H
#define PARPULL_WAITING_H
#include <errno.h>
#include <pthread.h>
#include <time.h>

static inline double monotonic(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static inline void nap(double seconds) {
  struct timespec time = {0, (long)(seconds * 1e9)};
  nanosleep(&time, NULL);
}

static inline int cond_init(pthread_cond_t *cond) {
#ifdef __APPLE__
  return pthread_cond_init(cond, NULL);
#else
  pthread_condattr_t attributes;
  int code;
  pthread_condattr_init(&attributes);
  pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
  code = pthread_cond_init(cond, &attributes);
  pthread_condattr_destroy(&attributes);
  return code;
#endif
}

/* seconds < 0: wait without a limit. */
static inline int cond_wait(pthread_cond_t *cond, pthread_mutex_t *lock, double seconds) {
  struct timespec when;
  if (seconds < 0) return pthread_cond_wait(cond, lock);
#ifdef __APPLE__
  when.tv_sec = (time_t)seconds;
  when.tv_nsec = (long)((seconds - (double)when.tv_sec) * 1e9);
  return pthread_cond_timedwait_relative_np(cond, lock, &when);
#else
  clock_gettime(CLOCK_MONOTONIC, &when);
  when.tv_sec += (time_t)seconds;
  when.tv_nsec += (long)((seconds - (double)(time_t)seconds) * 1e9);
  if (when.tv_nsec >= 1000000000L) {
    when.tv_sec += 1;
    when.tv_nsec -= 1000000000L;
  }
  return pthread_cond_timedwait(cond, lock, &when);
#endif
}
#endif
