/* What of the CPU is used only where it is there. */
#ifndef PARPULL_CPU_H
#define PARPULL_CPU_H
/* On a function that uses the CRC instruction of x86: a part of SSE 4.2, but to clang a feature of its own. */
#ifdef __clang__
#define WITH_CRC_INSTRUCTION __attribute__((target("sse4.2,crc32")))
#else
#define WITH_CRC_INSTRUCTION __attribute__((target("sse4.2")))
#endif
#endif
