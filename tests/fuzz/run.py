"""Builds the fuzzer with clang and lets it look for a while: python tests/fuzz/run.py [SECONDS]

It begins with a plan of each operation. What it finds is left in build/fuzz, and the exit code says that it did.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from knarr.plan.step import Step, to_wire

REPOSITORY = Path(__file__).resolve().parents[2]
BUILD = REPOSITORY / "build" / "fuzz"
# System calls that the executed operations make; the fuzzer answers them itself.
ANSWERED = ("syscall", "setrlimit", "personality", "prctl", "sethostname", "setdomainname")
SECONDS = 60


def build() -> Path:
    native = REPOSITORY / "native"
    sources = [path for path in sorted(native.glob("*.c")) if path.name not in ("main.c", "plan.c")]
    program = BUILD / "plan"
    wraps = ",".join(f"--wrap={name}" for name in ANSWERED)
    subprocess.run(
        [
            "clang", "-std=gnu11", "-D_GNU_SOURCE", "-g", "-O1", "-fsanitize=fuzzer,address,undefined",
            "-fno-sanitize-recover=all", f"-Wl,{wraps}", "-o", program, Path(__file__).with_name("plan.c"), *sources,
        ],
        check=True,
    )  # fmt: skip
    return program


def seeds(folder: Path) -> None:
    """A plan of every operation, so that the fuzzer need not guess their names."""
    shown = subprocess.run(
        [REPOSITORY / "src/knarr/_native/knarr-native", "ops"], capture_output=True, text=True, check=True
    ).stdout
    for line in shown.splitlines():
        name, least, _, where = line.split()
        step = Step(name, ("0-1,7",) * max(int(least), 1 if name == "env" else 0), "o", True)
        ends = (Step("clone", ("mnt",), "o"), Step("enter", (), "o"))
        before = {"S": (step, *ends), "L": (ends[0], step, ends[1])}.get(where[0], (*ends, step))
        steps = before if name not in ("clone", "enter") else ends
        (folder / name).write_bytes(to_wire((*steps, Step("exec", ("true",), "o"))))


def main(words: list[str]) -> int:
    if shutil.which("clang") is None:
        print("clang is not installed: Debian's clang and libclang-rt-*-dev", file=sys.stderr)
        return 1
    corpus = BUILD / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    program = build()
    seeds(corpus)
    limits = [
        f"-max_total_time={words[0] if words else SECONDS}",
        "-max_len=4096",
        "-timeout=10",
        "-rss_limit_mb=2048",
    ]
    options = "detect_leaks=0"  # a failing step jumps out of wherever it was
    done = subprocess.run(
        [program, *limits, f"-artifact_prefix={BUILD}/", "-print_final_stats=1", corpus],
        env={**os.environ, "ASAN_OPTIONS": options, "UBSAN_OPTIONS": "print_stacktrace=1"},
        check=False,
    )
    return done.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
