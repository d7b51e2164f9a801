/* Memory for objects: what differs between Linux and macOS stays in here. */
#ifndef PARPULL_MAPPING_H
#define PARPULL_MAPPING_H
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

#define MAPPING_HUGE_FROM (4 << 20)
#define MAPPING_UNIT ((size_t)2 << 20)

/* Private anonymous memory; NULL when there is none. With `huge`, the whole
 * 2 MiB units inside are asked to be huge pages, never the ragged end: that
 * would round the object up. */
static inline void *map_memory(size_t size, int huge, int reserve) {
  int flags = MAP_PRIVATE | MAP_ANONYMOUS;
  void *address;
#ifdef MAP_NORESERVE
  if (reserve) flags |= MAP_NORESERVE;
#endif
  address = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, -1, 0);
  if (address == MAP_FAILED) return NULL;
#ifdef MADV_HUGEPAGE
  if (huge) {
    uintptr_t first = ((uintptr_t)address + MAPPING_UNIT - 1) & ~(MAPPING_UNIT - 1);
    uintptr_t last = ((uintptr_t)address + size) & ~(MAPPING_UNIT - 1);
    if (last > first) madvise((void *)first, last - first, MADV_HUGEPAGE);
  }
#else
  (void)huge;
#endif
  return address;
}

static inline int unmap_memory(void *address, size_t size) { return munmap(address, size); }

/* A fork while bytes are landing must not share them: the child would fault on
 * copies of pages that the reactor still writes. */
static inline void keep_from_fork(void *address, size_t size, int keep) {
#ifdef MADV_DONTFORK
  madvise(address, size, keep ? MADV_DONTFORK : MADV_DOFORK);
#else
  (void)address; (void)size; (void)keep;
#endif
}

static inline void *aligned(size_t size) {
  void *memory = NULL;
  return posix_memalign(&memory, 4096, size) == 0 ? memory : NULL;
}
#endif
