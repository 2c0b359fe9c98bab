"""The device program, run by an interpreter of the few eBPF instructions that it is made of."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knarr.oci.spec import DeviceRule
from knarr.plan import defaults
from knarr.plan.bpf_devices import ALL, BITS, BLOCK, CHAR, MKNOD, READ, WRITE, assemble


def ask(program: bytes, kind: int, access: int, major: int, minor: int) -> bool:
    """What the kernel would be told about an access to a device."""
    context = struct.pack("<III", access << 16 | kind, major, minor)
    registers = [0] * 10
    code = list(struct.iter_unpack("<BBhi", program))
    at = 0
    while True:
        opcode, regs, offset, value = code[at]
        dst, src = regs & 15, regs >> 4
        at += 1
        match opcode:
            case 0x61:
                assert src == 1
                (registers[dst],) = struct.unpack_from("<I", context, offset)
            case 0xBC:
                registers[dst] = registers[src]
            case 0xB7:
                registers[dst] = value
            case 0x54:
                registers[dst] &= value
            case 0x74:
                registers[dst] >>= value
            case 0x55:
                at += offset if registers[dst] != value else 0
            case 0x15:
                at += offset if registers[dst] == value else 0
            case 0x95:
                return bool(registers[0])
            case _:
                raise AssertionError(hex(opcode))


def decide(rules: list[DeviceRule], kind: int, access: int, major: int, minor: int) -> bool:
    """The same, from the rules."""
    for rule in reversed(rules):
        bits = sum(BITS[letter] for letter in set(rule.access))
        if rule.type != "a":
            if kind != (BLOCK if rule.type == "b" else CHAR):
                continue
            if rule.major not in (None, -1, major) or rule.minor not in (None, -1, minor):
                continue
        if rule.allow and not access & ~bits:
            return True
        if not rule.allow and access & bits:
            return False
    return False


def test_defaults() -> None:
    program = assemble(defaults.DEVICE_RULES)
    assert ask(program, CHAR, READ | WRITE, 1, 3)
    assert ask(program, CHAR, READ | WRITE, 136, 7)
    assert ask(program, BLOCK, MKNOD, 8, 0)
    assert not ask(program, BLOCK, READ, 8, 0)
    assert not ask(program, CHAR, READ, 1, 1)  # /dev/mem
    assert not ask(program, BLOCK, READ, 1, 3)


def test_nothing_listed_is_nothing_allowed() -> None:
    assert not ask(assemble([]), CHAR, READ, 1, 3)


@pytest.mark.parametrize(("access", "allowed"), [(READ, True), (WRITE, False), (READ | WRITE, False)])
def test_part_of_an_access(access: int, allowed: bool) -> None:
    program = assemble([DeviceRule(False), DeviceRule(True, "b", 254, None, "r")])
    assert ask(program, BLOCK, access, 254, 0) is allowed


NUMBERS = st.sampled_from([0, 1, 3, 5, 254, (1 << 20) - 1])
ACCESS = st.sampled_from(["r", "w", "m", "rw", "rm", "wm", "rwm"])
RULE = st.one_of(
    st.builds(DeviceRule, st.booleans(), st.just("a"), st.none(), st.none(), ACCESS),
    st.builds(
        DeviceRule, st.booleans(), st.sampled_from("bc"), NUMBERS | st.none(), NUMBERS | st.just(-1), ACCESS
    ),
)


@given(st.lists(RULE, max_size=12), st.sampled_from([BLOCK, CHAR]), st.integers(1, ALL), NUMBERS, NUMBERS)
def test_the_last_rule_that_speaks_decides(
    rules: list[DeviceRule], kind: int, access: int, major: int, minor: int
) -> None:
    assert ask(assemble(rules), kind, access, major, minor) is decide(rules, kind, access, major, minor)
