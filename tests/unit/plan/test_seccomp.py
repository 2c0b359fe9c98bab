"""The seccomp compiler: its programs are interpreted, and compared with libseccomp's where that is installed."""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import struct
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import knarr.plan.seccomp_default
from knarr.errors import UsageError
from knarr.oci.spec import Seccomp, SeccompArg, SyscallRule
from knarr.plan import defaults
from knarr.plan.process import SPEC_ALLOW
from knarr.plan.seccomp import (
    ACTIONS,
    ARCHITECTURES,
    ENOSYS,
    FAMILIES,
    KILL_THREAD,
    RET_ERRNO,
    RET_TRACE,
    X32_BIT,
    _table,
    compile_filter,
    filter_flags,
)
from knarr.plan.seccomp_default import default_seccomp, usual_filter
from knarr.plan.syscalls.x86_64 import NUMBERS

ALLOW, EPERM, NOSYS = ACTIONS["SCMP_ACT_ALLOW"], RET_ERRNO | 1, RET_ERRNO | ENOSYS
X86_64 = ARCHITECTURES["SCMP_ARCH_X86_64"].audit
ZERO = (0,) * 6


class Machine:
    """Interprets a filter as the kernel does."""

    def __init__(self, program: bytes, big_endian: bool = False) -> None:
        self.order = ">" if big_endian else "<"
        self.code = list(struct.iter_unpack(f"{self.order}HBBI", program))

    def run(self, audit: int, number: int, args: Sequence[int] = ZERO) -> int:
        data = struct.pack(f"{self.order}IIQ6Q", number, audit, 0, *args)
        at = accumulator = 0
        while True:
            opcode, true, false, k = self.code[at]
            at += 1
            match opcode:
                case 0x20:
                    (accumulator,) = struct.unpack_from(f"{self.order}I", data, k)
                case 0x54:
                    accumulator &= k
                case 0x05:
                    at += k
                case 0x15:
                    at += true if accumulator == k else false
                case 0x25:
                    at += true if accumulator > k else false
                case 0x35:
                    at += true if accumulator >= k else false
                case 0x45:
                    at += true if accumulator & k else false
                case 0x06:
                    return int(k)
                case _:
                    raise AssertionError(hex(opcode))


def machine(profile: Seccomp, arch: str = "x86_64") -> Machine:
    return Machine(compile_filter(profile, arch), arch == "s390x")


def rule(
    name: str, *args: SeccompArg, action: str = "SCMP_ACT_ALLOW", errno: int | None = None
) -> SyscallRule:
    return SyscallRule((name,), action, errno, args)


def profile(*rules: SyscallRule, default: str = "SCMP_ACT_ERRNO", errno: int | None = None) -> Seccomp:
    return Seccomp(default, errno, syscalls=rules)


DEFAULT = default_seccomp("x86_64", defaults.CAPABILITIES, (6, 12))


# ---- meaning


def answer(of: Seccomp, name: str, *args: int) -> int:
    return machine(of).run(X86_64, NUMBERS[name], (*args, *ZERO)[:6])


def test_the_default_profile() -> None:
    assert answer(DEFAULT, "read") == ALLOW
    assert answer(DEFAULT, "mount") == EPERM
    assert answer(DEFAULT, "chroot") == ALLOW  # CAP_SYS_CHROOT is a default capability
    assert answer(DEFAULT, "clone", 0x11) == ALLOW
    assert answer(DEFAULT, "clone", 0x10000000) == EPERM  # CLONE_NEWUSER
    assert answer(DEFAULT, "clone3") == NOSYS
    assert answer(DEFAULT, "personality", 8) == ALLOW
    assert answer(DEFAULT, "personality", 0x0040000) == EPERM  # ADDR_NO_RANDOMIZE
    assert answer(DEFAULT, "io_uring_setup") == EPERM
    assert answer(DEFAULT, "ptrace") == ALLOW
    assert answer(default_seccomp("x86_64", (), (4, 4)), "ptrace") == EPERM
    assert answer(default_seccomp("x86_64", ("CAP_SYS_ADMIN",), (6, 1)), "mount") == ALLOW
    assert answer(default_seccomp("x86_64", ("CAP_SYS_ADMIN",), (6, 1)), "clone3") == ALLOW


@pytest.mark.parametrize(
    ("family", "allowed"), [(1, True), (2, True), (10, True), (11, True), (16, True), (17, True), (44, True)]
    + [(0, True), (12, False), (38, False), (40, False), (46, False), ((1 << 32) + 40, False), ((1 << 32) + 2, False)],
)  # fmt: skip
def test_address_families(family: int, allowed: bool) -> None:
    assert answer(DEFAULT, "socket", family) == (ALLOW if allowed else EPERM)


def test_calls_newer_than_the_profile_are_not_implemented() -> None:
    newest = max(NUMBERS[n] for r in DEFAULT.syscalls for n in r.names if n in NUMBERS)
    run = machine(DEFAULT).run
    assert run(X86_64, newest + 1) == NOSYS
    assert run(X86_64, 0x3FFFFFFF) == NOSYS
    assert run(X86_64, X32_BIT + 560) == NOSYS
    assert run(X86_64, 0xFFFFFFFF) == EPERM  # a tracer has cancelled it


@pytest.mark.parametrize(
    ("default", "errno", "expected"),
    [
        ("SCMP_ACT_ALLOW", None, ALLOW),
        ("SCMP_ACT_LOG", None, ACTIONS["SCMP_ACT_LOG"]),
        ("SCMP_ACT_KILL_PROCESS", None, NOSYS),
        ("SCMP_ACT_ERRNO", ENOSYS, NOSYS),
        ("SCMP_ACT_ERRNO", 13, NOSYS),
        ("SCMP_ACT_TRACE", 7, RET_TRACE | 7),
    ],
)
def test_new_calls_by_default_action(default: str, errno: int | None, expected: int) -> None:
    of = profile(rule("read", action="SCMP_ACT_TRAP"), default=default, errno=errno)
    assert machine(of).run(X86_64, 400) == expected


def test_another_architecture_is_killed() -> None:
    assert machine(DEFAULT).run(ARCHITECTURES["SCMP_ARCH_AARCH64"].audit, 0) == KILL_THREAD
    native_only = DEFAULT._replace(architectures=("SCMP_ARCH_X86_64",))
    assert machine(native_only).run(ARCHITECTURES["SCMP_ARCH_X86"].audit, 3) == KILL_THREAD
    assert machine(native_only).run(X86_64, X32_BIT) == KILL_THREAD
    assert machine(DEFAULT).run(ARCHITECTURES["SCMP_ARCH_X86"].audit, 3) == ALLOW
    assert machine(DEFAULT).run(X86_64, X32_BIT) == ALLOW


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_tables_ascend(architecture: str) -> None:
    numbers = list(_table(ARCHITECTURES[architecture].table).values())
    assert numbers == sorted(numbers)
    assert len(set(numbers)) > 300


def test_every_family_compiles() -> None:
    for arch in FAMILIES:
        of = default_seccomp(arch, defaults.CAPABILITIES, (6, 12))
        assert machine(of, arch).run(ARCHITECTURES[FAMILIES[arch][0]].audit, 0xFFFF) == NOSYS


EDGES = sorted(
    {
        n + d
        for n in (0, 5, 1 << 31, (1 << 32) - 1, 1 << 32, (1 << 32) + 5, (5 << 32) + 7, 1 << 63)
        for d in (-1, 0, 1)
    }
)
VALUES = st.sampled_from([n for n in EDGES if n >= 0] + [(1 << 64) - 1]) | st.integers(0, (1 << 64) - 1)
MEANING = {
    "SCMP_CMP_EQ": lambda a, v, w: a == v, "SCMP_CMP_NE": lambda a, v, w: a != v, "SCMP_CMP_LT": lambda a, v, w: a < v,
    "SCMP_CMP_LE": lambda a, v, w: a <= v, "SCMP_CMP_GT": lambda a, v, w: a > v, "SCMP_CMP_GE": lambda a, v, w: a >= v,
    "SCMP_CMP_MASKED_EQ": lambda a, v, w: a & v == w & v,
}  # fmt: skip
ARGS = st.builds(SeccompArg, st.integers(0, 5), VALUES, st.sampled_from(sorted(MEANING)), VALUES)


@given(
    st.lists(ARGS, min_size=1, max_size=6, unique_by=lambda a: a[0]), st.lists(VALUES, min_size=6, max_size=6)
)
def test_all_conditions_of_a_rule_must_hold(conditions: list[SeccompArg], args: list[int]) -> None:
    holds = all(MEANING[c.op](args[c.index], c.value, c.value_two) for c in conditions)
    of = profile(rule("read", *conditions))
    assert machine(of).run(X86_64, NUMBERS["read"], args) == (ALLOW if holds else EPERM)


@given(st.lists(ARGS, min_size=1, max_size=8), st.lists(VALUES, min_size=6, max_size=6))
def test_several_rules_for_one_call_are_alternatives(conditions: list[SeccompArg], args: list[int]) -> None:
    holds = any(MEANING[c.op](args[c.index], c.value, c.value_two) for c in conditions)
    of = profile(*(rule("read", c) for c in conditions))
    assert machine(of).run(X86_64, NUMBERS["read"], args) == (ALLOW if holds else EPERM)


@given(st.lists(st.sampled_from(EDGES[1:]), min_size=3, max_size=30), VALUES)
def test_many_values_of_one_argument(values: list[int], arg: int) -> None:
    of = profile(*(rule("read", SeccompArg(2, v, "SCMP_CMP_EQ")) for v in values))
    assert machine(of).run(X86_64, 0, (0, 0, arg, 0, 0, 0)) == (ALLOW if arg in values else EPERM)


def test_two_conditions_on_one_argument_are_alternatives() -> None:
    of = profile(rule("read", SeccompArg(0, 1, "SCMP_CMP_EQ"), SeccompArg(0, 3, "SCMP_CMP_EQ")))
    assert [answer(of, "read", n) == ALLOW for n in (1, 2, 3)] == [True, False, True]


def test_a_rule_without_conditions_beats_those_with() -> None:
    tested = rule("read", SeccompArg(0, 1, "SCMP_CMP_EQ"), action="SCMP_ACT_KILL")
    assert answer(profile(tested, rule("read")), "read", 1) == ALLOW
    assert answer(profile(rule("read"), rule("read", action="SCMP_ACT_TRAP")), "read") == ALLOW


def test_a_rule_with_the_default_action_changes_nothing() -> None:
    assert answer(profile(rule("read", action="SCMP_ACT_ERRNO", errno=1), rule("read")), "read") == ALLOW


@given(
    st.sets(st.sampled_from(sorted(NUMBERS)), max_size=40),
    st.sets(st.sampled_from(sorted(NUMBERS)), max_size=40),
)
def test_search_finds_every_number(allowed: set[str], trapped: set[str]) -> None:
    of = profile(
        *(rule(n) for n in sorted(allowed)),
        *(rule(n, action="SCMP_ACT_TRAP") for n in sorted(trapped - allowed)),
    )
    run = machine(of).run
    newest = max((NUMBERS[n] for n in allowed | trapped), default=-1)
    for name, number in NUMBERS.items():
        want = ALLOW if name in allowed else ACTIONS["SCMP_ACT_TRAP"] if name in trapped else None
        assert run(X86_64, number) == (want or (EPERM if number <= newest else NOSYS))


def test_old_ways_to_make_a_call() -> None:
    """On x86 `socket` is also `socketcall(1, …)`, whose further arguments lie in memory, where no filter sees them."""
    x86 = ARCHITECTURES["SCMP_ARCH_X86"].audit
    socketcall, first = 102, SeccompArg(0, 2, "SCMP_CMP_EQ")

    def call(of: Seccomp, which: int) -> int:
        return machine(of._replace(architectures=("SCMP_ARCH_X86",))).run(
            x86, socketcall, (which, 0, 0, 0, 0, 0)
        )

    assert [call(profile(rule("socket")), n) for n in (1, 2)] == [ALLOW, EPERM]
    # What is allowed on conditions is not allowed where they cannot be tested; what is denied on conditions is denied.
    assert call(profile(rule("socket", first), rule("close")), 1) == EPERM
    denied = profile(rule("socket", first, action="SCMP_ACT_ERRNO"), default="SCMP_ACT_ALLOW")
    assert [call(denied, n) for n in (1, 2)] == [EPERM, ALLOW]
    assert call(profile(rule("socketcall")), 3) == ALLOW
    assert (
        machine(profile(rule("shmget"))._replace(architectures=("SCMP_ARCH_X86",))).run(x86, 117, (23,) * 6)
        == ALLOW
    )


# ---- the usual filter, kept compiled

USUAL = Path(knarr.plan.seccomp_default.__file__).with_name("seccomp_usual")


@pytest.mark.parametrize("arch", ["x86_64", "aarch64"])
def test_the_kept_filter_is_what_the_compiler_makes(arch: str) -> None:
    """After a change of the profile or the compiler: KNARR_GOLDEN=write pytest tests/unit/plan/test_seccomp.py"""
    usual = default_seccomp(arch, defaults.CAPABILITIES, (6, 12))
    want = compile_filter(usual, arch).hex()
    if os.environ.get("KNARR_GOLDEN") == "write":
        lines = "\n".join(f'    "{want[i : i + 104]}"' for i in range(0, len(want), 104))
        head = f'"""The default seccomp profile compiled for {arch}, written by tests/unit/plan/test_seccomp.py."""'
        (USUAL / f"{arch}.py").write_text(
            f"{head}\n\nfrom __future__ import annotations\n\nFILTER = (\n{lines}\n)\n"
        )
        pytest.skip("written")
    assert usual_filter(usual, arch) == want
    assert usual_filter(default_seccomp(arch, ("CAP_SYS_ADMIN",), (6, 12)), arch) == ""


def test_what_is_kept_has_the_flags_of_a_profile_without_any() -> None:
    assert filter_flags(DEFAULT) == SPEC_ALLOW


# ---- faults and flags


@pytest.mark.parametrize(
    ("of", "field"),
    [
        (profile(rule("read", action="ALLOW")), "syscalls[0].action"),
        (profile(rule("read", errno=3)), "syscalls[0].errnoRet"),
        (profile(rule("read", action="SCMP_ACT_TRACE", errno=1 << 16)), "syscalls[0].errnoRet"),
        (profile(SyscallRule((), "SCMP_ACT_ALLOW")), "syscalls[0].names"),
        (profile(rule("read", SeccompArg(6, 0, "SCMP_CMP_EQ"))), "syscalls[0].args[0].index"),
        (profile(rule("read", SeccompArg(0, 0, "EQ"))), "syscalls[0].args[0].op"),
        (profile(rule("read", SeccompArg(0, 1 << 64, "SCMP_CMP_EQ"))), "syscalls[0].args[0].value"),
        (profile(default="SCMP_ACT_NOTIFY"), "defaultAction"),
        (profile()._replace(architectures=("SCMP_ARCH_PDP11",)), "architectures[0]"),
    ],
)
def test_faults_name_the_field(of: Seccomp, field: str) -> None:
    with pytest.raises(UsageError) as caught:
        compile_filter(of, "x86_64")
    assert str(caught.value).startswith(f"linux.seccomp.{field}: ")


def test_what_this_machine_does_not_know_is_passed_over() -> None:
    of = profile(rule("no_such_call"), rule("read"))._replace(
        architectures=("SCMP_ARCH_MIPS", "SCMP_ARCH_ARM")
    )
    assert answer(of, "read") == ALLOW
    with pytest.raises(UsageError, match="cannot compile filters for pdp11"):
        compile_filter(of, "pdp11")


def test_a_profile_can_be_too_long() -> None:
    many = [rule(n, *(SeccompArg(i, NUMBERS[n], "SCMP_CMP_NE") for i in range(6))) for n in sorted(NUMBERS)]
    with pytest.raises(UsageError, match="4096"):
        compile_filter(profile(*many), "x86_64")


def test_flags() -> None:
    assert filter_flags(profile()) == 4
    assert (
        filter_flags(profile()._replace(flags=("SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_TSYNC"))) == 3
    )
    with pytest.raises(UsageError, match=r"flags\[0\]"):
        filter_flags(profile()._replace(flags=("X",)))
    notify = profile(rule("mount", action="SCMP_ACT_NOTIFY"))
    with pytest.raises(UsageError, match="listenerPath"):
        filter_flags(notify)
    assert filter_flags(notify._replace(listener_path="/s")) == 12


def test_jumps_stay_within_their_eight_bits_and_the_program() -> None:
    code = machine(DEFAULT).code
    for at, (opcode, true, false, k) in enumerate(code):
        farthest = at + 1 + (k if opcode == 0x05 else max(true, false))
        assert opcode in (0x06, 0x20, 0x54) or farthest < len(code)


# ---- against libseccomp

LIBRARY = ctypes.util.find_library("seccomp")
NAMES = {
    "x86_64": ("x86_64", "x86", "x32"),
    "aarch64": ("aarch64", "arm"),
    "riscv64": ("riscv64",),
    "ppc64le": ("ppc64le",),
}
OPS = {f"SCMP_CMP_{name}": i for i, name in enumerate(("NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"), 1)}


class Compared(ctypes.Structure):
    """struct scmp_arg_cmp"""

    _fields_ = (("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64))


class Reference:
    """libseccomp, driven as runc drives it."""

    def __init__(self) -> None:
        self.lib = ctypes.CDLL(LIBRARY)
        self.lib.seccomp_init.restype = ctypes.c_void_p
        pointer, number = ctypes.c_void_p, ctypes.c_uint32
        for name, types in {
            "seccomp_init": (number,), "seccomp_release": (pointer,), "seccomp_arch_add": (pointer, number),
            "seccomp_arch_remove": (pointer, number), "seccomp_arch_resolve_name": (ctypes.c_char_p,),
            "seccomp_syscall_resolve_name": (ctypes.c_char_p,), "seccomp_export_bpf": (pointer, ctypes.c_int),
            "seccomp_rule_add_array": (pointer, number, ctypes.c_int, ctypes.c_uint, pointer),
        }.items():  # fmt: skip
            getattr(self.lib, name).argtypes = types
        self.lib.seccomp_arch_resolve_name.restype = number

    def known(self, name: str) -> bool:
        return bool(self.lib.seccomp_syscall_resolve_name(name.encode()) != -1)

    def compile(self, of: Seccomp, architectures: Sequence[str]) -> bytes:
        default = value(of.default_action, of.default_errno_ret)
        context = self.lib.seccomp_init(default)
        self.lib.seccomp_arch_remove(context, self.lib.seccomp_arch_resolve_name(b"x86_64"))
        for name in architectures:
            assert self.lib.seccomp_arch_add(context, self.lib.seccomp_arch_resolve_name(name.encode())) == 0
        for rule in of.syscalls:
            action = value(rule.action, rule.errno_ret)
            for name in rule.names if action != default else ():
                self.add(context, action, name, rule.args)
        fd = os.memfd_create("filter")
        assert self.lib.seccomp_export_bpf(context, fd) == 0
        self.lib.seccomp_release(context)
        with open(fd, "rb") as file:
            file.seek(0)
            return file.read()

    def add(self, context: int, action: int, name: str, args: Sequence[SeccompArg]) -> None:
        number = self.lib.seccomp_syscall_resolve_name(name.encode())
        if number == -1:
            return
        together = [args] if len({a.index for a in args}) == len(args) else [(a,) for a in args]
        for group in together:
            compared = (Compared * max(1, len(group)))(
                *((a.index, OPS[a.op], a.value, a.value_two) for a in group)
            )
            self.lib.seccomp_rule_add_array(context, action, number, len(group), compared)


def value(action: str, errno: int | None) -> int:
    number = ACTIONS[action]
    return number | (1 if errno is None else errno) if number in (RET_ERRNO, RET_TRACE) else number


@pytest.fixture(scope="module")
def reference() -> Reference:
    if not LIBRARY:
        pytest.skip("libseccomp is not installed")
    return Reference()


def differences(
    ours: Machine, theirs: Machine, arch: str, args: Sequence[Sequence[int]], numbers: Sequence[int]
) -> list[str]:
    out = []
    for name in NAMES[arch]:
        audit = ARCHITECTURES[f"SCMP_ARCH_{name.upper()}"].audit
        offset = X32_BIT if name == "x32" else 0
        for number in numbers:
            for given_args in args:
                ours_says, theirs_says = (
                    ours.run(audit, offset + number, given_args),
                    theirs.run(audit, offset + number, given_args),
                )
                if ours_says != theirs_says and ours_says != NOSYS:
                    out.append(f"{name} {number} {given_args}: {ours_says:#x}, libseccomp {theirs_says:#x}")
    return out


@pytest.mark.parametrize("arch", sorted(NAMES))
def test_the_default_profile_is_as_libseccomp_compiles_it(reference: Reference, arch: str) -> None:
    whole = default_seccomp(arch, defaults.CAPABILITIES, (6, 12))
    # What this library is too old to know, it cannot be asked about.
    known = tuple(r._replace(names=tuple(n for n in r.names if reference.known(n))) for r in whole.syscalls)
    of = whole._replace(syscalls=tuple(r for r in known if r.names))
    args = [(n,) * 6 for n in (0, 1, 8, 12, 16, 38, 40, 0x11, 0x20008, 0x7E020000, (1 << 32) - 1)]
    numbers = [*range(460), *range(512, 550), 0xF0002, 0xF0005]
    ours, theirs = machine(of, arch), Machine(reference.compile(of, NAMES[arch]))
    assert [
        d for d in differences(ours, theirs, arch, args, numbers) if d.split()[:2] != ["x32", "453"]
    ] == []


CALLS = st.sampled_from(
    ["read", "socket", "shmget", "openat", "clone", "futex_time64", "execve", "ioctl", "accept4"]
)
RULES = st.lists(
    st.builds(
        SyscallRule,
        st.tuples(CALLS),
        st.just("SCMP_ACT_ALLOW"),
        st.none(),
        st.lists(ARGS, max_size=3, unique_by=lambda a: a[0]).map(tuple),
    ),
    min_size=1,
    max_size=6,
    unique_by=lambda rule: (
        rule.names
    ),  # libseccomp 2.5 merges alternatives like `== 0` and `>= 1 << 32` wrongly
)
# libseccomp 2.5 forgets to load the call's number where no call of an architecture is allowed without conditions.
ALWAYS = SyscallRule(("close", "dup"), "SCMP_ACT_ALLOW")


@settings(max_examples=60, deadline=None)
@given(RULES, st.lists(st.lists(VALUES, min_size=6, max_size=6), min_size=1, max_size=4))
def test_any_profile_is_as_libseccomp_compiles_it(
    reference: Reference, rules: list[SyscallRule], args: list[list[int]]
) -> None:
    of = Seccomp(
        "SCMP_ACT_ERRNO",
        None,
        ("SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"),
        syscalls=(ALWAYS, *rules),
    )
    theirs = Machine(reference.compile(of, NAMES["x86_64"]))
    probes = [*args, *([a.value, a.value, a.value, a.value, a.value, a.value] for r in rules for a in r.args)]
    numbers = sorted({0, 3, 41, 29, 257, 56, 59, 11, 520, 514, 16, 54, 288, 295, 359, 364, 395, 120, 422})
    assert differences(machine(of), theirs, "x86_64", probes, numbers) == []
