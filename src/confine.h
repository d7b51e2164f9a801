/* What a process that unpacks unproven bytes gives up before it reads the first of them.
 * Linux; constants are spelt out where the headers of an older system lack them. Each step
 * that this kernel has is taken; which were, is told. */
#ifndef PARPULL_CONFINE_H
#define PARPULL_CONFINE_H

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef O_PATH
#define O_PATH 010000000
#endif

/* The same numbers on every architecture. */
enum { NR_LANDLOCK_CREATE = 444, NR_LANDLOCK_ADD = 445, NR_LANDLOCK_RESTRICT = 446, NR_OPENAT2 = 437 };
enum { CONFINED_ROOT = 1, CONFINED_LANDLOCK = 2, CONFINED_CALLS = 4, CONFINED_CAPS = 8 };

/* openat, with all of the path and of the symlinks in it below `root`. */
static inline int open_below(int root, const char *path, int flags) {
  struct { uint64_t flags, mode, resolve; } how = {(uint64_t)flags, 0, 0x10 | 0x02}; /* IN_ROOT, NO_MAGICLINKS */
  long fd;
  /* EAGAIN: somebody, somewhere, renamed something meanwhile. */
  do fd = syscall(NR_OPENAT2, root, path, &how, sizeof how);
  while (fd < 0 && (errno == EAGAIN || errno == EINTR));
  return (int)fd;
}

static int confine_files(int root) {
  struct { uint64_t fs, net, scoped; } handled = {0, 0, 0};
  struct __attribute__((packed)) { uint64_t allowed; int32_t parent; } rule;
  long abi = syscall(NR_LANDLOCK_CREATE, NULL, 0, 1), rules;
  size_t size = abi >= 6 ? 24 : abi >= 4 ? 16 : 8;
  if (abi < 2) return 0; /* the first forbids every hard link to another folder */
  handled.fs = abi >= 5 ? 0xFFFF : abi >= 3 ? 0x7FFF : 0x3FFF;
  if (abi >= 4) handled.net = 3;
  if (abi >= 6) handled.scoped = 3;
  rules = syscall(NR_LANDLOCK_CREATE, &handled, size, 0);
  if (rules < 0) return 0;
  /* Not: execute, read files, make sockets, ioctl on devices. */
  rule.allowed = handled.fs & ~(uint64_t)(1 << 0 | 1 << 2 | 1 << 9 | 1 << 15);
  rule.parent = root;
  if (syscall(NR_LANDLOCK_ADD, (int)rules, 1, &rule, 0) != 0 || syscall(NR_LANDLOCK_RESTRICT, (int)rules, 0) != 0) {
    close((int)rules);
    return 0;
  }
  close((int)rules);
  return CONFINED_LANDLOCK;
}

#if defined(__x86_64__)
#define CONFINE_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define CONFINE_ARCH AUDIT_ARCH_AARCH64
#endif

/* No network, no other program, no other process, none of the kernel's larger doors. */
static int confine_calls(void) {
#ifdef CONFINE_ARCH
  static const int denied[] = {
    SYS_socket, SYS_socketpair, SYS_connect, SYS_bind, SYS_execve, SYS_execveat, SYS_clone, 435 /* clone3 */,
    SYS_ptrace, SYS_process_vm_readv, SYS_process_vm_writev, SYS_mount, SYS_umount2, SYS_pivot_root, SYS_chroot,
    SYS_unshare, SYS_setns, SYS_bpf, SYS_perf_event_open, SYS_keyctl, SYS_add_key, SYS_request_key, SYS_kill,
    SYS_init_module, SYS_finit_module, SYS_delete_module, SYS_kexec_load, SYS_open_by_handle_at, SYS_userfaultfd,
    SYS_reboot, SYS_swapon, SYS_quotactl, SYS_acct, SYS_setrlimit, SYS_prlimit64, 425 /* io_uring_setup */,
    428, 429, 430, 431, 432, 442 /* the newer ways to mount */,
#ifdef __x86_64__
    SYS_fork, SYS_vfork, SYS_ioperm, SYS_iopl,
#endif
  };
  enum { COUNT = sizeof denied / sizeof denied[0] };
  struct sock_filter code[COUNT * 2 + 8];
  struct sock_fprog program;
  unsigned n = 0, i;
  code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch));
  code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, CONFINE_ARCH, 1, 0);
  code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL);
  code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
#ifdef __x86_64__
  code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 0x40000000, 0, 1); /* x32 */
  code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL);
#endif
  for (i = 0; i < COUNT; i++) {
    code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)denied[i], 0, 1);
    code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
  }
  code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
  program.len = (unsigned short)n;
  program.filter = code;
  return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0 ? CONFINED_CALLS : 0;
#else
  return 0;
#endif
}

/* `keep`: bits of the capabilities that stay, of those that are there. */
static int confine_caps(uint64_t keep) {
  struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  struct __user_cap_data_struct caps[2];
  int i;
  if (syscall(SYS_capget, &header, caps) != 0) return 0;
  for (i = 0; i < 2; i++) {
    caps[i].permitted &= (uint32_t)(keep >> (32 * i));
    caps[i].effective = caps[i].permitted;
    caps[i].inheritable = 0;
  }
  return syscall(SYS_capset, &header, caps) == 0 ? CONFINED_CAPS : 0;
}

/* Which steps were taken; -1 with errno when what every kernel has was refused. */
static int confine(int root, uint64_t keep) {
  int taken = 0, step;
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || fchdir(root) != 0) return -1;
  prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
  if (chroot(".") == 0) taken |= CONFINED_ROOT;
  taken |= confine_files(root) | confine_calls();
  step = confine_caps(keep);
  return step ? taken | step : -1;
}

#endif
