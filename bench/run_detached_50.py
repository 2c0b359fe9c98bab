"""`run -d` fifty times, one after the other and ten at a time: containers per second. `--bridge`: on the bridge."""

from __future__ import annotations

import sys

from engines import Engine, engines
from measure import Bar, report, throughput

CONTAINERS = 50
ROUNDS = 2
BARS = [Bar("podman", 5, rate=True), Bar("docker", 5, rate=True)]
NAMES = [f"bench-many-{i}" for i in range(CONTAINERS)]


def rate(engine: Engine, width: int, network: str) -> float:
    engine.remove(NAMES)
    try:
        return throughput([engine.start(n, "sleep", "1000", network=network) for n in NAMES], width)
    finally:
        engine.remove(NAMES)


def main(network: str = "none") -> bool:
    found = engines("knarr", "podman", "docker")
    met = True
    for width in (1, 10):
        samples: dict[str, list[float]] = {e.name: [] for e in found}
        for _ in range(ROUNDS):
            for e in found:
                samples[e.name].append(rate(e, width, network))
        met &= report(f"{CONTAINERS} x run -d, network {network}, {width} at a time", samples, BARS, "per s")
    return met


if __name__ == "__main__":
    sys.exit(not main("bridge" if "--bridge" in sys.argv else "none"))
