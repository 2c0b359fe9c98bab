"""What the doctor says about machines that are not this one."""

from __future__ import annotations

import os

import pytest

from knarr.errors import HostError
from knarr.host import doctor
from knarr.host.info import cgroup_layout, machine_info
from knarr.host.machine import Machine
from knarr.host.paths import Paths
from knarr.plan.facts import CgroupV1, CgroupV2, HostFacts, SubIds

ALL_CAPS = (1 << 41) - 1
V2 = CgroupV2(
    ("cpu", "cpuset", "io", "memory", "pids"), "/sys/fs/cgroup", "/x", ("cpu", "memory", "pids"), True
)
ROOT = HostFacts(
    kernel=(6, 1), arch="x86_64", euid=0, egid=0, user="root", capabilities=ALL_CAPS, cgroup_v2=V2,
    tools={"nft": "/usr/sbin/nft", "pasta": "/usr/bin/pasta"},
)  # fmt: skip
USER = ROOT._replace(
    euid=1000, egid=1000, user="peer", capabilities=0,
    subuids=(SubIds(100000, 65536),), subgids=(SubIds(100000, 65536),),
    tools={"newuidmap": "/usr/bin/newuidmap", "newgidmap": "/usr/bin/newgidmap", "pasta": "/usr/bin/pasta"},
)  # fmt: skip
FILES = {
    "/etc/os-release": 'PRETTY_NAME="Debian GNU/Linux 12"\nID=debian\n',
    "/proc/self/status": "Name:\tx\nSeccomp:\t0\n",
    "/proc/filesystems": "nodev\tsysfs\nnodev\toverlay\n\text4\n",
    "/proc/self/mountinfo": "1 0 8:1 / / rw - ext4 /dev/sda rw\n2 1 8:2 / /home rw - xfs /dev/sdb rw\n",
    "/proc/meminfo": "MemTotal:       1000 kB\nMemFree: 1 kB\n",
    "/proc/sys/net/ipv4/ip_forward": "1\n",
}
SETUID = os.stat_result((0o104755, 1, 1, 1, 0, 0, 1, 0, 0, 0))
PLAIN = os.stat_result((0o100755, 1, 1, 1, 0, 0, 1, 0, 0, 0))


def machine(facts: HostFacts, **files: str) -> Machine:
    texts = {**FILES, **files}
    return Machine(
        facts=facts,
        paths=Paths("/var/lib/knarr", "/run/knarr", ()),
        read=lambda path: texts.get(path, ""),
        exists=lambda path: path == "/proc/self/ns/user",
        opens=lambda path: True,
        stat=lambda path: SETUID,
        has_file_caps=lambda path: False,
        free_bytes=lambda path: 50 << 30,
        native=lambda: "/lib/knarr-native",
    )


def verdict(m: Machine, name: str) -> doctor.Check:
    return next(c for c in doctor.checks(m) if c.name == name)


@pytest.mark.parametrize("facts", [ROOT, USER], ids=["root", "user"])
def test_a_good_machine(facts: HostFacts) -> None:
    bad = [c for c in doctor.checks(machine(facts)) if c.status != doctor.OK]
    assert bad == []


def test_names_are_unique_and_every_complaint_has_a_way_out() -> None:
    nothing = HostFacts(kernel=(4, 19), arch="x86_64", euid=1000, egid=1000)
    m = machine(nothing)._replace(
        read=lambda path: "",
        exists=lambda path: False,
        opens=lambda path: False,
        free_bytes=lambda path: None,
    )
    found = list(doctor.checks(m))
    assert len({c.name for c in found}) == len(found)
    assert [c.name for c in found if c.status != doctor.OK and not c.mend] == []


@pytest.mark.parametrize(
    ("setting", "mend"),
    [
        ({"/proc/sys/user/max_user_namespaces": "0\n"}, "user.max_user_namespaces=15000"),
        ({"/proc/sys/kernel/unprivileged_userns_clone": "0\n"}, "kernel.unprivileged_userns_clone=1"),
        (
            {"/proc/sys/kernel/apparmor_restrict_unprivileged_userns": "1\n"},
            "kernel.apparmor_restrict_unprivileged_userns=0",
        ),
    ],
)
def test_user_namespaces_switched_off(setting: dict[str, str], mend: str) -> None:
    check = verdict(machine(USER, **setting), "user namespaces")
    assert check.status == doctor.MISSING
    assert mend in check.mend
    assert verdict(machine(ROOT, **setting), "user namespaces").status == doctor.WARN


def test_ranges() -> None:
    m = machine(
        USER._replace(subuids=()), **{"/etc/subuid": "other:100000:65536\n", "/etc/subgid": "x:165536:10\n"}
    )
    check = verdict(m, "subordinate ids")
    assert check.status == doctor.WARN
    # Not the ids of another user, who could then reach our files.
    assert check.mend == "sudo usermod --add-subuids 165546-231081 --add-subgids 165546-231081 peer"
    assert verdict(machine(USER._replace(subuids=(SubIds(5, 10),))), "subordinate ids").status == doctor.WARN


def test_helpers() -> None:
    name = "newuidmap, newgidmap"
    assert "chmod u+s" in verdict(machine(USER)._replace(stat=lambda path: PLAIN), name).mend
    assert (
        verdict(machine(USER)._replace(stat=lambda p: PLAIN, has_file_caps=lambda p: True), name).status
        == "ok"
    )
    assert verdict(machine(USER._replace(tools={})), name).mend == "sudo apt-get install -y uidmap"


def test_overlay() -> None:
    assert verdict(machine(ROOT, **{"/proc/filesystems": "\text4\n"}), "overlay").status == doctor.MISSING
    on_nfs = "1 0 8:1 / / rw - ext4 /dev/sda rw\n2 1 0:2 / /var/lib rw - nfs4 x rw\n"
    check = verdict(machine(ROOT, **{"/proc/self/mountinfo": on_nfs}), "overlay")
    assert check.status == doctor.MISSING
    assert "nfs4" in check.meaning
    assert verdict(machine(ROOT), "overlay").meaning == "on ext4"


def test_cgroups() -> None:
    assert verdict(machine(ROOT._replace(cgroup_v2=None)), "cgroups").status == doctor.WARN
    hybrid = ROOT._replace(
        cgroup_v2=CgroupV2(("hugetlb",), "/sys/fs/cgroup/unified", "/"),
        cgroups_v1=tuple(
            CgroupV1((c,), f"/x/{c}", "/") for c in ("cpu", "memory", "pids", "cpuset", "freezer")
        ),
    )
    check = verdict(machine(hybrid), "cgroups")
    assert check.status == doctor.OK
    assert "v2 beside it" in check.meaning
    check = verdict(machine(hybrid._replace(cgroups_v1=hybrid.cgroups_v1[1:])), "cgroups")
    assert check.meaning.endswith("missing controllers: cpu")


def test_delegation() -> None:
    name = "cgroup delegation"
    v1 = USER._replace(cgroups_v1=(CgroupV1(("memory",), "/sys/fs/cgroup/memory", "/"),))
    assert "not applied" in verdict(machine(v1), name).meaning
    not_ours = USER._replace(cgroup_v2=V2._replace(own_writable=False))
    assert verdict(machine(not_ours), name).status == doctor.WARN
    with_systemd = not_ours._replace(systemd=True)
    assert "Delegate=" in verdict(machine(with_systemd), name).mend
    given = {
        "/sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service/cgroup.controllers": "cpu memory pids\n"
    }
    assert verdict(machine(with_systemd, **given), name).status == doctor.OK


def test_network() -> None:
    bare = machine(ROOT._replace(tools={}))
    assert verdict(bare, "nftables").mend == "sudo apt-get install -y nftables"
    assert verdict(bare, "rootless network").status == doctor.OK  # root does not need it
    bare_user = machine(USER._replace(tools={}))
    assert verdict(bare_user, "rootless network").mend == "sudo apt-get install -y slirp4netns"
    no_tun = machine(USER)._replace(opens=lambda path: False)
    assert verdict(no_tun, "rootless network").status == doctor.WARN


def test_privileges() -> None:
    assert verdict(machine(ROOT._replace(capabilities=0)), "privileges").status == doctor.MISSING
    assert (
        verdict(machine(ROOT._replace(capabilities=ALL_CAPS & ~(1 << 24))), "privileges").status
        == doctor.WARN
    )


def test_space_and_native() -> None:
    assert (
        verdict(machine(ROOT)._replace(free_bytes=lambda path: 10 << 20), "disk space").status == doctor.WARN
    )

    def broken() -> str:
        raise HostError("it is not there", hint="make native")

    check = verdict(machine(ROOT)._replace(native=broken), "native program")
    assert check == doctor.Check("native program", doctor.MISSING, "it is not there", "make native")


def test_info() -> None:
    found = machine_info(machine(USER))
    assert found["operating system"] == "Debian GNU/Linux 12"
    assert found["memory bytes"] == "1024000"
    assert found["cgroups"] == "v2"
    assert found["security"] == "seccomp rootless"
    assert found["user"] == "peer (rootless)"
    assert found["subordinate ids"] == "65536"
    assert cgroup_layout(machine(ROOT._replace(cgroup_v2=None))) == "none"
