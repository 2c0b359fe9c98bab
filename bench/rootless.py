"""Rootless: run and exec as an ordinary user, knarr beside rootless podman. Run it as that user."""

from __future__ import annotations

import os
import sys

from engines import engines
from measure import Bar, alternate, once, report

RUNS = 15
NAME = "bench-rootless"
BARS = [Bar("podman", 1)]


def main() -> bool:
    if os.geteuid() == 0:
        print("\nrootless: run it as an ordinary user", flush=True)
        return True
    found = engines("knarr", "podman")
    met = report(
        "rootless run --rm --network none, true",
        alternate({e.name: e.run("true") for e in found}, runs=RUNS),
        BARS,
    )
    usermode = {e.name: [*e.prefix, "run", "--rm", e.image, "true"] for e in found}
    met &= report("rootless run --rm, default network, true", alternate(usermode, runs=RUNS), BARS)
    try:
        for e in found:
            e.remove([NAME])
            once(e.start(NAME, "sleep", "1000"))
        samples = alternate({e.name: e.exec(NAME, "true") for e in found}, runs=RUNS)
        return met & report("rootless exec true", samples, BARS)
    finally:
        for e in found:
            e.remove([NAME])


if __name__ == "__main__":
    sys.exit(not main())
