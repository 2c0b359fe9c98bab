"""A configuration with absurd values gets one clear line, whatever the value and wherever it is."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest

from knarr.errors import KnarrError
from knarr.oci.document import decode
from knarr.oci.spec import Spec
from knarr.plan.cgroup import placement
from knarr.plan.exec import ExecSetting, ExecTarget, exec_plan
from knarr.plan.facts import CgroupV1, CgroupV2, HostFacts
from knarr.plan.intel_rdt import rdt_teardown_steps
from knarr.plan.setup import Setting, container_plan
from knarr.plan.step import to_wire

CONFIG: dict[str, Any] = {
    "ociVersion": "1.3.0",
    "root": {"path": "rootfs", "readonly": True},
    "hostname": "h",
    "domainname": "d",
    "annotations": {"a": "b"},
    "hooks": {
        kind: [{"path": "/h", "args": ["h", "x"], "env": ["A=b"], "timeout": 3}]
        for kind in ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
    },
    "mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc", "options": ["ro"]},
        {"destination": "/s", "type": "none", "source": "/s", "options": ["rbind", "rprivate"],
         "uidMappings": [{"containerID": 0, "hostID": 0, "size": 1}],
         "gidMappings": [{"containerID": 0, "hostID": 0, "size": 1}]},
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup"},
        {"destination": "/t", "type": "tmpfs", "source": "t", "options": ["tmpcopyup", "size=1m", "slave"]},
        {"destination": "/t", "type": "none", "options": ["remount", "size=2m", "rro"]},
    ],
    "process": {
        "cwd": "/", "args": ["a"], "env": ["A=b"], "terminal": True, "consoleSize": {"height": 1, "width": 2},
        "user": {"uid": 0, "gid": 0, "umask": 18, "additionalGids": [1]},
        "capabilities": {"bounding": ["CAP_CHOWN"], "effective": ["CAP_CHOWN"], "permitted": ["CAP_CHOWN"]},
        "rlimits": [{"type": "RLIMIT_CORE", "hard": 1, "soft": 1}], "oomScoreAdj": 0,
        "scheduler": {"policy": "SCHED_DEADLINE", "nice": 0, "priority": 0, "runtime": 1, "deadline": 2, "period": 3,
                      "flags": ["SCHED_FLAG_RECLAIM"]},
        "noNewPrivileges": True, "apparmorProfile": "a", "selinuxLabel": "s",
        "execCPUAffinity": {"initial": "0", "final": "0-3,7"},
        "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 1},
    },
    "linux": {
        "namespaces": [{"type": "mount"}, {"type": "user"}, {"type": "uts"}, {"type": "time"}, {"type": "network"},
                       {"type": "pid", "path": "/p"}],
        "uidMappings": [{"containerID": 0, "hostID": 5, "size": 9}],
        "gidMappings": [{"containerID": 0, "hostID": 5, "size": 9}],
        "netDevices": {"eth0": {"name": "in%d"}},
        "intelRdt": {"closID": "c", "schemata": ["L3:0=1"], "l3CacheSchema": "L3:0=1", "memBwSchema": "MB:0=1",
                     "enableMonitoring": True},
        "memoryPolicy": {"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]},
        "mountLabel": "a:b:c:s0",
        "timeOffsets": {"monotonic": {"secs": 1, "nanosecs": 1}},
        "devices": [{"path": "/dev/x", "type": "c", "major": 1, "minor": 2, "fileMode": 438}],
        "cgroupsPath": "/a/b", "rootfsPropagation": "slave", "sysctl": {"kernel.domainname": "d", "net.a": "1"},
        "maskedPaths": ["/m"], "readonlyPaths": ["/r"], "personality": {"domain": "LINUX"},
        "resources": {
            "devices": [{"allow": False, "access": "rwm"}, {"allow": True, "type": "c", "major": 1, "minor": 3}],
            "memory": {"limit": 100, "swap": 200, "swappiness": 1, "reservation": 5, "kernel": 6, "kernelTCP": 7,
                       "disableOOMKiller": True, "useHierarchy": True, "checkBeforeUpdate": True},
            "cpu": {"shares": 2, "quota": 5000, "period": 5000, "cpus": "0", "mems": "0", "burst": 1, "idle": 0,
                    "realtimeRuntime": 1, "realtimePeriod": 2},
            "pids": {"limit": 1},
            "blockIO": {"weight": 10, "leafWeight": 10, "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1}],
                        "weightDevice": [{"major": 8, "minor": 0, "weight": 10, "leafWeight": 10}]},
            "network": {"classID": 1, "priorities": [{"name": "e", "priority": 1}]},
            "hugepageLimits": [{"pageSize": "2MB", "limit": 1}],
            "rdma": {"m": {"hcaHandles": 1, "hcaObjects": 2}},
            "unified": {"memory.high": "1"},
        },
        "seccomp": {
            "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1, "architectures": ["SCMP_ARCH_X86"],
            "flags": ["SECCOMP_FILTER_FLAG_LOG"], "listenerPath": "/l", "listenerMetadata": "m",
            "syscalls": [{"names": ["write"], "action": "SCMP_ACT_NOTIFY"},
                         {"names": ["read"], "action": "SCMP_ACT_ALLOW",
                          "args": [{"index": 0, "value": 1, "valueTwo": 2, "op": "SCMP_CMP_MASKED_EQ"}]}],
        },
    },
}  # fmt: skip
ABSURD = (
    -1,
    -(1 << 70),
    1 << 70,
    3,
    "",
    "/",
    "..",
    "a\0b",
    "\ud800",
    "x" * 70000,
    "r",
    ",",
    None,
    [],
    {},
    [""],
    True,
    1.5,
)
V1 = tuple(CgroupV1((c,), f"/cg/{c}", "/") for c in ("memory", "cpu", "pids", "devices", "blkio", "freezer"))
V2 = CgroupV2(("memory", "cpu", "pids", "io"), "/cg", "/x", ("memory", "cpu", "pids"), True)
HOSTS = (
    HostFacts((6, 1), "x86_64", 0, 0, "", (1 << 41) - 1, cgroups_v1=V1, selinux=True, resctrl="/rc"),
    HostFacts(
        (6, 1),
        "x86_64",
        1000,
        1000,
        cgroup_v2=V2,
        tools={"newuidmap": "/u", "newgidmap": "/g"},
        resctrl="/rc",
    ),
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every key and index of a document."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from places(inner, (*path, key))


def compile_all(config: dict[str, Any]) -> list[str]:
    """Compiles and sends it for each host; the warnings."""
    spec, warnings = decode(Spec, config), list[str]()
    for facts in HOSTS:
        place = placement(facts, "id", path=spec.linux.cgroups_path, resources=spec.linux.resources)
        where = Setting(cgroup=place, console_fd=3, container_id="c1", bundle="/b", fifo_fd=4)
        plan = container_plan(spec, facts, where)
        to_wire(plan.steps)
        warnings += plan.warnings
        if spec.process:
            target = ExecTarget(7, 8, ("mnt", "user"), place)
            executed = exec_plan(
                spec, spec.process, target, facts, ExecSetting(console_fd=3, container_id="c1")
            )
            to_wire(executed.steps)
        if spec.linux.intel_rdt:
            to_wire(rdt_teardown_steps(spec.linux.intel_rdt, facts, "c1"))
    return warnings


def test_the_configuration_is_good() -> None:
    compile_all(CONFIG)


@pytest.mark.parametrize("path", list(places(CONFIG)), ids=lambda path: ".".join(map(str, path)))
def test_an_absurd_value_is_taken_or_named(path: tuple[Any, ...]) -> None:
    for value in ABSURD:
        config = copy.deepcopy(CONFIG)
        at: Any = config
        for key in path[:-1]:
            at = at[key]
        at[path[-1]] = value
        try:
            compile_all(config)
        except KnarrError as error:
            assert ": " in error.message
            assert "\n" not in error.message
            assert "\0" not in error.message
            assert len(error.message) < 500


@pytest.mark.parametrize(
    "section",
    [("sysctl",), ("timeOffsets",), ("netDevices",), ("resources", "rdma"), ("resources", "unified")],
)
@pytest.mark.parametrize("name", ["", "a\0.b", "x" * 70000, "..", "net.a\nb", "memory.\ud800"])
def test_an_absurd_name_is_named(section: tuple[str, ...], name: str) -> None:
    config = copy.deepcopy(CONFIG)
    at: Any = config["linux"]
    for key in section:
        at = at[key]
    at[name] = next(iter(at.values()))
    try:
        lines = compile_all(config)
    except KnarrError as error:
        lines = [error.message]
    assert lines
    assert all(line.isprintable() and len(line) < 500 for line in lines)
