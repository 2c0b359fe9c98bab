"""`run --rm` on the default bridge, busybox `true`: knarr, podman, docker, ctr with CNI."""

from __future__ import annotations

import sys
from functools import partial

from engines import engines
from measure import Bar, alternate, report

RUNS = 15
BARS = [Bar("podman", 7), Bar("docker", 6)]


def main() -> bool:
    found = engines("knarr", "podman", "docker", "ctr")
    contenders = {e.name: partial(e.run, "true", network="bridge") for e in found}
    return report("run --rm on the bridge, true", alternate(contenders, runs=RUNS), BARS)


if __name__ == "__main__":
    sys.exit(not main())
