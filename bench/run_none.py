"""`run --rm`, no network, busybox `true`: knarr, podman, docker, ctr, and runc and crun on a bare bundle."""

from __future__ import annotations

import sys
from functools import partial

from bundle import bare_bundle
from engines import engine, engines
from measure import Bar, alternate, report

RUNS = 20
BARS = [Bar("podman", 5), Bar("docker", 7), Bar("ctr", 4), Bar("runc", 1)]


def main() -> bool:
    contenders = {e.name: partial(e.run, "true") for e in engines("knarr", "podman", "docker", "ctr")}
    with bare_bundle(["/bin/true"]) as bundle:
        for name in ("runc", "crun"):
            if runtime := engine(name):
                contenders[name] = lambda r=runtime: [*r.prefix, "run", "-b", str(bundle), f"bench-{r.name}"]
        return report("run --rm --network none, true", alternate(contenders, runs=RUNS), BARS)


if __name__ == "__main__":
    sys.exit(not main())
