/* The few atomic operations of the core, on 64-bit integers.
 *
 * Progress counters have one writer (the reactor thread) and any number of
 * readers that take no lock: relaxed order is enough for them. The front is
 * published with release and read with acquire, so that whoever sees a front
 * of n also sees the n bytes before it. */
#ifndef PARPULL_ATOMICS_H
#define PARPULL_ATOMICS_H
#include <stdint.h>

static inline int64_t atomic_get(const int64_t *cell) {
  return __atomic_load_n(cell, __ATOMIC_RELAXED);
}
static inline void atomic_set(int64_t *cell, int64_t value) {
  __atomic_store_n(cell, value, __ATOMIC_RELAXED);
}
static inline int64_t atomic_add(int64_t *cell, int64_t value) {
  return __atomic_add_fetch(cell, value, __ATOMIC_RELAXED);
}
static inline int64_t atomic_acquire(const int64_t *cell) {
  return __atomic_load_n(cell, __ATOMIC_ACQUIRE);
}
static inline void atomic_publish(int64_t *cell, int64_t value) {
  __atomic_store_n(cell, value, __ATOMIC_RELEASE);
}
#endif
