"""The same command lines on knarr and on docker: what they print and how they exit is the same.

So that a wrong expectation of ours shows: the table holds no expected values, the peer is the expectation.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from harness.command import Knarr
from harness.images import BUSYBOX
from harness.peers import Tool

pytestmark = [pytest.mark.requires("root", "overlay"), pytest.mark.timeout(300)]

# Options, then the container's words. Every one is run with --rm and without a network.
LINES: tuple[tuple[Sequence[str], Sequence[str]], ...] = (
    ((), ("echo", "hello")),
    ((), ("sh", "-c", "exit 42")),
    ((), ("sh", "-c", "echo out; echo err >&2")),
    ((), ("nonexistent-command",)),
    ((), ("/etc",)),
    ((), ("pwd",)),
    ((), ("id",)),
    ((), ("sh", "-c", "echo $HOME $PATH")),
    ((), ("cat",)),
    ((), ("sh", "-c", "ls -d /proc /sys /dev /dev/shm /dev/pts /dev/mqueue /dev/null /dev/tty")),
    ((), ("sh", "-c", "stat -c '%a %n' /dev/null /dev/shm /dev/pts /dev/full")),
    (
        (),
        (
            "sh",
            "-c",
            "readlink /dev/fd /dev/stdin /dev/ptmx 2>/dev/null; readlink /dev/fd; readlink /dev/ptmx",
        ),
    ),
    ((), ("grep", "-E", "^(CapInh|CapPrm|CapEff|CapBnd|CapAmb|NoNewPrivs|Seccomp):", "/proc/self/status")),
    ((), ("sh", "-c", "umask")),
    ((), ("sh", "-c", "cat /proc/sys/kernel/panic >/dev/null && echo 1 >/proc/sys/kernel/panic")),
    ((), ("sh", "-c", "mount -t tmpfs none /mnt 2>/dev/null || echo refused")),
    ((), ("sh", "-c", "hostname x 2>/dev/null || echo refused")),
    ((), ("sh", "-c", "mknod /tmp/disk b 8 0 && cat /tmp/disk >/dev/null 2>&1 || echo refused")),
    (("-h", "box"), ("hostname",)),
    (("-h", "box"), ("sh", "-c", "grep -c box /etc/hostname")),
    (("-w", "/made/on/the/way"), ("pwd",)),
    (("-e", "A=1", "-e", "B=two words"), ("sh", "-c", "echo $A $B")),
    (("-u", "1000"), ("id",)),
    (("-u", "1000:1001"), ("id",)),
    (("-u", "nobody"), ("id", "-u")),
    (("-u", "1000"), ("grep", "Cap", "/proc/self/status")),
    (("-u", "no-such-user"), ("true",)),
    (("--entrypoint", "echo"), ("a", "b")),
    (("--read-only",), ("sh", "-c", "touch /x 2>/dev/null || echo refused; touch /dev/shm/x && echo fine")),
    (("--tmpfs", "/scratch"), ("sh", "-c", "touch /scratch/x && grep -c ' /scratch tmpfs' /proc/mounts")),
    (("--cap-drop", "ALL"), ("grep", "CapEff", "/proc/self/status")),
    (("--cap-drop", "ALL", "--cap-add", "CHOWN"), ("grep", "CapEff", "/proc/self/status")),
    (("--security-opt", "no-new-privileges"), ("grep", "NoNewPrivs", "/proc/self/status")),
    (("--security-opt", "seccomp=unconfined"), ("grep", "Seccomp:", "/proc/self/status")),
    (("--ulimit", "nofile=64:128"), ("sh", "-c", "ulimit -n; ulimit -Hn")),
    (("--shm-size", "1m"), ("sh", "-c", "df -k /dev/shm | tail -1 | awk '{print $2}'")),
    (("--add-host", "other:10.1.2.3"), ("grep", "-c", "10.1.2.3.*other", "/etc/hosts")),
    (("--init",), ("sh", "-c", "test $$ -ne 1 && echo reaped")),
    (("-i",), ("cat",)),
)


def plain(command: Sequence[str], env: dict[str, str]) -> tuple[int, str]:
    done = subprocess.run(
        list(command), env=env, input="typed\n", capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, done.stdout


def test_the_same_lines_as_docker(knarr: Knarr, busybox: str, docker: Tool, tmp_path: Path) -> None:
    archive = tmp_path / "busybox.tar"
    knarr.ok("save", "-o", str(archive), busybox)
    docker("load", "-q", "-i", str(archive))
    different = []
    for options, words in LINES:
        arguments = ("run", "--rm", "--network", "none", *options, BUSYBOX, *words)
        ours = plain([*knarr.argv, *arguments], knarr.env)
        theirs = plain([*docker.prefix, *arguments], docker.env)
        if ours != theirs:
            different.append(f"{' '.join(arguments)}\n  knarr  {ours}\n  docker {theirs}")
    assert not different, "\n".join(different)
