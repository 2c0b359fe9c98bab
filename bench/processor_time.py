"""Processor time of a command and of everything it starts, where no daemon does the work: what is left to compare when
others use the machine. Read from a control group of its own (cpuacct, or cpu.stat of version 2), as root."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bundle import bare_bundle
from engines import Engine, engine, engines
from measure import OURS, Samples, once, report

RUNS = 20
SETTLE_S = 0.1  # what a command leaves to its monitor is its own work too


@contextmanager
def accounted() -> Iterator[Path]:
    """A control group that this process and all it starts are in; the file that says their time."""
    for top, file in (("cpuacct", "cpuacct.usage"), ("unified", "cpu.stat"), (".", "cpu.stat")):
        place = Path("/sys/fs/cgroup", top, f"bench-{os.getpid()}")
        home = _own(top)
        try:
            place.mkdir()
            (place / "cgroup.procs").write_text(str(os.getpid()))
        except OSError:
            continue
        try:
            yield place / file
        finally:
            (home / "cgroup.procs").write_text(str(os.getpid()))
            place.rmdir()
        return
    raise SystemExit("no control group can be made here: cpuacct, or version 2, as root")


def _own(top: str) -> Path:
    """The group this process came from."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        if names == top or (not names and top in ("unified", ".")):
            return Path("/sys/fs/cgroup", top, path.lstrip("/"))
    return Path("/sys/fs/cgroup", top)


def spent_ms(usage: Path) -> float:
    text = usage.read_text()
    return int(text) / 1e6 if text.strip().isdecimal() else int(text.split()[1]) / 1e3


def measured(contenders: dict[str, list[str]], usage: Path) -> Samples:
    samples: Samples = {name: [] for name in contenders}
    for turn in range(2 + int(os.environ.get("BENCH_RUNS", RUNS))):
        for name, argv in contenders.items():
            before = spent_ms(usage)
            once(argv)
            time.sleep(SETTLE_S)
            if turn >= 2:
                samples[name].append(spent_ms(usage) - before)
    return samples


def main() -> bool:
    found = engines("knarr", "podman")
    runtimes = {"knarr-runtime": "knarr_runtime", "runc": "runc", "crun": "crun"}
    with accounted() as usage, bare_bundle(["/bin/true"]) as bundle:
        report("run --rm --network none, true", measured({e.name: e.run("true") for e in found}, usage))
        bare = {
            name: [*found_runtime.prefix, "run", "-b", str(bundle), f"bench-{name}"]
            for name, variable in runtimes.items()
            if (found_runtime := _runtime(name, variable))
        }
        times = measured(bare, usage)
        report("run of a bundle", {OURS if n == "knarr-runtime" else n: t for n, t in times.items()})
    return True


def _runtime(name: str, variable: str) -> Engine | None:
    beside = Path(sys.executable).with_name(name)
    os.environ.setdefault(f"BENCH_{variable.upper()}", str(beside) if beside.exists() else name)
    return engine(variable)


if __name__ == "__main__":
    sys.exit(not main())
