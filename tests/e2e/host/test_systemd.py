"""A scope of a real systemd: a user manager of our own, in a private mount namespace and a cgroup of its own.

It believes that the machine was booted with systemd because /run/systemd/system is there, and sees one cgroup v2
hierarchy because that is what is mounted on its /sys/fs/cgroup.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.capabilities import SKIPPED
from harness.machine import REPOSITORY

SYSTEMD = Path("/usr/lib/systemd/systemd")

pytestmark = [
    pytest.mark.requires("root", "cgroup-v2"),
    pytest.mark.skipif(not SYSTEMD.exists(), reason=f"{SKIPPED}systemd's program"),
]

AROUND = """\
set -e
mount -t tmpfs none /run
mkdir -p /run/systemd/system /run/user/0
own=$(sed -n 's/^0:://p' /proc/self/cgroup)
umount -R /sys/fs/cgroup 2>/dev/null || umount -l /sys/fs/cgroup
mount -t cgroup2 none /sys/fs/cgroup
mkdir "/sys/fs/cgroup$own/manager"
echo $$ > "/sys/fs/cgroup$own/manager/cgroup.procs"
code=0
"$@" || code=$?
echo $$ > "/sys/fs/cgroup$own/cgroup.procs"
for try in 1 2 3 4 5 6 7 8 9 10; do
    find "/sys/fs/cgroup$own/manager" -depth -type d -exec rmdir {} + 2>/dev/null && break
    sleep 0.1
done
exit $code
"""

INSIDE = """\
import os, subprocess, sys, time

manager = subprocess.Popen(["/usr/lib/systemd/systemd", "--user", "--log-target=null"])
from knarr.errors import HostError
from knarr.host.bus import Bus
from knarr.host.systemd import Scope, set_limits, start_scope, stop_scope
from knarr.oci.spec import Cpu, Memory, Pids, Resources
from knarr.plan.unit_limits import limit_properties

def sleeper():
    return subprocess.Popen(["sleep", "60"])

def shown(name):
    done = subprocess.run(["systemctl", "--user", "show", "knarr-1.scope", "-p", name], capture_output=True, text=True)
    return done.stdout.strip()

try:
    deadline = time.monotonic() + 30
    while True:
        try:
            bus = Bus("/run/user/0/systemd/private", is_bus=False)
            break
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    with bus:
        memory, cpu = Memory(limit=1 << 26, swap=1 << 27), Cpu(quota=50000, period=100000)
        limits = Resources(memory=memory, cpu=cpu, pids=Pids(limit=50))
        first = sleeper()
        cgroup = start_scope(bus, Scope("knarr-1.scope", (first.pid,), limits=limit_properties(limits)))
        assert cgroup.endswith("/app.slice/knarr-1.scope"), cgroup
        assert f"0::{cgroup}\\n" in open(f"/proc/{first.pid}/cgroup").read()
        for name, value in {
            "Delegate": "yes", "MemoryMax": "67108864", "MemorySwapMax": "67108864", "CPUQuotaPerSecUSec": "500ms",
            "TasksMax": "50", "Slice": "app.slice",
        }.items():
            assert shown(name) == f"{name}={value}", shown(name)
        set_limits(bus, "knarr-1.scope", limit_properties(Resources(pids=Pids(limit=77))))
        assert shown("TasksMax") == "TasksMax=77"
        second = sleeper()
        assert start_scope(bus, Scope("knarr-1.scope", (second.pid,))) == cgroup  # the name was taken
        assert first.wait(30) != 0
        stop_scope(bus, "knarr-1.scope")
        assert second.wait(30) != 0
        stop_scope(bus, "knarr-1.scope")
        try:
            start_scope(bus, Scope("knarr-1.scope", (4000000,)))
            raise AssertionError("a process that is not there")
        except HostError as e:
            assert e.message.startswith("cannot start knarr-1.scope: "), e.message
    print("fine")
finally:
    manager.terminate()
    manager.wait(30)
"""


def test_a_scope_of_a_real_manager(tmp_path: Path) -> None:
    script = tmp_path / "inside.py"
    script.write_text(INSIDE)
    env = {
        **os.environ,
        "PYTHONPATH": str(REPOSITORY / "src"),
        "XDG_RUNTIME_DIR": "/run/user/0",
        "HOME": str(tmp_path),
    }
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", AROUND, "sh", sys.executable, str(script)],
        env=env, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "fine\n"), done.stderr
