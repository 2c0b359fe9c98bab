"""The seccomp profile of a container that asks for none: docker's, so that what runs there runs here.

Everything that is not listed answers EPERM (or ENOSYS where it is newer than the list). What a capability guards is
allowed with that capability. Namespaces cannot be made without CAP_SYS_ADMIN: `clone` with their flags is refused, and
`clone3`, whose flags lie in memory, is "not implemented", upon which C libraries use `clone`.

Compiling it takes two milliseconds of each start, a third of all that Python does. The one that nearly every container
has is therefore kept compiled, in `seccomp_usual/`; a test compares it with what the compiler makes.
"""

from __future__ import annotations

from knarr.oci.spec import Seccomp, SeccompArg, SyscallRule

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

ALLOWED = tuple(
    """
    accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod chown chown32 clock_adjtime
    clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep
    clock_nanosleep_time64 close close_range connect copy_file_range creat dup dup2 dup3 epoll_create epoll_create1
    epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 execve execveat exit
    exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate fanotify_mark fchdir fchmod fchmodat fchmodat2
    fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat
    fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futex futex_requeue futex_time64 futex_wait
    futex_waitv futex_wake futimesat get_robust_list get_thread_area getcpu getcwd getdents getdents64 getegid
    getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getitimer getpeername getpgid getpgrp getpid
    getppid getpriority getrandom getresgid getresgid32 getresuid getresuid32 getrlimit getrusage getsid getsockname
    getsockopt gettid gettimeofday getuid getuid32 getxattr getxattrat inotify_add_watch inotify_init inotify_init1
    inotify_rm_watch io_cancel io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit ioctl
    ioprio_get ioprio_set ipc kill landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown lchown32
    lgetxattr link linkat listen listmount listxattr listxattrat llistxattr _llseek lremovexattr lseek lsetxattr lstat
    lstat64 madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mkdir mkdirat mknod mknodat mlock
    mlock2 mlockall mmap mmap2 mprotect mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64
    mq_timedsend mq_timedsend_time64 mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync munlock munlockall munmap
    name_to_handle_at nanosleep newfstatat _newselect open openat openat2 pause pidfd_open pidfd_send_signal pipe pipe2
    pkey_alloc pkey_free pkey_mprotect poll ppoll ppoll_time64 prctl pread64 preadv preadv2 prlimit64 process_mrelease
    pselect6 pselect6_time64 pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv recv recvfrom recvmmsg
    recvmmsg_time64 recvmsg remap_file_pages removexattr removexattrat rename renameat renameat2 restart_syscall
    riscv_hwprobe rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend
    rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min
    sched_getaffinity sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval
    sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield seccomp
    select semctl semget semop semtimedop semtimedop_time64 send sendfile sendfile64 sendmmsg sendmsg sendto
    set_robust_list set_thread_area set_tid_address setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups
    setgroups32 setitimer setpgid setpriority setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid
    setreuid32 setrlimit setsid setsockopt setuid setuid32 setxattr setxattrat shmat shmctl shmdt shmget shutdown
    sigaltstack signalfd signalfd4 sigprocmask sigreturn socketcall socketpair splice stat stat64 statfs statfs64
    statmount statx symlink symlinkat sync sync_file_range syncfs sysinfo tee tgkill time timer_create timer_delete
    timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime
    timerfd_gettime64 timerfd_settime timerfd_settime64 times tkill truncate truncate64 ugetrlimit umask uname unlink
    unlinkat uretprobe utime utimensat utimensat_time64 utimes vfork vmsplice wait4 waitid waitpid write writev
    """.split()
)  # fmt: skip

# What else a capability opens.
BY_CAPABILITY = {
    "CAP_DAC_READ_SEARCH": ("open_by_handle_at",),
    "CAP_SYS_ADMIN": (
        "bpf", "clone", "clone3", "fanotify_init", "fsconfig", "fsmount", "fsopen", "fspick", "lookup_dcookie",
        "lsm_get_self_attr", "lsm_list_modules", "lsm_set_self_attr", "mount", "mount_setattr", "move_mount",
        "open_tree", "perf_event_open", "quotactl", "quotactl_fd", "setdomainname", "sethostname", "setns", "syslog",
        "umount", "umount2", "unshare",
    ),
    "CAP_SYS_BOOT": ("reboot",),
    "CAP_SYS_CHROOT": ("chroot",),
    "CAP_SYS_MODULE": ("delete_module", "finit_module", "init_module"),
    "CAP_SYS_PACCT": ("acct",),
    "CAP_SYS_PTRACE": (
        "kcmp", "pidfd_getfd", "process_madvise", "process_vm_readv", "process_vm_writev", "ptrace",
    ),
    "CAP_SYS_RAWIO": ("ioperm", "iopl"),
    "CAP_SYS_TIME": ("clock_settime", "clock_settime64", "settimeofday", "stime"),
    "CAP_SYS_TTY_CONFIG": ("vhangup",),
    "CAP_SYS_NICE": ("get_mempolicy", "mbind", "set_mempolicy", "set_mempolicy_home_node"),
    "CAP_SYSLOG": ("syslog",),
    "CAP_BPF": ("bpf",),
    "CAP_PERFMON": ("perf_event_open",),
}  # fmt: skip
BY_MACHINE = {
    "x86_64": ("arch_prctl", "modify_ldt"),
    "aarch64": (
        "arm_fadvise64_64", "arm_sync_file_range", "breakpoint", "cacheflush", "set_tls", "sync_file_range2",
    ),
    "ppc64le": ("swapcontext", "sync_file_range2"),
    "s390x": ("s390_pci_mmio_read", "s390_pci_mmio_write", "s390_runtime_instr"),
    "riscv64": ("riscv_flush_icache",),
}  # fmt: skip
# Before Linux 4.8 a tracer could change a call after the filter had seen it.
SINCE_4_8 = ("process_vm_readv", "process_vm_writev", "ptrace")

# Address families 1 to 11, then single ones. Not among them: vsock (40), which reaches the host of a virtual machine,
# alg (38), the kernel's own cryptography, and families that kernels no longer have.
LAST_OF_FIRST_FAMILIES = 11
FAMILIES_ALLOWED = (
    13, 14, 15, 16, 17, 18, 21, 22, 24, 26, 27, 28, 29, 30, 31, 32, 33, 35, 36, 39, 41, 42, 43, 44, 45,
)  # fmt: skip
PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)
# CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET
NAMESPACE_FLAGS = 0x7E020000
ALLOW, ERRNO = "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO"
EPERM, ENOSYS = 1, 38
# A kernel's machine name -> the architectures whose programs may run.
ARCHITECTURES = {
    "x86_64": ("SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"),
    "aarch64": ("SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"),
    "s390x": ("SCMP_ARCH_S390X", "SCMP_ARCH_S390"),
    "riscv64": ("SCMP_ARCH_RISCV64",),
    "loongarch64": ("SCMP_ARCH_LOONGARCH64",),
    "ppc64le": ("SCMP_ARCH_PPC64LE",),
}
USUAL_CAPABILITIES = ("CAP_SYS_CHROOT",)  # of the default ones, those that open something
USUAL_KERNEL = (4, 8)


def default_seccomp(arch: str, capabilities: Collection[str], kernel: tuple[int, int]) -> Seccomp:
    """The profile for a kernel of machine `arch` and a container whose bounding set is `capabilities` (`CAP_…`)."""
    allowed = [*ALLOWED, *BY_MACHINE.get(arch, ())]
    if kernel >= (4, 8):
        allowed += SINCE_4_8
    for capability in BY_CAPABILITY:  # in this order, not the set's: the same asked, the same compiled
        if capability in capabilities:
            allowed += BY_CAPABILITY[capability]
    rules = [
        SyscallRule(tuple(allowed), ALLOW),
        _argument_rule("socket", "SCMP_CMP_LT", LAST_OF_FIRST_FAMILIES + 1),
    ]
    rules += [_argument_rule("socket", "SCMP_CMP_EQ", family) for family in FAMILIES_ALLOWED]
    rules += [_argument_rule("personality", "SCMP_CMP_EQ", persona) for persona in PERSONALITIES]
    if "CAP_SYS_ADMIN" not in capabilities:
        flags = SeccompArg(1 if arch == "s390x" else 0, NAMESPACE_FLAGS, "SCMP_CMP_MASKED_EQ", 0)
        rules.append(SyscallRule(("clone",), ALLOW, None, (flags,)))
        rules.append(SyscallRule(("clone3",), ERRNO, ENOSYS))
    return Seccomp(ERRNO, EPERM, ARCHITECTURES.get(arch, ()), (), "", "", tuple(rules))


def usual_filter(seccomp: Seccomp, arch: str) -> str:
    """The compiled profile in hexadecimal, if this is the one of a container with the default capabilities, else ""."""
    if arch not in ("x86_64", "aarch64") or seccomp != default_seccomp(
        arch, USUAL_CAPABILITIES, USUAL_KERNEL
    ):
        return ""
    if arch == "x86_64":
        from knarr.plan.seccomp_usual.x86_64 import FILTER
    else:
        from knarr.plan.seccomp_usual.aarch64 import FILTER
    return FILTER


def _argument_rule(name: str, op: str, value: int) -> SyscallRule:
    return SyscallRule((name,), ALLOW, None, (SeccompArg(0, value, op),))
