"""knarr-runtime beside runc and crun on the same bundle: `run`, `create`+`start`+`delete`, `exec true`, and the least
memory that a container can be started in."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from bundle import bare_bundle
from measure import OURS, Bar, Samples, alternate, once, report

RUNS = 20
ID = "bench-runtime"
RUN_BARS, CYCLE_BARS, EXEC_BARS = [Bar("runc", 2)], [Bar("runc", 1 / 0.6)], [Bar("runc", 1 / 0.8)]
MEMORY_MIB = (2, 3, 4, 6, 8, 12, 16, 24, 32)


def runtimes() -> dict[str, list[str]]:
    """Name → command. BENCH_RUNC, BENCH_CRUN and BENCH_KNARR_RUNTIME say which programs; empty leaves one out."""
    own = Path(sys.prefix, "bin/knarr-runtime")
    found = {OURS: os.environ.get("BENCH_KNARR_RUNTIME", str(own) if own.exists() else "knarr-runtime")}
    for name in ("runc", "crun"):
        found[name] = os.environ.get(f"BENCH_{name.upper()}", name if shutil.which(name) else "")
    return {name: words.split() for name, words in found.items() if words}


def able(commands: dict[str, list[str]], bundle: Path) -> dict[str, list[str]]:
    """Those that can run it here: crun refuses cgroup v2 with controllers beside v1."""
    found = {}
    for name, words in commands.items():
        done = subprocess.run([*words, "run", "-b", str(bundle), ID], capture_output=True, text=True)
        if done.returncode == 0:
            found[name] = words
        else:
            print(f"{name} is left out: {done.stderr.strip()}")
    return found


def cycle(commands: dict[str, list[str]], bundle: Path) -> Samples:
    """create + start + delete: three commands, one time."""
    samples: Samples = {name: [] for name in commands}
    for turn in range(2 + int(os.environ.get("BENCH_RUNS", RUNS))):
        for name, words in commands.items():
            spent = once([*words, "create", "-b", str(bundle), ID]) + once([*words, "start", ID])
            while json.loads(subprocess.check_output([*words, "state", ID]))["status"] != "stopped":
                pass
            spent += once([*words, "delete", ID])
            if turn >= 2:
                samples[name].append(spent)
    return samples


def executed(commands: dict[str, list[str]], bundle: Path) -> Samples:
    for words in commands.values():
        once([*words, "run", "-d", "-b", str(bundle), ID])
    try:
        return alternate({name: [*words, "exec", ID, "true"] for name, words in commands.items()}, runs=RUNS)
    finally:
        for words in commands.values():
            once([*words, "delete", "--force", ID])


def least_memory(commands: dict[str, list[str]], bundle: Path) -> Samples:
    """The smallest limit of MEMORY_MIB with which `true` still runs."""
    config = bundle / "config.json"
    whole = json.loads(config.read_text())
    samples: Samples = {}
    for name, words in commands.items():
        for limit in MEMORY_MIB:
            resources = whole["linux"].get("resources", {}) | {"memory": {"limit": limit << 20}}
            config.write_text(json.dumps(whole | {"linux": whole["linux"] | {"resources": resources}}))
            done = subprocess.run([*words, "run", "-b", str(bundle), ID], capture_output=True)
            subprocess.run([*words, "delete", "--force", ID], capture_output=True)
            if done.returncode == 0:
                samples[name] = [limit]
                break
    config.write_text(json.dumps(whole))
    return samples


def main() -> bool:
    commands = runtimes()
    with tempfile.TemporaryDirectory(prefix="knarr-bench-root-") as root:
        commands = {n: [*words, "--root", f"{root}/{n}"] for n, words in commands.items()}
        with bare_bundle(["/bin/true"]) as bundle:
            commands = able(commands, bundle)
            runs = {n: [*words, "run", "-b", str(bundle), ID] for n, words in commands.items()}
            met = report("knarr-runtime run, true", alternate(runs, runs=RUNS), RUN_BARS)
            met &= report("create + start + delete", cycle(commands, bundle), CYCLE_BARS)
            report("least memory limit that true runs in", least_memory(commands, bundle), unit="MiB")
        with bare_bundle(["/bin/sleep", "1000"]) as bundle:
            return report("exec true", executed(commands, bundle), EXEC_BARS) & met


if __name__ == "__main__":
    sys.exit(not main())
