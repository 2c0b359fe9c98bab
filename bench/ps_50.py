"""`ps` with no container of ours and with fifty: knarr, podman, docker, ctr."""

from __future__ import annotations

import sys

from engines import engines
from measure import Bar, alternate, report, throughput

CONTAINERS = 50
RUNS = 15
NAMES = [f"bench-ps-{i}" for i in range(CONTAINERS)]
BARS = [Bar("podman", 1)]


def main() -> bool:
    found = engines("knarr", "podman", "docker", "ctr")
    met = report("ps, none of ours", alternate({e.name: e.ps() for e in found}, runs=RUNS))
    try:
        for e in found:
            e.remove(NAMES)
            throughput([e.start(n, "sleep", "1000") for n in NAMES], 4)
        samples = alternate({e.name: e.ps() for e in found}, runs=RUNS)
        return met & report(f"ps, {CONTAINERS} running", samples, BARS)
    finally:
        for e in found:
            e.remove(NAMES)


if __name__ == "__main__":
    sys.exit(not main())
