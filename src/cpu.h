/* What of the CPU is used only where it is there: the instruction for CRC-32C.
 *
 * WITH_CRC_INSTRUCTION  on a function that uses it: the file is compiled for any processor of its kind
 * CRC_OF_WORD(crc, w)   the next eight bytes, CRC_OF_BYTE the next one; both let the caller cut to 32 bits
 * cpu_has_crc()         whether this processor has it; always false where the two are not defined */
#ifndef PARPULL_CPU_H
#define PARPULL_CPU_H

#if defined(__x86_64__)
/* A part of SSE 4.2, but to clang a feature of its own. */
#ifdef __clang__
#define WITH_CRC_INSTRUCTION __attribute__((target("sse4.2,crc32")))
#else
#define WITH_CRC_INSTRUCTION __attribute__((target("sse4.2")))
#endif
#define CRC_OF_WORD __builtin_ia32_crc32di
#define CRC_OF_BYTE __builtin_ia32_crc32qi
#include <cpuid.h>
/* Asked once, when the module is loaded: in a virtual machine the answer takes microseconds. Not by
 * __builtin_cpu_supports: the runtime that zig links never fills what that reads, and it says no to all. */
static int cpu_crc;
__attribute__((constructor)) static void cpu_ask(void) {
  unsigned int a, b, c, d;
  cpu_crc = __get_cpuid(1, &a, &b, &c, &d) && (c & bit_SSE4_2);
}
static inline int cpu_has_crc(void) { return cpu_crc; }

#elif defined(__AARCH64EL__) && (defined(__ARM_FEATURE_CRC32) || defined(__linux__))
/* Optional in ARMv8.0, there since 8.1. Builtins: older <arm_acle.h> hide theirs from a file for 8.0. */
#ifdef __clang__
#define CRC_OF_WORD __builtin_arm_crc32cd
#define CRC_OF_BYTE __builtin_arm_crc32cb
#else
#define CRC_OF_WORD __builtin_aarch64_crc32cx
#define CRC_OF_BYTE __builtin_aarch64_crc32cb
#endif
#ifdef __ARM_FEATURE_CRC32
#define WITH_CRC_INSTRUCTION
static inline int cpu_has_crc(void) { return 1; }
#else
#include <sys/auxv.h>
#ifdef __clang__
#define WITH_CRC_INSTRUCTION __attribute__((target("crc")))
#else
#define WITH_CRC_INSTRUCTION __attribute__((target("+crc")))
#endif
/* HWCAP_CRC32 of <asm/hwcap.h>, which not every libc brings. */
static inline int cpu_has_crc(void) { return (getauxval(AT_HWCAP) >> 7 & 1) != 0; }
#endif

#else
static inline int cpu_has_crc(void) { return 0; }
#endif
#endif
