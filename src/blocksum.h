/* The sum of a block: CRC-32C of its four quarters, folded into one by a fifth.
 *
 * Four independent streams keep the CRC instruction busy (it takes three cycles
 * and could start every cycle); what the journal needs is a good 32-bit sum, not
 * one that others know. Without the instruction: a table, some ten times slower. */
#ifndef PARPULL_BLOCKSUM_H
#define PARPULL_BLOCKSUM_H
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "cpu.h"

static inline uint64_t word_at(const unsigned char *data) {
  uint64_t word;
  memcpy(&word, data, 8);
  return word;
}

#define BLOCKSUM_BODY(WORD, BYTE)                                                       \
  size_t quarter = n / 4 & ~(size_t)7, i;                                               \
  const unsigned char *a = data, *b = a + quarter, *c = b + quarter, *d = c + quarter;  \
  uint32_t w = ~0u, x = ~0u, y = ~0u, z = ~0u;                                          \
  for (i = 0; i < quarter; i += 8) {                                                    \
    w = (uint32_t)WORD(w, word_at(a + i));                                              \
    x = (uint32_t)WORD(x, word_at(b + i));                                              \
    y = (uint32_t)WORD(y, word_at(c + i));                                              \
    z = (uint32_t)WORD(z, word_at(d + i));                                              \
  }                                                                                     \
  for (i = 4 * quarter; i < n; i++) z = BYTE(z, data[i]);                               \
  w = (uint32_t)WORD(~0u, (uint64_t)x << 32 | w);                                       \
  w = (uint32_t)WORD(w, (uint64_t)z << 32 | y);                                         \
  return ~(uint32_t)WORD(w, (uint64_t)n);

static inline uint32_t soft_byte(uint32_t crc, unsigned char byte) {
  int bit;
  crc ^= byte;
  for (bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (0x82F63B78u & (0u - (crc & 1)));
  return crc;
}

/* A nibble at a time: sixteen entries need no initialisation and no lock. */
static inline uint64_t soft_word(uint32_t crc, uint64_t word) {
  static const uint32_t nibble[16] = {
      0x00000000, 0x105EC76F, 0x20BD8EDE, 0x30E349B1, 0x417B1DBC, 0x5125DAD3, 0x61C69362, 0x7198540D,
      0x82F63B78, 0x92A8FC17, 0xA24BB5A6, 0xB21572C9, 0xC38D26C4, 0xD3D3E1AB, 0xE330A81A, 0xF36E6F75};
  int i;
  for (i = 0; i < 8; i++, word >>= 8) {
    crc ^= (uint32_t)(word & 0xFF);
    crc = crc >> 4 ^ nibble[crc & 15];
    crc = crc >> 4 ^ nibble[crc & 15];
  }
  return crc;
}

static uint32_t soft_sum(const unsigned char *data, size_t n) { BLOCKSUM_BODY(soft_word, soft_byte) }

#ifdef CRC_OF_WORD
WITH_CRC_INSTRUCTION static uint32_t hard_sum(const unsigned char *data, size_t n) {
  BLOCKSUM_BODY(CRC_OF_WORD, CRC_OF_BYTE)
}
#else
static uint32_t hard_sum(const unsigned char *data, size_t n) { return soft_sum(data, n); }
#endif

static uint32_t block_sum(const void *data, size_t n) {
  return cpu_has_crc() ? hard_sum((const unsigned char *)data, n) : soft_sum((const unsigned char *)data, n);
}
#endif
