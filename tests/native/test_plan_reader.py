"""The reader of plans refuses what is no plan: exit code 125, one message, nothing executed, no crash."""

from __future__ import annotations

import random
import subprocess

import pytest

from knarr.plan.step import Step, to_wire
from native.plans import Native, step

GOOD = [
    step("rlimit", "core", 0, 0, optional=True),
    step("env", "PATH=/bin:/usr/bin", "A=b"),
    step("exec", "true"),
]
WIRE = to_wire(GOOD)
# Operations with counts, lists, numbers of slots and documents in their arguments.
INTRICATE = [
    step("affinity", "0-0"),
    step("mempolicy", 4, ""),
    step("write-first", "/dev/nowhere", 1, "/dev/null", 2),
    step("write-both", "/dev/null", 1, "/dev/null", 2),
    step("open-tree", 3, "/usr", "auto,source-link", 0, "0x40000", optional=True),
    step("open-node", 1023, "c", 1, 3, 666, 0, 0, optional=True),
    step("env", "PATH=/bin:/usr/bin"),
    step("find-command", "true"),
    step("hook", "/bin/true", 5, "/", '{"pid":', "}", 2, "A=b", "C=d", "true", "x"),
    step("hook", "/bin/true", 0, "", "", "", "-"),
    step("seccomp", "0x8", "ffff", '{"pid":', ',"state":', "}", optional=True),
    step("exec", "true"),
]


def wire(*fields: str) -> bytes:
    return "".join(f"{field}\0" for field in fields).encode()


@pytest.mark.parametrize("plan", [GOOD, INTRICATE], ids=["good", "intricate"])
def test_executes_a_good_plan(native: Native, plan: list[Step]) -> None:
    assert native.init(plan).code == 0


@pytest.mark.parametrize(
    ("plan", "complaint"),
    [
        (b"", "not a file of 1 byte"),
        (b"\0", "not a plan"),
        (wire("something", "1", "0"), "not a plan"),
        (wire("knarr-plan", "2", "0"), "version 2"),
        (wire("knarr-plan", "1"), "cut off"),
        (wire("knarr-plan", "1", "x"), "not one"),
        (wire("knarr-plan", "1", "-1"), "not one"),
        (wire("knarr-plan", "1", "99999999999999999999"), "not one"),
        (wire("knarr-plan", "1", "1000000"), "cut off"),
        (wire("knarr-plan", "1", "1", "exec", "", "o", "9", "true"), "cut off"),
        (wire("knarr-plan", "1", "1", "exec", "", "o", "1000000", "true"), "cut off"),
        (wire("knarr-plan", "1", "1", "exec", "!", "o", "1", "true"), "flags"),
        (wire("knarr-plan", "1", "1", "explode", "", "o", "0"), "unknown operation explode"),
        (wire("knarr-plan", "1", "1", "exec", "", "o", "0"), "arguments"),
        (wire("knarr-plan", "1", "1", "pivot", "", "o", "1", "x"), "arguments"),
        (WIRE[:-1], "cut off"),
        (WIRE + b"more\0", "follows"),
        (to_wire([step("enter")]), "cannot stand here"),
        (to_wire([step("clone", "")]), "no enter"),
        (to_wire([step("clone", ""), step("exec", "true"), step("enter")]), "cannot stand here"),
        (to_wire([step("clone", ""), step("enter"), step("clone", ""), step("enter")]), "cannot stand here"),
    ],
)
def test_refuses(native: Native, plan: bytes, complaint: str) -> None:
    outcome = native.init(plan)
    assert outcome.code == 125
    assert len(outcome.reports) == 1 and outcome.reports[0].startswith("fail "), outcome
    assert complaint in outcome.reports[0]


def test_names_the_bad_step(native: Native) -> None:
    outcome = native.init(to_wire([step("new-session"), step("new-session", "x")]))
    assert outcome.reports == ["fail 1 22 new-session has 1 arguments"]


def test_refuses_a_descriptor_that_is_no_file(native: Native) -> None:
    result = subprocess.run(
        [native.path, "init", "0"], stdin=subprocess.DEVNULL, capture_output=True, text=True, env=native.env
    )
    assert (result.returncode, "not a file" in result.stderr) == (125, True)
    assert subprocess.run([native.path, "init", "77"], capture_output=True, env=native.env).returncode == 125


def mutated(random_: random.Random, data: bytes) -> bytes:
    """A few bytes changed, removed, doubled, cut off."""
    changed = bytearray(data)
    for _ in range(random_.randint(1, 4)):
        at = random_.randrange(len(changed)) if changed else 0
        match random_.randrange(5):
            case 0 if changed:
                changed[at] = random_.randrange(256)
            case 1 if changed:
                del changed[at : at + random_.randint(1, 8)]
            case 2:
                changed[at:at] = changed[at : at + random_.randint(1, 8)]
            case 3:
                del changed[at:]
            case _:
                changed[at:at] = b"\0" * random_.randint(1, 3)
    return bytes(changed)


@pytest.mark.parametrize("seed", range(16))
def test_no_mutation_crashes_it(native: Native, seed: int) -> None:
    """A mutation is refused, or it is still a plan, whose worst is a program that is not there."""
    random_ = random.Random(seed)
    for i in range(16):
        plan = mutated(random_, to_wire(INTRICATE) if i % 2 else WIRE)
        outcome = native.init(plan)
        assert outcome.code in (0, 125), (plan, outcome)
        if outcome.code == 125:
            assert outcome.reports and outcome.reports[-1].startswith("fail "), (plan, outcome)
