"""Every benchmark, one after another; arguments are the images of `pull_unpack`. Fails when a bar is not met."""

from __future__ import annotations

import sys

import exec_true
import monitor_memory
import ps_50
import pull_unpack
import rootless
import run_bridge
import run_detached_50
import run_none
import runtime
import startup


def main(references: list[str]) -> bool:
    met = [
        startup.main(),
        run_none.main(),
        run_bridge.main(),
        exec_true.main(),
        run_detached_50.main(),
        ps_50.main(),
        monitor_memory.main(),
        rootless.main(),
        runtime.main(),
        pull_unpack.main(references),
    ]
    print(f"\n{'all bars met' if all(met) else 'bars NOT MET above'}")
    return all(met)


if __name__ == "__main__":
    sys.exit(not main(sys.argv[1:]))
