"""The device rules of a cgroup v2 as an eBPF program (BPF_PROG_TYPE_CGROUP_DEVICE; kernel: samples of bpf(2)).

The kernel asks the program for each open and each mknod of a device node; it answers 1 (yes) or 0 (no).
The last rule that speaks about a device decides, as in v1's lists, so rules are tested from the last to the first:

    r2 = type (1 block, 2 char)   r3 = access asked (1 mknod, 2 read, 4 write)   r4 = major   r5 = minor
    per rule: if it does not apply, go on; else answer
    at the end: answer no

An access of several kinds at once is allowed by one rule that allows all of them, denied by one that denies any.
"""

from __future__ import annotations

from struct import Struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from knarr.oci.spec import DeviceRule

# linux/bpf.h struct bpf_insn: code, registers (dst | src << 4), off, imm
_pack = Struct("<BBhi").pack
LDX_W, MOV_X, MOV_K, AND_K, RSH_K, JNE_K, JEQ_K, EXIT = 0x61, 0xBC, 0xB7, 0x54, 0x74, 0x55, 0x15, 0x95
BLOCK, CHAR = 1, 2
MKNOD, READ, WRITE = 1, 2, 4
BITS = {"m": MKNOD, "r": READ, "w": WRITE}
ALL = MKNOD | READ | WRITE


def assemble(rules: Sequence[DeviceRule]) -> bytes:
    """An array of `struct bpf_insn` for `bpf(BPF_PROG_LOAD)`, little endian."""
    # struct bpf_cgroup_dev_ctx { u32 access_type; /* access << 16 | type */ u32 major; u32 minor; }
    program = b"".join(
        (
            _instruction(LDX_W, 2, 1, 0),
            _instruction(AND_K, 2, imm=0xFFFF),
            _instruction(LDX_W, 3, 1, 0),
            _instruction(RSH_K, 3, imm=16),
            _instruction(LDX_W, 4, 1, 4),
            _instruction(LDX_W, 5, 1, 8),
        )
    )
    for rule in reversed(rules):
        program += _rule(rule)
        if _is_everything(rule):
            return program  # what comes before it can never be asked
    return program + _answer(False)


def _rule(rule: DeviceRule) -> bytes:
    access = 0
    for letter in rule.access:
        access |= BITS[letter]
    tests: list[tuple[int, int, int]] = []  # (register, opcode that means "does not apply", value)
    if rule.type != "a":
        tests.append((2, JNE_K, BLOCK if rule.type == "b" else CHAR))
        if rule.major is not None and rule.major >= 0:
            tests.append((4, JNE_K, rule.major))
        if rule.minor is not None and rule.minor >= 0:
            tests.append((5, JNE_K, rule.minor))
    answer = _answer(rule.allow)
    code = answer
    if access != ALL:
        # r1 is free once the context is read. To allow, nothing is asked beyond the rule; to deny, something of it.
        mask, skip = (ALL & ~access, JNE_K) if rule.allow else (access, JEQ_K)
        head = _instruction(MOV_X, 1, 3) + _instruction(AND_K, 1, imm=mask)
        code = head + _instruction(skip, 1, off=len(answer) // 8, imm=0) + answer
    for register, opcode, value in reversed(tests):
        code = _instruction(opcode, register, off=len(code) // 8, imm=value) + code
    return code


def _is_everything(rule: DeviceRule) -> bool:
    return rule.type == "a" and set(rule.access) == set(BITS)


def _answer(allow: bool) -> bytes:
    return _instruction(MOV_K, 0, imm=int(allow)) + _instruction(EXIT)


def _instruction(code: int, dst: int = 0, src: int = 0, off: int = 0, imm: int = 0) -> bytes:
    return _pack(code, dst | src << 4, off, imm)
