"""`runtime_tools`: the validation programs of runtime-tools, each a TAP program that drives one runtime.

They are built once into build/runtime-tools from the Go modules that `make conformance` fetched into build/go.
What a program leaves (mounts, processes, state below /run) goes with the namespaces it ran in; its cgroups are
in this test process's own and are removed here.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

from harness.capabilities import SKIPPED, has
from harness.clean import remove_cgroups
from harness.machine import REPOSITORY, Machine

MODULE = REPOSITORY / "tests/conformance/runtime_tools"
SUITE = "github.com/opencontainers/runtime-tools"
BUILT = REPOSITORY / "build/runtime-tools"
ENDS_WITHIN_S = 60.0
SAME_CGROUP = ("linux_cgroups_", "delete_")  # these name a cgroup, and all the same one

# pid 1 of the namespace: a shell waits for every orphan, as an init does. crun refuses a v2 hierarchy beside v1.
RUN = """
mount -t tmpfs tmpfs /run || exit 70
[ -z "$HIDE_UNIFIED" ] || [ ! -d /sys/fs/cgroup/unified ] || mount -t tmpfs tmpfs /sys/fs/cgroup/unified || exit 70
"$1" </dev/null
exit $?
"""


class Verdict(NamedTuple):
    """One program against one runtime."""

    passed: bool
    output: str


class RuntimeTools:
    """The built programs. `judge` runs one of them; `scores` is what was seen, for docs/conformance.md."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.scores: dict[str, dict[str, bool]] = {}
        self.runtimes = {"knarr-runtime": str(Path(sys.prefix, "bin/knarr-runtime"))} | {
            name: str(shutil.which(name)) for name in ("runc", "crun") if has(name)
        }

    def judge(self, program: str, names: Sequence[str]) -> dict[str, Verdict]:
        """Runs it against each of the runtimes: side by side, for a program mostly sleeps, where they do not meet."""
        at_once = 1 if program.startswith(SAME_CGROUP) else len(names)
        with ThreadPoolExecutor(at_once) as pool:
            verdicts = dict(zip(names, pool.map(lambda name: self._run(program, name), names), strict=True))
        self.scores.setdefault(program, {}).update({name: v.passed for name, v in verdicts.items()})
        remove_cgroups(self.machine)
        return verdicts

    def _run(self, program: str, name: str) -> Verdict:
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.machine.state),
            "TMPDIR": str(self.machine.state),
            "RUNTIME": self.runtimes[name],
            "HIDE_UNIFIED": "1" if name == "crun" else "",
        }
        own = ["unshare", "-m", "-p", "-f", "--kill-child", "--mount-proc", "--propagation", "private"]
        argv = [*own, "sh", "-c", RUN, "sh", str(BUILT / program)]
        # A file, not a pipe: a container that outlives its program may hold it open.
        output = self.machine.state / f"{name}.tap"
        with output.open("wb") as file:
            process = subprocess.Popen(
                argv, cwd=BUILT, env=env, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT
            )
            try:
                code = process.wait(ENDS_WITHIN_S)
            except subprocess.TimeoutExpired:
                process.kill()
                code = process.wait()
        if program.startswith(SAME_CGROUP):
            remove_cgroups(self.machine)
        text = output.read_text(errors="replace")
        return Verdict(code == 0 and passed(text), f"{name}: exit code {code}\n{text}")

    def table(self) -> str:
        """One line a program, one column a runtime; the sums below."""
        lines = [f"{'':32}" + "".join(f"{name:>15}" for name in self.runtimes)]
        for program, row in sorted(self.scores.items()):
            marks = ({True: "passes", False: "fails", None: "-"}[row.get(name)] for name in self.runtimes)
            lines.append(f"{program:32}" + "".join(f"{mark:>15}" for mark in marks))
        sums = (sum(row.get(name, False) for row in self.scores.values()) for name in self.runtimes)
        lines.append(f"{f'of {len(self.scores)}':32}" + "".join(f"{n:>15}" for n in sums))
        return "\n".join(lines) + "\n"


def passed(tap: str) -> bool:
    """All points hold. Programs about hooks print none and say what was wrong in a diagnostic: it counts."""
    points = re.findall(r"^(not )?ok \d+", tap, re.MULTILINE)
    if not points:
        return "1..0" in tap and not re.search(r'^\s*"error":', tap, re.MULTILINE)
    return not any(points) and re.search(r"^1\.\.\d+", tap, re.MULTILINE) is not None


@pytest.fixture(scope="session")
def runtime_tools(machine: Machine) -> Iterator[RuntimeTools]:
    """Afterwards build/runtime-tools/scores.txt says who passed what."""
    if not has("go"):
        pytest.skip(f"{SKIPPED}go")
    if platform.machine() != "x86_64":
        pytest.skip(f"{SKIPPED}x86_64, for which alone the suite carries a root filesystem")
    _build()
    suite = RuntimeTools(machine)
    yield suite
    (BUILT / "scores.txt").write_text(suite.table())


def _build() -> None:
    """What has been built already is not built again: Go knows."""
    env = os.environ | {
        "GOMODCACHE": str(REPOSITORY / "build/go"),
        "GOFLAGS": "-modcacherw",
        "GOPROXY": "off",  # the network is not there; `make conformance` has fetched everything
        "CGO_ENABLED": "0",  # one of them runs in containers that have no C library
    }
    found = subprocess.run(
        ["go", "mod", "download", "-json", SUITE], cwd=MODULE, capture_output=True, text=True, env=env
    )
    assert found.returncode == 0, f"run `make conformance`: {found.stdout}{found.stderr}"
    BUILT.mkdir(parents=True, exist_ok=True)
    shutil.copy(Path(json.loads(found.stdout)["Dir"], "rootfs-amd64.tar.gz"), BUILT)
    wanted = [f"{SUITE}/validation/...", f"{SUITE}/cmd/runtimetest"]
    built = subprocess.run(
        ["go", "build", "-ldflags=-s -w", "-o", f"{BUILT}/", *wanted],
        cwd=MODULE,
        capture_output=True,
        text=True,
        env=env,
    )
    assert built.returncode == 0, f"run `make conformance`: {built.stdout}{built.stderr}"
