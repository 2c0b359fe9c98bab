"""Classic BPF for seccomp: a search tree over call numbers, and tests of arguments (linux/filter.h, seccomp(2)).

Every piece of code here is the bytes of whole `struct sock_filter`s that end in an answer, so that pieces can be put
one after the other; jumps go forward and stay inside their piece.
"""

from __future__ import annotations

from struct import Struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from knarr.oci.spec import SeccompArg

    Leaf = int | bytes  # an answer (SECCOMP_RET_*), or code that ends in one
    Rule = tuple[Sequence[SeccompArg], int]  # all arguments match: that answer
    Test = list[tuple[int, int | str, int | str, int]]  # opcode, if true, if false, operand
    Operator = Callable[[SeccompArg, bool], Test]

# linux/bpf_common.h, as 16-bit opcodes
LD_WORD, AND, JA, JEQ, JGT, JGE, RET = 0x20, 0x54, 0x05, 0x15, 0x25, 0x35, 0x06
NR_OFFSET, ARCH_OFFSET, ARGS_OFFSET = 0, 4, 16  # struct seccomp_data
INSTRUCTION = 8  # bytes
LONGEST = 4096  # instructions, BPF_MAXINSNS
FARTHEST = 255  # a conditional jump has eight bits
HIGH, LOW = 1, 0  # operand of LD_WORD in a Test: which half of the argument


class Writer:
    """Instructions as bytes, in one byte order."""

    def __init__(self, big_endian: bool) -> None:
        self.pack = Struct(">HBBI" if big_endian else "<HBBI").pack
        self.high = 0 if big_endian else 4
        self.low = 4 - self.high

    def load(self, offset: int) -> bytes:
        return self.pack(LD_WORD, 0, 0, offset)

    def ret(self, answer: int) -> bytes:
        return self.pack(RET, 0, 0, answer)

    def unless_equal_skip(self, value: int, code: bytes) -> bytes:
        count = len(code) // INSTRUCTION
        if count <= FARTHEST:
            return self.pack(JEQ, 0, count, value) + code
        return self.pack(JEQ, 1, 0, value) + self.pack(JA, 0, 0, count) + code

    def search(self, ranges: Sequence[tuple[int, Leaf]]) -> bytes:
        """Binary search: about seven comparisons for four hundred calls."""
        pack = self.pack

        def part(low: int, high: int) -> bytes:
            if high - low == 1:
                leaf = ranges[low][1]
                return pack(RET, 0, 0, leaf) if isinstance(leaf, int) else leaf
            middle = (low + high) // 2
            left, right = part(low, middle), part(middle, high)
            count = len(left) // INSTRUCTION
            if count <= FARTHEST:
                return pack(JGE, count, 0, ranges[middle][0]) + left + right
            return pack(JGE, 0, 1, ranges[middle][0]) + pack(JA, 0, 0, count) + left + right

        return part(0, len(ranges))

    def tests(self, rules: Sequence[Rule], default: int, narrow: bool) -> bytes:
        """The first rule whose arguments all match gives the answer. `narrow`: arguments are 32 bits wide."""
        if len(rules) > 2 and _one_of(rules):
            return self._one_of(rules, default, narrow)
        return b"".join(self._rule(args, answer, narrow) for args, answer in rules) + self.ret(default)

    def _rule(self, args: Sequence[SeccompArg], answer: int, narrow: bool) -> bytes:
        code: list[tuple[int, int | str, int | str, int]] = []
        for arg in args:
            test = OPERATORS[arg.op](arg, narrow)
            end = len(code) + len(test)
            for opcode, true, false, value in test:
                if opcode == LD_WORD:
                    value = ARGS_OFFSET + 8 * arg.index + (self.high if value else self.low)
                # A test that is decided early goes on after its own end.
                code.append(
                    (opcode, end if true == "pass" else true, end if false == "pass" else false, value)
                )
        fail = len(code) + 1  # after this rule's answer
        out = []
        for at, (opcode, true, false, value) in enumerate(code):
            jumps = opcode in (JEQ, JGT, JGE)
            out.append(
                self.pack(
                    opcode,
                    _offset(true, fail, at) if jumps else 0,
                    _offset(false, fail, at) if jumps else 0,
                    value,
                )
            )
        return b"".join(out) + self.ret(answer)

    def _one_of(self, rules: Sequence[Rule], default: int, narrow: bool) -> bytes:
        """Many values of one argument with one answer (families of `socket`): it is loaded once."""
        at = ARGS_OFFSET + 8 * rules[0][0][0].index
        count = len(rules)
        out = []
        if not narrow:
            out = [self.load(at + self.high), self.pack(JEQ, 0, count + 1, 0)]
        out.append(self.load(at + self.low))
        for i, (args, _) in enumerate(rules):
            less = args[0].op == "SCMP_CMP_LT"
            to_answer = count - i  # over the tests that follow and the default
            true, false = (0, to_answer) if less else (to_answer, 0)
            out.append(self.pack(JGE if less else JEQ, true, false, args[0].value))
        return b"".join(out) + self.ret(default) + self.ret(rules[0][1])


def _offset(to: int | str, fail: int, at: int) -> int:
    """A jump counts from the instruction after it. 0 and "next" both are that one."""
    if to == "fail":
        return fail - at - 1
    return to - at - 1 if isinstance(to, int) and to else 0


def _one_of(rules: Sequence[Rule]) -> bool:
    first, answer = rules[0][0][0], rules[0][1]
    return len(rules) < 250 and all(
        len(args) == 1
        and args[0].index == first.index
        and args[0].op in ("SCMP_CMP_EQ", "SCMP_CMP_LT")
        and args[0].value < 1 << 32
        and given == answer
        for args, given in rules
    )


def _halves(value: int) -> tuple[int, int]:
    return value >> 32, value & 0xFFFFFFFF


def _equal(arg: SeccompArg, narrow: bool) -> Test:
    high, low = _halves(arg.value)
    test: Test = [(LD_WORD, 0, 0, LOW), (JEQ, 0, "fail", low)]
    return test if narrow else [(LD_WORD, 0, 0, HIGH), (JEQ, 0, "fail", high), *test]


def _not_equal(arg: SeccompArg, narrow: bool) -> Test:
    high, low = _halves(arg.value)
    test: Test = [(LD_WORD, 0, 0, LOW), (JEQ, "fail", 0, low)]
    return test if narrow else [(LD_WORD, 0, 0, HIGH), (JEQ, 0, "pass", high), *test]


def _above(jump: int) -> Operator:
    """Greater (JGT), or greater or equal (JGE)."""

    def test(arg: SeccompArg, narrow: bool) -> Test:
        high, low = _halves(arg.value)
        last: Test = [(LD_WORD, 0, 0, LOW), (jump, 0, "fail", low)]
        if narrow:
            return last
        return [(LD_WORD, 0, 0, HIGH), (JGT, "pass", 0, high), (JEQ, 0, "fail", high), *last]

    return test


def _below(jump: int) -> Operator:
    """Less (not JGE), or less or equal (not JGT)."""

    def test(arg: SeccompArg, narrow: bool) -> Test:
        high, low = _halves(arg.value)
        last: Test = [(LD_WORD, 0, 0, LOW), (jump, "fail", 0, low)]
        if narrow:
            return last
        return [(LD_WORD, 0, 0, HIGH), (JGT, "fail", 0, high), (JEQ, 0, "pass", high), *last]

    return test


def _masked(arg: SeccompArg, narrow: bool) -> Test:
    """`value` is the mask, `valueTwo` what must be left (config-linux.md)."""
    mask_high, mask_low = _halves(arg.value)
    high, low = _halves(arg.value_two & arg.value)
    test: Test = [(LD_WORD, 0, 0, LOW), (AND, 0, 0, mask_low), (JEQ, 0, "fail", low)]
    if narrow or not mask_high:
        return test
    return [(LD_WORD, 0, 0, HIGH), (AND, 0, 0, mask_high), (JEQ, 0, "fail", high), *test]


OPERATORS: dict[str, Operator] = {
    "SCMP_CMP_EQ": _equal,
    "SCMP_CMP_NE": _not_equal,
    "SCMP_CMP_GT": _above(JGT),
    "SCMP_CMP_GE": _above(JGE),
    "SCMP_CMP_LT": _below(JGE),
    "SCMP_CMP_LE": _below(JGT),
    "SCMP_CMP_MASKED_EQ": _masked,
}
