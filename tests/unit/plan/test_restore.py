"""What stands ready for criu."""

from __future__ import annotations

from knarr.oci.spec import Linux, Mount, Pids, Process, Resources, Root, Spec
from knarr.plan.cgroup import CgroupPlacement
from knarr.plan.facts import CgroupV2, HostFacts
from knarr.plan.restore import restore_plan

FACTS = HostFacts((6, 1), "x86_64", 0, 0, cgroup_v2=CgroupV2(("pids",), "/cg", "/"))
PLACE = CgroupPlacement(v2="/cg/c1", v2_controllers=("pids",))


def test_the_order() -> None:
    mounts = (
        Mount("/proc", "proc", "proc"),
        Mount("/dev", "tmpfs", "tmpfs"),
        Mount("/dev/pts", "devpts", "devpts"),  # comes back with the tmpfs
        Mount("/etc/hosts", "/h", "bind", ("rbind",)),
        Mount("/data", "/d", "bind", ("bind",)),
        Mount("/data/inner", "/i", "bind", ("bind",)),  # is the source's
        Mount("/sys/fs/cgroup", "cgroup", "cgroup"),  # criu's own
    )
    spec = Spec(
        "1.2.0",
        root=Root("r"),
        process=Process("/", ("sh",)),
        mounts=mounts,
        linux=Linux(resources=Resources(pids=Pids(5))),
    )
    plan, last = restore_plan(
        spec,
        FACTS,
        PLACE,
        "/b/r",
        argv=("/c", "swrk", "3"),
        env=("A=b",),
        descriptors=2,
        files=frozenset({"/h"}),
    )
    steps = [(s.op, *s.args) for s in plan.steps]
    at = steps.index(("clone", ""))
    assert ("cgroup-v2", "/cg/c1") in steps[:at]
    assert steps[at + 1 :] == [
        ("enter",),
        ("propagation", "/", "0x84000"),
        ("root", "/b/r", "1"),
        ("make-dir", "/proc", "755", "0", "0"),
        ("make-dir", "/dev", "755", "0", "0"),
        ("make-file", "/etc/hosts", "755"),
        ("make-dir", "/data", "755", "0", "0"),
        ("close-fds", "5"),
        ("env", "A=b"),
        ("exec", "/c", "swrk", "3"),
    ]
    # criu has processes of its own, which the container's limit must not count.
    assert [(s.op, *s.args) for s in last] == [("write", "/cg/c1/pids.max", "5")]
