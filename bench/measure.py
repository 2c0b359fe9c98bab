"""Timing commands side by side: contenders take turns in one run, so that a busy moment hits them all.

result = alternate({"knarr": [...], "podman": [...]}, runs=20)
report("run, no network", result, [Bar("podman", 5), Bar("docker", 7)])
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

Command = Sequence[str]
Samples = dict[str, list[float]]  # by contender: milliseconds, or whatever a program measures
OURS = "knarr"


class Bar(NamedTuple):
    """knarr's median must be at most the peer's divided by `factor`; with `rate`, at least the peer's times it."""

    peer: str
    factor: float
    rate: bool = False


class Limit(NamedTuple):
    """knarr's median must be at most this."""

    value: float


class CommandFailed(Exception):
    """A contender's command failed: its time means nothing."""


_NULL = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)


def once(argv: Command, *, quiet: bool = True) -> float:
    """Milliseconds from the spawn of a command to its end; standard streams are /dev/null."""
    actions = [(os.POSIX_SPAWN_DUP2, _NULL, 0), (os.POSIX_SPAWN_DUP2, _NULL, 1)]
    if quiet:
        actions.append((os.POSIX_SPAWN_DUP2, _NULL, 2))
    begin = time.perf_counter_ns()
    pid = os.posix_spawnp(argv[0], list(argv), os.environ, file_actions=actions)
    _, status = os.waitpid(pid, 0)
    spent = (time.perf_counter_ns() - begin) / 1e6
    if status:
        if quiet:
            once(argv, quiet=False)  # once more, for its own words
        raise CommandFailed(f"status {os.waitstatus_to_exitcode(status)}: {' '.join(argv)}")
    return spent


def alternate(
    contenders: Mapping[str, Command | Callable[[], Command]],
    *,
    runs: int,
    warm_up: int = 2,
    before: Callable[[], object] | None = None,
    after: Mapping[str, Command] | None = None,
) -> Samples:
    """Each contender's times. A callable gives a new command per run; `before` and `after` each are not timed.

    BENCH_RUNS in the environment overrides `runs`.
    """
    runs = int(os.environ.get("BENCH_RUNS", runs))
    samples: Samples = {name: [] for name in contenders}
    for turn in range(warm_up + runs):
        for name, command in contenders.items():
            if before is not None:
                before()
            spent = once(command() if callable(command) else command)
            if turn >= warm_up:
                samples[name].append(spent)
            if after and name in after:
                once(after[name])
    return samples


def throughput(commands: Sequence[Command], width: int) -> float:
    """Commands per second, `width` at a time."""
    begin = time.perf_counter()
    if width == 1:
        for command in commands:
            once(command)
    else:
        with ThreadPoolExecutor(width) as pool:
            list(pool.map(once, commands))
    return len(commands) / (time.perf_counter() - begin)


def report(title: str, samples: Samples, bars: Sequence[Bar | Limit] = (), unit: str = "ms") -> bool:
    """Prints medians, their ratio to knarr's and each bar; are all bars met?"""
    print(f"\n{title}")
    medians = {name: statistics.median(values) for name, values in samples.items() if values}
    ours = medians.get(OURS)
    for name, median in medians.items():
        values = samples[name]
        ratio = f"{median / ours:6.2f} x knarr" if ours and name != OURS else ""
        spread = f"[{min(values):9.2f} …{max(values):9.2f}]  n={len(values)}" if len(values) > 1 else ""
        print(f"  {name:<22}{median:10.2f} {unit:<5}{spread:<34}{ratio}")
    met = True
    for bar in bars:
        line, good = _judge(bar, medians, unit)
        met &= good
        print(f"  {line}")
    sys.stdout.flush()
    return met


def _judge(bar: Bar | Limit, medians: Mapping[str, float], unit: str) -> tuple[str, bool]:
    ours = medians.get(OURS)
    if ours is None:
        return "bar: knarr was not measured", False
    if isinstance(bar, Limit):
        good = ours <= bar.value
        return f"bar: at most {bar.value:g} {unit}: {_word(good)}", good
    peer = medians.get(bar.peer)
    if peer is None:
        return f"bar against {bar.peer}: not measured (not installed, or see BENCH_{bar.peer.upper()})", True
    if bar.rate:
        good = ours >= peer * bar.factor
        return f"bar: at least {bar.factor:g} x {bar.peer}: {_word(good)} ({ours / peer:.1f} x)", good
    good = ours <= peer / bar.factor
    return f"bar: at most 1/{bar.factor:g} of {bar.peer}: {_word(good)} (1/{peer / ours:.1f})", good


def _word(good: bool) -> str:
    return "met" if good else "NOT MET"
