"""Ctrl-C at any moment, from the first system call of the interpreter that starts to the command's last: exit code 130,
or death by the signal, and not a word."""

from __future__ import annotations

import signal
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from harness.command import Knarr

pytestmark = [pytest.mark.requires("strace"), pytest.mark.timeout(300)]

TRACED = "openat,pread64,read,newfstatat,rt_sigaction"
MOMENTS = 40


def strace(knarr: Knarr, options: list[str], words: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["strace", "-qq", *options, *knarr.argv, *words],
        env={**knarr.env, "PYTHONWARNINGS": ""},  # files that are closed late are not the matter here
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("words", "code"),
    [(("--version",), 0), (("ps", "-a"), 0), (("run", "--pull", "never", "missing"), 125)],
    ids=["version", "ps", "run"],
)
def test_ctrl_c_is_answered_without_a_word(
    knarr: Knarr, tmp_path: Path, words: tuple[str, ...], code: int
) -> None:
    log = tmp_path / "calls"
    knarr("ps")  # the first command after an edit makes the bundle of modules
    whole = strace(knarr, ["-e", f"trace={TRACED}", "-e", "signal=none", "-o", str(log)], words)
    calls = log.read_text(errors="replace").splitlines()
    assert whole.returncode == code
    moments = sampled([call.partition("(")[0] for call in calls])
    silent = 0
    for name, number in moments:
        how = f"inject={name}:signal=INT:when={number}"
        done = strace(knarr, ["-e", f"trace={name}", "-e", how, "-o", "/dev/null"], words)
        message = f"{' '.join(words)} interrupted at {name} number {number}: {done}"
        if done.returncode == code:  # it came too late
            assert done.stderr == whole.stderr, message
            continue
        assert done.returncode in (130, -signal.SIGINT), message
        assert done.stderr == "", message
        silent += 1
    assert silent > MOMENTS // 4


def sampled(names: list[str]) -> list[tuple[str, int]]:
    """Calls as strace names one: the Nth of its kind."""
    seen: Counter[str] = Counter()
    found = []
    for name in names:
        seen[name] += 1
        if name.isidentifier():
            found.append((name, seen[name]))
    assert len(found) > MOMENTS
    return found[:: len(found) // MOMENTS]
