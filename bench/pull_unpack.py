"""Pull and unpack from a local registry: knarr, podman, docker, ctr.

    python bench/pull_unpack.py 127.0.0.1:5000/debian 127.0.0.1:5000/big

A file system that has just lost many files creates new ones slowly for minutes, so nothing is removed between
runs and no image is pulled twice: before measuring, every run gets a variant of its own, pushed to the
registry, whose layers differ in one small file (same sizes, other digests). BENCH_RUNS is how many, 5 unless set.

All are written out before each run: knarr has its image on disk when it returns and the others do not, so it would
pay for what they left to be written.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable

from engines import Engine, engines
from measure import Bar, alternate, report
from variants import push_variants

RUNS = int(os.environ.get("BENCH_RUNS", "5"))
BARS = [Bar("podman", 3), Bar("docker", 3)]


def main(references: list[str]) -> bool:
    if not references:
        print("\npull and unpack: name images of a local registry, see bench/pull_unpack.py", flush=True)
        return True
    met = True
    for reference in references:
        tags = push_variants(reference, RUNS + 1)
        with tempfile.TemporaryDirectory(
            prefix="knarr-bench-", dir=os.environ.get("BENCH_SCRATCH")
        ) as scratch:
            found = [own_store(e, scratch) for e in engines("knarr", "podman", "docker", "ctr")]
            contenders = {e.name: pulls(e, tags) for e in found}
            try:
                samples = alternate(contenders, runs=RUNS, warm_up=1, before=os.sync)
            finally:
                for e in found:
                    forget(e, tags)
        met &= report(f"pull and unpack {reference}", samples, BARS)
    return met


def pulls(engine: Engine, references: list[str]) -> Callable[[], list[str]]:
    """A command that pulls the next variant each time it is asked for."""
    left = iter(references)
    return lambda: engine.pull(next(left))


def own_store(engine: Engine, scratch: str) -> Engine:
    """A store of its own where the engine has one per command; a daemon has its own anyway."""
    if engine.name == "knarr":
        engine.prefix += ("--root", f"{scratch}/knarr")
    elif engine.name == "podman":
        engine.prefix += ("--root", f"{scratch}/podman", "--runroot", f"{scratch}/podman-run")
    return engine


def forget(engine: Engine, references: list[str]) -> None:
    remove = ("images", "rm", "--sync") if engine.name == "ctr" else ("rmi", "-f")
    subprocess.run([*engine.prefix, *remove, *references], capture_output=True)


if __name__ == "__main__":
    sys.exit(not main(sys.argv[1:]))
