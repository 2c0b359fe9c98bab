"""Plans of all operations with any arguments: the executor refuses, fails or goes on, and never breaks.

They are executed for real, by a user who has no rights and no processes but these, with sanitizers. Every step is
optional, so that one that fails does not keep those behind it from being tried.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from knarr.plan.step import Step, to_wire
from native.plans import Native, step

pytestmark = pytest.mark.requires("root", "userns")

# These wait for somebody; what ends the plan is put there by the test; then what would take memory from the sanitizer;
# the last walks all that is below a path, however much that is.
NOT_TRIED = frozenset(("wait", "wait-fifo", "clone", "enter", "exec", "reap", "rlimit", "cgroup-kill"))
BROKEN_BY = (4, 6, 7, 8, 11)  # ILL ABRT BUS FPE SEGV
SANITIZER = 99

PATHS = [
    "",
    "/",
    ".",
    "..",
    "a",
    "dir/a",
    "dir/b/c",
    "/proc/self/fd/0",
    "../../x",
    "x" * 300,
    "d/" * 300,
    "true",
]
NUMBERS = [
    "-",
    "-1",
    "0",
    "1",
    "2",
    "7",
    "64",
    "4294967295",
    "4294967296",
    "0x0",
    "0x",
    "777",
    "7777777",
    "77777777",
]
HUGE = [
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "0x" + "f" * 16,
    "0x" + "f" * 17,
]
WORDS = [
    "mnt",
    "user,mnt",
    "mnt,,",
    ",",
    "bogus",
    "tmpfs",
    "proc",
    "overlay",
    "c",
    "b",
    "p",
    "u",
    "auto",
    "file,plain",
]
LISTS = [
    "size=1m",
    "a=b,c=d",
    "a\\,b=c",
    "\\",
    "=",
    "0-1",
    "0-",
    "1-0",
    "0-99999999",
    "0,1,2,",
    "0 0 1",
    "0 0 1,1 1 1",
]
OTHERS = [
    "@0",
    "@1023",
    "@1024",
    "net/ipv4/ip_forward",
    "uid_map",
    "00",
    "0g",
    "6" * 16,
    "06" * 300,
    "x" * 5000,
]
LOUD = ["é\x1b[31m", "%s%n", "/bin/true"]
TEXTS = st.sampled_from([*PATHS, *NUMBERS, *HUGE, *WORDS, *LISTS, *OTHERS, *LOUD]) | st.text(
    st.characters(min_codepoint=1, max_codepoint=0x10FF, exclude_categories=("Cs",)), max_size=12
)


def table(program: Path) -> dict[str, tuple[int, int, str]]:
    """name: (fewest, most, where) as the program says."""
    shown = subprocess.run([program, "ops"], capture_output=True, text=True, check=True).stdout
    rows = (line.split() for line in shown.splitlines())
    return {name: (int(least), 12 if most == "-" else int(most), where) for name, least, most, where in rows}


@st.composite
def plans(draw: Any, ops: dict[str, tuple[int, int, str]]) -> list[Step]:
    def part(place: str) -> list[Step]:
        names = sorted(name for name, op in ops.items() if place in op[2] and name not in NOT_TRIED)
        steps = []
        for name in draw(st.lists(st.sampled_from(names), max_size=6)):
            least, most, _ = ops[name]
            args = draw(st.lists(TEXTS, min_size=least, max_size=most))
            steps.append(step(name, *args, optional=True))
        return steps

    kinds = draw(st.sampled_from(["", "user,mnt", "user,mnt,pid,net,ipc,uts,cgroup"]))
    return [*part("S"), step("clone", kinds), *part("L"), step("enter"), *part("C"), step("exec", "true")]


@pytest.fixture
def somebody(native: Native, tmp_path: Path) -> Native:
    """Nobody else has this number, so that no signal reaches another's process."""
    native.user = 1_500_000 + os.getpid() % 100_000
    (tmp_path / "scratch/dir").mkdir(parents=True)
    for path in (tmp_path, *tmp_path.parents):
        if path.stat().st_uid == os.getuid() and not path.stat().st_mode & 0o001:
            path.chmod(path.stat().st_mode | 0o011)
    for path in (tmp_path / "scratch", tmp_path / "scratch/dir"):
        os.chown(path, native.user, native.user)
    return native


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.data())
def test_any_plan(somebody: Native, tmp_path: Path, data: st.DataObject) -> None:
    steps = data.draw(plans(table(Path(somebody.path))))
    plan = os.memfd_create("plan")
    os.write(plan, to_wire(steps))
    done = subprocess.run(
        ["timeout", "-s", "KILL", "20", somebody.path, "init", str(plan), "-", "wait"],
        pass_fds=(plan,),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=somebody.env,
        cwd=tmp_path / "scratch",
        user=somebody.user,
        group=somebody.user,
        extra_groups=[],
        check=False,
    )
    os.close(plan)
    assert done.returncode not in (SANITIZER, 137, *BROKEN_BY, *(128 + n for n in BROKEN_BY)), (steps, done)
    assert done.returncode >= 0, (steps, done)
