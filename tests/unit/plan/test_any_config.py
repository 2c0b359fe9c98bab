"""Any JSON as a config.json is a plan, or an error for whoever wrote it. Never a traceback.

The document begins as a whole one and is then spoilt in a few places: other values, missing fields, doubled ones.
"""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from knarr.errors import DataError, HostError, UsageError
from knarr.oci import json
from knarr.oci.document import decode
from knarr.oci.spec import Process, Spec
from knarr.plan import cgroup
from knarr.plan.exec import ExecSetting, ExecTarget, exec_plan
from knarr.plan.facts import CgroupV1, CgroupV2, HostFacts
from knarr.plan.setup import Setting, container_plan
from knarr.plan.step import to_wire

V1 = tuple(
    CgroupV1((name,), f"/sys/fs/cgroup/{name}", "/")
    for name in "cpu cpuset memory devices pids blkio".split()
)
V2 = CgroupV2(("cpuset", "cpu", "io", "memory", "pids"), "/sys/fs/cgroup", "/", ("cpu", "io", "memory"), True)
ROOT = HostFacts((6, 12), "x86_64", 0, 0, "root", (1 << 41) - 1, 40, V1, None)
FACTS = (
    ROOT,
    ROOT._replace(cgroups_v1=(), cgroup_v2=V2),
    ROOT._replace(euid=1000, egid=1000, user="ada", capabilities=0, cgroups_v1=(), cgroup_v2=None),
)

WHOLE: dict[str, Any] = {
    "ociVersion": "1.2.0",
    "root": {"path": "rootfs", "readonly": True},
    "hostname": "h",
    "domainname": "d",
    "annotations": {"a": "b", "org.systemd.property.TasksMax": "7"},
    "process": {
        "terminal": False,
        "user": {"uid": 1, "gid": 2, "umask": 18, "additionalGids": [3, 4]},
        "args": ["sh", "-c", "true"],
        "env": ["A=b"],
        "cwd": "/",
        "capabilities": {"bounding": ["CAP_KILL"], "effective": ["CAP_KILL"], "permitted": ["CAP_KILL"],
                         "inheritable": [], "ambient": []},
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 10, "hard": 20}],
        "noNewPrivileges": True,
        "apparmorProfile": "p",
        "selinuxLabel": "l",
        "oomScoreAdj": 5,
        "scheduler": {"policy": "SCHED_DEADLINE", "nice": 1, "priority": 0, "flags": ["SCHED_FLAG_RESET_ON_FORK"],
                      "runtime": 1, "deadline": 2, "period": 3},
        "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 4},
        "execCPUAffinity": {"initial": "0-1", "final": "0"},
    },
    "mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid"]},
        {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup", "size=1m", "rro"]},
        {"destination": "/data", "type": "bind", "source": "/srv", "options": ["rbind", "rprivate", "idmap"],
         "uidMappings": [{"containerID": 0, "hostID": 1, "size": 2}],
         "gidMappings": [{"containerID": 0, "hostID": 1, "size": 2}]},
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro"]},
    ],
    "hooks": {"createRuntime": [{"path": "/bin/true", "args": ["true"], "env": ["A=b"], "timeout": 3}],
              "startContainer": [{"path": "/bin/true"}], "poststop": []},
    "linux": {
        "namespaces": [{"type": "mount"}, {"type": "pid"}, {"type": "uts"}, {"type": "network", "path": "/run/n"},
                       {"type": "user"}, {"type": "time"}, {"type": "cgroup"}, {"type": "ipc"}],
        "uidMappings": [{"containerID": 0, "hostID": 1000, "size": 10}],
        "gidMappings": [{"containerID": 0, "hostID": 1000, "size": 10}],
        "timeOffsets": {"monotonic": {"secs": 1, "nanosecs": 2}},
        "devices": [{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 438, "uid": 0, "gid": 0}],
        "cgroupsPath": "/a/b",
        "resources": {
            "devices": [{"allow": False, "access": "rwm"},
                        {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "r"}],
            "memory": {"limit": 1 << 20, "reservation": 5, "swap": -1, "swappiness": 10, "disableOOMKiller": True},
            "cpu": {"shares": 10, "quota": 1000, "period": 10000, "cpus": "0-1", "mems": "0", "idle": 1, "burst": 5},
            "pids": {"limit": 7},
            "blockIO": {"weight": 10, "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 5}],
                        "weightDevice": [{"major": 8, "minor": 0, "weight": 10}]},
            "hugepageLimits": [{"pageSize": "2MB", "limit": 5}],
            "network": {"classID": 1, "priorities": [{"name": "lo", "priority": 1}]},
            "rdma": {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 5}},
            "unified": {"memory.high": "1"},
        },
        "sysctl": {"net.ipv4.ip_forward": "1"},
        "seccomp": {
            "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1, "architectures": ["SCMP_ARCH_X86_64"],
            "flags": ["SECCOMP_FILTER_FLAG_LOG"], "listenerPath": "/run/s", "listenerMetadata": "m",
            "syscalls": [{"names": ["read", "write"], "action": "SCMP_ACT_ALLOW",
                          "args": [{"index": 0, "value": 1, "valueTwo": 2, "op": "SCMP_CMP_MASKED_EQ"}]},
                         {"names": ["mount"], "action": "SCMP_ACT_NOTIFY"}],
        },
        "rootfsPropagation": "rslave",
        "maskedPaths": ["/proc/kcore"],
        "readonlyPaths": ["/proc/sys"],
        "mountLabel": "l",
        "personality": {"domain": "LINUX32", "flags": []},
        "intelRdt": {"closID": "c", "l3CacheSchema": "L3:0=1"},
    },
}  # fmt: skip

WORDS = st.sampled_from(
    ["", "/", "..", ".", "a", "-1", "0", "\0", "\n", ",", "=", "\\", "/a/../b", "//", "é", "\ud800", "x" * 5000,
     "%s", "{0}", "SCMP_ACT_ALLOW", "RLIMIT_CPU", "CAP_ALL", "user", "bind", "ro", "idmap=uids=0-1-2", "0-",
     "1-0", "0,,1", "c", "a", "b"]
)  # fmt: skip
NUMBERS = st.sampled_from(
    [0, 1, -1, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63), 10**30]
)
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    WORDS,
    NUMBERS,
    st.text(max_size=8),
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(),
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=6,
)


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [at] if at else []
    for key, inner in (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    ):
        found += places(inner, (*at, key))
    return found


PLACES = places(WHOLE)


def spoil(document: Any, place: tuple[Any, ...], how: str, value: Any) -> None:
    holder = document
    try:
        for key in place[:-1]:
            holder = holder[key]
        if how == "replace":
            holder[place[-1]] = value
        elif how == "remove":
            del holder[place[-1]]
        elif isinstance(holder, list):
            holder.append(copy.deepcopy(holder[place[-1]]))
        elif isinstance(value, str):
            holder[value] = holder[place[-1]]
    except (KeyError, IndexError, TypeError):
        return  # an earlier change took the place away


CHANGES = st.lists(
    st.tuples(st.sampled_from(PLACES), st.sampled_from(("replace", "replace", "remove", "double")), VALUES),
    max_size=4,
)


def compiled(document: Any, facts: HostFacts) -> None:
    text = json.dumps(document).encode()
    value = json.loads(text)
    json.check_characters(text, value)
    spec = decode(Spec, value)
    place = cgroup.placement(
        facts, "id", path=spec.linux.cgroups_path, resources=spec.linux.resources, every=True
    )
    where = Setting(cgroup=place, bundle="/bundle", container_id="id", console_fd=3, fifo_fd=4)
    to_wire(container_plan(spec, facts, where).steps)
    if spec.process:
        target = ExecTarget(7, 8, ("user", "mnt", "pid"), place)
        to_wire(exec_plan(spec, spec.process, target, facts, ExecSetting(console_fd=3)).steps)


def refused_or_compiled(document: Any, facts: HostFacts) -> None:
    try:
        compiled(document, facts)
    except (UsageError, DataError, HostError) as e:
        assert e.message and "Traceback" not in e.message


def test_the_whole_document_is_one() -> None:
    document = copy.deepcopy(WHOLE)
    del document["linux"]["intelRdt"]
    compiled(document, ROOT._replace(apparmor=True))


@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(CHANGES, st.sampled_from(FACTS))
def test_a_spoilt_document(changes: list[tuple[Any, ...]], facts: HostFacts) -> None:
    document = copy.deepcopy(WHOLE)
    del document["linux"]["intelRdt"]
    for place, how, value in changes:
        spoil(document, place, how, value)
    refused_or_compiled(document, facts)


@settings(max_examples=200, deadline=None)
@given(VALUES, st.sampled_from(FACTS))
def test_any_value(value: Any, facts: HostFacts) -> None:
    refused_or_compiled(value, facts)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200) | st.text().map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes(data: bytes) -> None:
    try:
        decode(Process, json.loads(data))
    except (DataError, UsageError) as e:
        assert e.message
