"""A seccomp profile compiled to classic BPF (seccomp(2), config-linux.md Seccomp).

    arch? ─┬─ x86_64 ── number? ── binary search over ranges of numbers with one answer ── answer
           ├─ x86    ── …                                                              └─ tests of arguments ── answer
           └─ any other: the thread is killed, as its numbers would mean something else

What the profiles in use were written against is libseccomp as runc drives it, so its meanings are kept: rules with
the default action change nothing; a rule without arguments beats those with; arguments are compared as 64-bit
numbers (32 on 32-bit machines); two conditions on one argument make two rules. Calls that are newer than every call
the profile names answer ENOSYS, so that a C library falls back to what the profile's authors knew, instead of taking
EPERM for an answer.
"""

from __future__ import annotations

from knarr.errors import UsageError
from knarr.plan.bpf import ARCH_OFFSET, INSTRUCTION, LONGEST, NR_OFFSET, OPERATORS, Writer
from knarr.plan.step import quoted
from knarr.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from knarr.oci.spec import Seccomp, SeccompArg, SyscallRule
    from knarr.plan.bpf import Leaf, Rule

ORIGIN = "linux.seccomp"
EPERM, ENOSYS = 1, 38

# linux/seccomp.h SECCOMP_RET_*
KILL_THREAD, RET_ERRNO, RET_TRACE, RET_NOTIFY = 0, 0x00050000, 0x7FF00000, 0x7FC00000
ACTIONS = {
    "SCMP_ACT_KILL": KILL_THREAD, "SCMP_ACT_KILL_THREAD": KILL_THREAD, "SCMP_ACT_KILL_PROCESS": 0x80000000,
    "SCMP_ACT_TRAP": 0x00030000, "SCMP_ACT_ERRNO": RET_ERRNO, "SCMP_ACT_NOTIFY": RET_NOTIFY,
    "SCMP_ACT_TRACE": RET_TRACE, "SCMP_ACT_LOG": 0x7FFC0000, "SCMP_ACT_ALLOW": 0x7FFF0000,
}  # fmt: skip
PERMISSIVE = ("SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE")
_PERMITS = (ACTIONS["SCMP_ACT_ALLOW"], ACTIONS["SCMP_ACT_LOG"])
FLAGS = {
    "SECCOMP_FILTER_FLAG_TSYNC": 1, "SECCOMP_FILTER_FLAG_LOG": 2, "SECCOMP_FILTER_FLAG_SPEC_ALLOW": 4,
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": 32,
}  # fmt: skip
TSYNC, SPEC_ALLOW, NEW_LISTENER, WAIT_KILLABLE_RECV = 1, 4, 8, 32

X32_BIT = 0x40000000
PRIVATE_NUMBERS = 0xF0000  # arm's own calls lie far above all others


class Architecture(Record):
    """`audit` is AUDIT_ARCH_*; `bits` how wide an argument is; `table` the module with its numbers."""

    audit: int
    table: str
    bits: int = 64
    big_endian: bool = False


ARCHITECTURES = {
    "SCMP_ARCH_X86_64": Architecture(0xC000003E, "x86_64"),
    "SCMP_ARCH_X32": Architecture(0xC000003E, "x86_64", 32),
    "SCMP_ARCH_X86": Architecture(0x40000003, "x86", 32),
    "SCMP_ARCH_AARCH64": Architecture(0xC00000B7, "aarch64"),
    "SCMP_ARCH_ARM": Architecture(0x40000028, "arm", 32),
    "SCMP_ARCH_RISCV64": Architecture(0xC00000F3, "riscv64"),
    "SCMP_ARCH_LOONGARCH64": Architecture(0xC0000102, "loongarch64"),
    "SCMP_ARCH_PPC64LE": Architecture(0xC0000015, "ppc64le"),
    "SCMP_ARCH_S390X": Architecture(0x80000016, "s390x", 64, True),
    "SCMP_ARCH_S390": Architecture(0x00000016, "s390", 32, True),
}
# A kernel's machine name -> the architectures whose programs it runs, its own first.
FAMILIES = {
    "x86_64": ("SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"),
    "aarch64": ("SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"),
    "riscv64": ("SCMP_ARCH_RISCV64",),
    "loongarch64": ("SCMP_ARCH_LOONGARCH64",),
    "ppc64le": ("SCMP_ARCH_PPC64LE",),
    "s390x": ("SCMP_ARCH_S390X", "SCMP_ARCH_S390"),
}
# Named by the specification, run by machines knarr does not compile for: allowed in a profile, without effect.
FOREIGN = frozenset(
    f"SCMP_ARCH_{name}"
    for name in (
        "MIPS", "MIPS64", "MIPS64N32", "MIPSEL", "MIPSEL64", "MIPSEL64N32", "PPC", "PPC64", "PARISC", "PARISC64",
        "M68K", "SH", "SHEB",
    )
)  # fmt: skip


def compile_filter(seccomp: Seccomp, arch: str) -> bytes:
    """An array of `struct sock_filter` for a kernel of machine `arch` (`uname -m`), in its byte order.

    Raises `UsageError` naming the field: an unknown action, architecture or operator; a profile that gets too long.
    Names of calls that `arch` does not have are passed over: profiles list those of all machines.
    """
    family = FAMILIES.get(arch)
    if family is None:
        raise UsageError(
            f"{ORIGIN}: knarr cannot compile filters for {arch}", hint="--security-opt seccomp=unconfined"
        )
    for i, name in enumerate(seccomp.architectures):
        if name not in ARCHITECTURES and name not in FOREIGN:
            raise UsageError(f"{ORIGIN}.architectures[{i}]: unknown architecture {quoted(name)}")
    profile = _Profile(seccomp)
    wanted = [name for name in family if name == family[0] or name in seccomp.architectures]
    writer = Writer(ARCHITECTURES[family[0]].big_endian)
    blocks: list[tuple[int, bytes]] = []
    for name in wanted:
        if name == "SCMP_ARCH_X32":
            continue  # shares its architecture number, and so its block, with x86_64
        table = _table(ARCHITECTURES[name].table)
        ranges = profile.ranges(table, ARCHITECTURES[name], writer)
        if name == "SCMP_ARCH_X86_64":
            ranges += _x32_ranges(profile, table, writer, "SCMP_ARCH_X32" in wanted)
        blocks.append((ARCHITECTURES[name].audit, writer.load(NR_OFFSET) + writer.search(ranges)))
    program = writer.load(ARCH_OFFSET)
    for audit, code in blocks:
        program += writer.unless_equal_skip(audit, code)
    program += writer.ret(KILL_THREAD)
    if len(program) > LONGEST * INSTRUCTION:
        raise UsageError(f"{ORIGIN}: {len(program) // INSTRUCTION} instructions, the kernel takes {LONGEST}")
    return program


def check_names(seccomp: Seccomp) -> None:
    """Raises `UsageError` for a call that none of the machines we know has."""
    known = {name for arch in ARCHITECTURES.values() for name in _table(arch.table)}
    for i, rule in enumerate(seccomp.syscalls):
        for name in rule.names:
            if name not in known:
                raise UsageError(f"{ORIGIN}.syscalls[{i}].names: no system call is called {quoted(name)}")


def filter_flags(seccomp: Seccomp) -> int:
    """SECCOMP_FILTER_FLAG_*. Without any, speculation is left as it is, as runc does: disabling it is slow."""
    flags = 0 if seccomp.flags else SPEC_ALLOW
    for i, flag in enumerate(seccomp.flags):
        if flag not in FLAGS:
            raise UsageError(
                f"{ORIGIN}.flags[{i}]: unknown flag {quoted(flag)}", hint=f"one of {' '.join(FLAGS)}"
            )
        flags |= FLAGS[flag]
    if seccomp.listener_metadata and not seccomp.listener_path:
        raise UsageError(f"{ORIGIN}.listenerMetadata: means nothing without listenerPath")
    if not any(rule.action == "SCMP_ACT_NOTIFY" for rule in seccomp.syscalls):
        return flags & ~WAIT_KILLABLE_RECV  # is about waiting for an agent: without one the kernel refuses it
    if not seccomp.listener_path:
        raise UsageError(f"{ORIGIN}.listenerPath: is required for SCMP_ACT_NOTIFY")
    # The kernel cannot answer with both a descriptor and the thread that would not follow; there is only one thread.
    return flags & ~TSYNC | NEW_LISTENER


class _Profile:
    """The rules, checked once, then applied to each architecture's numbers."""

    def __init__(self, seccomp: Seccomp) -> None:
        if seccomp.default_action == "SCMP_ACT_NOTIFY":
            raise UsageError(f"{ORIGIN}.defaultAction: SCMP_ACT_NOTIFY would stop the container's own start")
        errno = seccomp.default_errno_ret
        self.default = _answer(seccomp.default_action, errno, f"{ORIGIN}.default", "Action", "ErrnoRet")
        hides_new_calls = seccomp.default_action not in PERMISSIVE and errno != ENOSYS
        self.unknown = RET_ERRNO | ENOSYS if hides_new_calls else self.default
        self.plain: list[tuple[Sequence[str], int]] = []
        self.tested: list[tuple[Sequence[str], Sequence[SeccompArg], int]] = []
        self.named = {name for rule in seccomp.syscalls for name in rule.names}
        for i, rule in enumerate(seccomp.syscalls):
            self._add(rule, f"{ORIGIN}.syscalls[{i}]")

    def _add(self, rule: SyscallRule, origin: str) -> None:
        if not rule.names:
            raise UsageError(f"{origin}.names: is empty")
        answer = _answer(rule.action, rule.errno_ret, f"{origin}.", "action", "errnoRet")
        if answer == self.default:
            return
        if not rule.args:
            self.plain.append((rule.names, answer))
            return
        for j, arg in enumerate(rule.args):
            _check_arg(arg, f"{origin}.args[{j}]")
        indexes = [arg.index for arg in rule.args]
        if len(set(indexes)) == len(indexes):
            self.tested.append((rule.names, rule.args, answer))
        else:
            self.tested += [(rule.names, (arg,), answer) for arg in rule.args]

    def ranges(
        self, table: dict[str, int], arch: Architecture, writer: Writer, start: int = 0
    ) -> list[tuple[int, Leaf]]:
        """(first number, what to answer from there on), ascending, for one architecture; each plus `start`."""
        calls: dict[int, Leaf] = {}
        for names, answer in reversed(self.plain):  # the first of several rules wins
            calls.update({table[name]: answer for name in names if name in table})
        for number, tests in self._tests(table, calls).items():
            calls[number] = writer.tests(tests, self.default, arch.bits == 32)
        if "socketcall" in table or "ipc" in table:
            self._multiplexed(table, calls, writer, arch)
        return _merged(calls, self.default, _gaps(table, self.named, self.unknown), start)

    def _tests(self, table: dict[str, int], calls: Mapping[int, Leaf]) -> dict[int, list[Rule]]:
        out: dict[int, list[Rule]] = {}
        for names, args, answer in self.tested:
            for name in names:
                number = table.get(name)
                if number is not None and number not in calls:
                    out.setdefault(number, []).append((args, answer))
        return out

    def _multiplexed(
        self, table: dict[str, int], calls: dict[int, Leaf], writer: Writer, arch: Architecture
    ) -> None:
        """Old programs reach `socket` as `socketcall(1, …)`, `shmget` as `ipc(23, …)`: a rule for one is a rule for
        the other. The call's own arguments lie in memory there, out of a filter's sight: what is allowed on
        conditions is not allowed that way, what is denied on conditions is denied."""
        from knarr.oci.spec import SeccompArg
        from knarr.plan.syscalls.multiplexed import IPC, SOCKETCALL

        rules = [
            *self.plain,
            *((names, answer) for names, _, answer in self.tested if answer not in _PERMITS),
        ]
        for carrier, members in (("socketcall", SOCKETCALL), ("ipc", IPC)):
            number = table.get(carrier)
            if number is None or number in calls:
                continue
            tests: list[Rule] = [
                ((SeccompArg(0, members[name], "SCMP_CMP_EQ"),), answer)
                for names, answer in rules
                for name in names
                if name in members
            ]
            if tests:
                calls[number] = writer.tests(tests, self.default, arch.bits == 32)


def _answer(action: str, errno: int | None, origin: str, action_field: str, errno_field: str) -> int:
    value = ACTIONS.get(action)
    if value is None:
        raise UsageError(f"{origin}{action_field}: unknown action {quoted(action)}")
    if value not in (RET_ERRNO, RET_TRACE):
        if errno:
            raise UsageError(f"{origin}{errno_field}: has no meaning for {action}")
        return value
    if errno is None:
        return value | EPERM
    if not 0 <= errno <= 0xFFFF:
        raise UsageError(f"{origin}{errno_field}: {errno} is not an error number")
    return value | errno


def _check_arg(arg: SeccompArg, origin: str) -> None:
    if not 0 <= arg.index <= 5:
        raise UsageError(f"{origin}.index: {arg.index} is not between 0 and 5")
    if arg.op not in OPERATORS:
        raise UsageError(f"{origin}.op: unknown operator {quoted(arg.op)}")
    for name, value in (("value", arg.value), ("valueTwo", arg.value_two)):
        if not 0 <= value < 1 << 64:
            raise UsageError(f"{origin}.{name}: {value} is not a 64-bit number")


def _table(name: str) -> dict[str, int]:
    numbers: dict[str, int] = __import__(f"knarr.plan.syscalls.{name}", fromlist=["NUMBERS"]).NUMBERS
    return numbers


def _x32_ranges(
    profile: _Profile, table: dict[str, int], writer: Writer, wanted: bool
) -> list[tuple[int, Leaf]]:
    """x32 programs are x86_64 to the kernel, with bit 30 set in the number. -1 is a call that a tracer cancelled."""
    cancelled: tuple[int, Leaf] = (0xFFFFFFFF, profile.default)
    if not wanted:
        return [(X32_BIT, KILL_THREAD), cancelled]
    from knarr.plan.syscalls.x86_64 import NOT_X32, X32

    x32 = {name: number for name, number in table.items() if name not in X32 and name not in NOT_X32}
    x32.update(X32)
    return [*profile.ranges(x32, ARCHITECTURES["SCMP_ARCH_X32"], writer, X32_BIT), cancelled]


def _gaps(table: dict[str, int], named: Collection[str], unknown: int) -> list[tuple[int, int, int]]:
    """(first, one past the last, answer) of numbers newer than every call the profile names.

    Tables ascend. x32 has a second block of numbers from 512 on, arm a third: each has its own newest.
    """
    first = {0: 0, 512: 512, PRIVATE_NUMBERS: PRIVATE_NUMBERS}
    for name in reversed(table):
        if name in named:
            number = table[name]
            block = 0 if number < 512 else 512 if number < PRIVATE_NUMBERS else PRIVATE_NUMBERS
            first[block] = max(first[block], number + 1)
            if not block:
                break
    return [
        (first[0], 512, unknown),
        (first[512], PRIVATE_NUMBERS, unknown),
        (first[PRIVATE_NUMBERS], X32_BIT, unknown),
    ]


def _merged(
    calls: dict[int, Leaf], default: int, gaps: Sequence[tuple[int, int, int]], start: int
) -> list[tuple[int, Leaf]]:
    """Numbers with their answers as ranges; neighbours with the same answer are one."""
    out: list[tuple[int, Leaf]] = []
    last: Leaf = -1
    following = 0  # the number after the one before
    for number, leaf in (*sorted(calls.items()), (X32_BIT, default)):
        if number != following:
            for first, answer in _between(following, number, default, gaps):
                if answer != last:
                    out.append((start + first, answer))
                    last = answer
        if leaf != last and number < X32_BIT:
            out.append((start + number, leaf))
            last = leaf
        following = number + 1
    return out


def _between(
    first: int, end: int, default: int, gaps: Sequence[tuple[int, int, int]]
) -> Iterator[tuple[int, int]]:
    """Answers to the numbers from `first` to before `end`, which no rule speaks of."""
    for low, high, answer in gaps:
        if high > first and end > first:
            if first < low:
                yield first, default
                first = min(low, end)
            if first < end:
                yield first, answer
                first = min(high, end)
    if first < end:
        yield first, default
