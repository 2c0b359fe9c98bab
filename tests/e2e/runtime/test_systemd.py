"""`--systemd-cgroup`: a container is a scope, its limits are the unit's too, and no change of systemd loses one."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from harness.runtime import Bundle, Runtime
from harness.wait import soon

pytestmark = pytest.mark.requires("root", "systemd", "cgroup-v2-only", "busybox")
TOP = Path("/sys/fs/cgroup")
LIMITS = {
    "memory": {"limit": 40 << 20, "reservation": 8 << 20, "swap": 48 << 20},
    "cpu": {"shares": 512, "quota": 50_000, "period": 100_000},
    "pids": {"limit": 20},
}


def show(unit: str, name: str) -> str:
    done = subprocess.run(
        ["systemctl", "show", f"-P{name}", unit], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def run(runtime: Runtime, bundle: str, container_id: str = "c1") -> Path:
    """Started, and in the background; its scope's cgroup."""
    runtime.create(container_id, bundle, before=("--systemd-cgroup",))
    runtime.ok("start", container_id)
    unit = runtime.state(container_id)["systemd-scope"]
    return TOP / show(unit, "ControlGroup").lstrip("/")


def files(scope: Path, *names: str) -> list[str]:
    return [(scope / name).read_text().strip() for name in names]


def sleeper(bundle: Bundle, path: str = "", **linux: Any) -> str:
    return bundle("sleep", "1000", linux={"cgroupsPath": path, **linux})


def test_the_scope_and_its_slice(runtime: Runtime, bundle: Bundle) -> None:
    scope = run(runtime, sleeper(bundle, "machine-knarr.slice:test:one"))
    assert scope == TOP / "machine.slice/machine-knarr.slice/test-one.scope"
    assert files(scope, "cgroup.procs") == [
        str(runtime.state("c1")["pid"])
    ]  # the container alone, directly in it
    assert show("test-one.scope", "Slice") == "machine-knarr.slice"
    assert show("test-one.scope", "Delegate") == "yes"
    runtime.ok("delete", "--force", "c1")
    assert soon(30, lambda: not scope.exists())
    assert show("test-one.scope", "LoadState") == "not-found"


def test_no_path_is_the_system_slice(runtime: Runtime, bundle: Bundle) -> None:
    assert run(runtime, bundle("sleep", "1000")) == TOP / "system.slice/knarr-c1.scope"


def test_limits_in_both_and_no_reload_loses_them(runtime: Runtime, bundle: Bundle) -> None:
    scope = run(runtime, sleeper(bundle, ":test:limits", resources=LIMITS))
    names = ("memory.max", "memory.low", "memory.swap.max", "cpu.weight", "cpu.max", "pids.max")
    asked = ["41943040", "8388608", "8388608", "59", "50000 100000", "20"]
    assert files(scope, *names) == asked
    properties = ("MemoryMax", "MemoryLow", "MemorySwapMax", "CPUWeight", "CPUQuotaPerSecUSec", "TasksMax")
    said = [show("test-limits.scope", name) for name in properties]
    assert said == ["41943040", "8388608", "8388608", "59", "500ms", "20"]
    subprocess.run(["systemctl", "daemon-reload"], check=True)
    subprocess.run(
        ["systemctl", "set-property", "--runtime", "test-limits.scope", "CPUWeight=70"], check=True
    )
    assert files(scope, *names) == [*asked[:3], "70", *asked[4:]]


def test_update_changes_both(runtime: Runtime, bundle: Bundle) -> None:
    scope = run(runtime, sleeper(bundle, ":test:update", resources=LIMITS))
    runtime.ok(
        "update", "--memory", "64m", "--memory-swap", "64m", "--pids-limit", "30", "--cpu-share", "1024", "c1"
    )
    assert files(scope, "memory.max", "memory.swap.max", "pids.max", "cpu.weight") == [
        "67108864",
        "0",
        "30",
        "100",
    ]
    said = [show("test-update.scope", n) for n in ("MemoryMax", "MemorySwapMax", "TasksMax", "CPUWeight")]
    assert said == ["67108864", "0", "30", "100"]


def test_devices(runtime: Runtime, bundle: Bundle) -> None:
    rules = [
        {"allow": False, "access": "rwm"},
        {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rw"},
    ]
    run(runtime, sleeper(bundle, ":test:devices", resources={"devices": rules}))
    assert show("test-devices.scope", "DevicePolicy") == "strict"
    assert "/dev/char/10:229 rw" in show("test-devices.scope", "DeviceAllow")
    assert runtime("exec", "c1", "sh", "-c", ": >/dev/null").code == 0


def test_properties_by_annotation(runtime: Runtime, bundle: Bundle) -> None:
    annotations = {
        "org.systemd.property.TimeoutStopSec": "21",
        "org.systemd.property.CollectMode": "'inactive'",
    }
    run(runtime, bundle("sleep", "1000", linux={"cgroupsPath": ":test:annotated"}, annotations=annotations))
    assert show("test-annotated.scope", "TimeoutStopUSec") == "21s"
    assert show("test-annotated.scope", "CollectMode") == "inactive"


def test_a_subgroup(runtime: Runtime, bundle: Bundle) -> None:
    annotations = {"run.oci.systemd.subgroup": "inner"}
    made = bundle(
        "sleep", "1000", linux={"cgroupsPath": ":test:sub", "resources": LIMITS}, annotations=annotations
    )
    scope = run(runtime, made)
    assert files(scope, "cgroup.procs", "inner/cgroup.procs") == ["", str(runtime.state("c1")["pid"])]
    assert files(scope, "memory.max", "inner/memory.max") == ["41943040", "41943040"]
    assert runtime.ok("exec", "c1", "cat", "/proc/self/cgroup") == "0::/"
    runtime.ok("delete", "--force", "c1")
    assert soon(30, lambda: not scope.exists())


def test_a_delegated_cgroup(runtime: Runtime, bundle: Bundle) -> None:
    annotations = {"run.oci.systemd.subgroup": "inner", "run.oci.delegate-cgroup": "own/here"}
    scope = run(runtime, bundle("sleep", "1000", linux={"cgroupsPath": ":test:own"}, annotations=annotations))
    assert files(scope, "inner/cgroup.procs", "inner/own/here/cgroup.procs") == [
        "",
        str(runtime.state("c1")["pid"]),
    ]
    assert runtime.ok("exec", "c1", "cat", "/proc/self/cgroup") == "0::/own/here"
    annotations["run.oci.delegate-cgroup"] = "../x"
    refused = runtime("run", "-b", bundle("true", annotations=annotations), "c2")
    assert refused.code == 1 and "run.oci.delegate-cgroup" in refused.stderr


def test_a_unit_that_is_there_is_let_be(runtime: Runtime, bundle: Bundle) -> None:
    run(runtime, sleeper(bundle, ":test:taken"))
    again = runtime("--systemd-cgroup", "create", "-b", sleeper(bundle, ":test:taken"), "c2")
    assert again.code == 1 and "test-taken.scope" in again.stderr
    assert runtime.status("c1") == "running"
    assert not (runtime.containers / "c2").exists()


def test_systemd_stops_it(runtime: Runtime, bundle: Bundle) -> None:
    run(
        runtime,
        bundle("sh", "-c", "trap 'exit 0' TERM; sleep 1000 & wait", linux={"cgroupsPath": ":test:stopped"}),
    )
    subprocess.run(["systemctl", "stop", "test-stopped.scope"], check=True)
    assert soon(30, lambda: runtime.status("c1") == "stopped")
    runtime.ok("delete", "c1")


def test_few_processes_are_enough(runtime: Runtime, bundle: Bundle) -> None:
    scope = run(runtime, sleeper(bundle, ":test:few", resources={"pids": {"limit": 1}}))
    assert files(scope, "pids.max") == ["1"]
    assert show("test-few.scope", "TasksMax") == "1"


@pytest.mark.parametrize("path", ["/a/path", "a.slice:b:c.slice", "b:c:d"])
def test_what_is_no_unit(runtime: Runtime, bundle: Bundle, path: str) -> None:
    done = runtime("--systemd-cgroup", "run", "-b", sleeper(bundle, path), "c1")
    assert done.code == 1 and "linux.cgroupsPath" in done.stderr
