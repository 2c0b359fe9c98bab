"""`exec true` in a container that runs: knarr, podman, docker, ctr."""

from __future__ import annotations

import sys

from engines import engines
from measure import Bar, alternate, once, report

RUNS = 20
NAME = "bench-exec"
BARS = [Bar("docker", 3), Bar("podman", 5)]


def main() -> bool:
    found = engines("knarr", "podman", "docker", "ctr")
    try:
        for e in found:
            e.remove([NAME])
            once(e.start(NAME, "sleep", "1000"))
        return report("exec true", alternate({e.name: e.exec(NAME, "true") for e in found}, runs=RUNS), BARS)
    finally:
        for e in found:
            e.remove([NAME])


if __name__ == "__main__":
    sys.exit(not main())
