"""Logs that are followed while they are rotated, and while their container goes away."""

from __future__ import annotations

import subprocess
import time

import pytest

from harness.command import Knarr

pytestmark = [pytest.mark.requires("root", "overlay", "busybox")]

# A pause now and then: nobody could follow who writes all of its files anew within a twentieth of a second.
WRITER = (
    "sleep 0.5; for i in $(seq 1 20000); do echo line $i; [ $((i % 500)) = 0 ] && sleep 0.02; done; exit 0"
)


@pytest.mark.parametrize("driver", ["k8s-file", "json-file"])
def test_no_line_is_lost_or_doubled(knarr: Knarr, busybox: str, driver: str) -> None:
    log = ["--log-driver", driver, "--log-opt", "max-size=60k", "--log-opt", "max-file=9"]
    knarr.ok("run", "-d", "--name", "one", "--network", "none", *log, busybox, "sh", "-c", WRITER)
    followed = knarr.ok("logs", "-f", "one").splitlines()
    assert followed == [f"line {i}" for i in range(1, 20001)]
    kept = knarr.ok("logs", "one").splitlines()
    assert 0 < len(kept) < 20000
    assert kept == followed[-len(kept) :]
    assert knarr.ok("logs", "--tail", "3", "one").splitlines() == followed[-3:]


def test_the_container_is_removed_meanwhile(knarr: Knarr, busybox: str) -> None:
    knarr.ok("run", "-d", "--name", "one", "--network", "none", busybox, "sh", "-c", "echo begun; sleep 1000")
    with knarr.popen("logs", "-f", "one", stdout=subprocess.PIPE, stderr=subprocess.PIPE) as follower:
        assert follower.stdout is not None
        assert follower.stdout.readline() == b"begun\n"
        time.sleep(0.2)
        knarr.ok("rm", "-f", "one")
        out, err = follower.communicate(timeout=20)
    assert (follower.returncode, out, err) == (0, b"", b"")


def test_bytes_come_back_as_they_were(knarr: Knarr, busybox: str) -> None:
    """No line end, NUL, bytes that are no characters, lines longer than any buffer."""
    script = r"printf '\000\377\376a'; head -c 300000 /dev/zero | tr '\0' x; printf '\n\r\n\033[31m'"
    knarr.ok("run", "--name", "one", "--network", "none", busybox, "sh", "-c", script)
    expected = b"\0\xff\xfea" + b"x" * 300_000 + b"\n\r\n\x1b[31m"
    assert knarr("logs", "one").stdout.encode("utf-8", "surrogateescape") == expected
