/* CRC-32C and CRC-64/NVME: what object stores state of their objects.
 *
 * Eight bytes a step by table; CRC-32C by the CPU's instruction where there is one. */
#ifndef PARPULL_CRC_H
#define PARPULL_CRC_H
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "cpu.h"

typedef struct {
  uint64_t row[8][256];
} CrcTable;

/* `polynomial`: reflected. */
static void crc_table(CrcTable *table, uint64_t polynomial) {
  int i, k;
  for (i = 0; i < 256; i++) {
    uint64_t crc = (uint64_t)i;
    for (k = 0; k < 8; k++) crc = crc >> 1 ^ (polynomial & (0 - (crc & 1)));
    table->row[0][i] = crc;
  }
  for (k = 1; k < 8; k++)
    for (i = 0; i < 256; i++)
      table->row[k][i] = table->row[k - 1][i] >> 8 ^ table->row[0][table->row[k - 1][i] & 0xFF];
}

static uint64_t crc_by_table(const CrcTable *table, uint64_t crc, const unsigned char *data, size_t n) {
  for (; n >= 8; n -= 8, data += 8) {
    uint64_t word;
    memcpy(&word, data, 8);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    word = __builtin_bswap64(word);
#endif
    word ^= crc;
    crc = table->row[7][word & 0xFF] ^ table->row[6][word >> 8 & 0xFF] ^ table->row[5][word >> 16 & 0xFF] ^
          table->row[4][word >> 24 & 0xFF] ^ table->row[3][word >> 32 & 0xFF] ^ table->row[2][word >> 40 & 0xFF] ^
          table->row[1][word >> 48 & 0xFF] ^ table->row[0][word >> 56];
  }
  for (; n > 0; n--, data++) crc = crc >> 8 ^ table->row[0][(crc ^ *data) & 0xFF];
  return crc;
}

#ifdef CRC_OF_WORD
WITH_CRC_INSTRUCTION static uint32_t crc32c_by_cpu(uint32_t crc, const unsigned char *data, size_t n) {
  uint64_t wide = crc; /* as x86's instruction has it: to cut it to 32 bits each time costs a quarter of the speed */
  for (; n >= 8; n -= 8, data += 8) {
    uint64_t word;
    memcpy(&word, data, 8);
    wide = CRC_OF_WORD(wide, word);
  }
  crc = (uint32_t)wide;
  for (; n > 0; n--, data++) crc = CRC_OF_BYTE(crc, *data);
  return crc;
}
#else
static uint32_t crc32c_by_cpu(uint32_t crc, const unsigned char *data, size_t n) { (void)data; (void)n; return crc; }
#endif
#endif
