"""The spec's mounts and devices as steps, where the setter's rights and the container's differ."""

from __future__ import annotations

import pytest

from knarr.errors import UsageError
from knarr.oci.spec import Device, IdMap, Linux, Mount, Namespace, Process, Root, Spec
from knarr.plan.facts import CgroupV2, HostFacts
from knarr.plan.setup import Setting, container_plan
from knarr.plan.step import Step

ROOT = HostFacts((6, 12), "x86_64", 0, 0, "root", (1 << 41) - 1)
USER = HostFacts((6, 12), "x86_64", 1000, 1000, "ada", 0)
SELINUX = ROOT._replace(selinux=True)
ONE, MANY = (IdMap(0, 1000, 1),), (IdMap(0, 100000, 65536),)


def steps(
    *mounts: Mount,
    kinds: str = "mount",
    facts: HostFacts = ROOT,
    maps: tuple[IdMap, ...] = (),
    **linux: object,
) -> list[Step]:
    namespaces = tuple(Namespace(kind) for kind in kinds.split())
    spec = Spec(
        "1.3.0", Root("/r"), mounts, Process("/", ("sh",)),
        linux=Linux(namespaces=namespaces, uid_mappings=maps, gid_mappings=maps)._replace(**linux),
    )  # fmt: skip
    return list(container_plan(spec, facts, Setting(bundle="/b")).steps)


def of(found: list[Step], origin: str) -> list[str]:
    return [str(s) for s in found if s.origin == origin]


def test_a_bind_in_a_user_namespace_is_opened_by_the_setter() -> None:
    mount = Mount("/d", "data", "bind", ("rbind", "ro", "rprivate"))
    found = steps(mount, kinds="mount user", maps=MANY)
    assert of(found, "mounts[0]") == [
        "open-tree 0 /b/data auto 1 0x84000",
        "bind @0 /d auto 1 0x1 0x0 0x0 0x0 0x44000",
    ]
    order = [s.op for s in found]
    assert order.index("open-tree") < order.index("clone")
    # Who has no rights on the host, or no namespace, has nothing to gain.
    assert of(steps(mount), "mounts[0]") == ["bind /b/data /d auto 1 0x1 0x0 0x0 0x0 0x44000"]
    found = steps(mount, kinds="mount user", facts=USER, maps=ONE)
    assert of(found, "mounts[0]") == ["bind /b/data /d auto 1 0x1 0x0 0x0 0x0 0x44000"]


def test_what_is_to_be_shared_with_the_host_stays_so() -> None:
    found = steps(
        Mount("/d", "/s", "", ("bind", "shared")), kinds="mount user", maps=MANY, rootfs_propagation="shared"
    )
    assert of(found, "mounts[0]")[0] == "open-tree 0 /s auto 0 0x0"


def test_ids_are_mapped_where_the_rights_are() -> None:
    mount = Mount("/d", "/s", "", ("bind", "ridmap"), (IdMap(0, 5, 1),), (IdMap(0, 6, 1),))
    maps = "'0 5 1' '0 6 1' 1"
    assert of(steps(mount), "mounts[0]") == [f"idmap-bind /s /d auto 0 0x0 0x0 0x0 0x0 0x0 {maps}"]
    found = steps(mount, kinds="mount user", maps=MANY)
    assert of(found, "mounts[0]") == [
        f"open-tree 0 /s auto 0 0x84000 {maps}",
        "bind @0 /d auto 0 0x0 0x0 0x0 0x0 0x0",
    ]


@pytest.mark.parametrize(
    ("mount", "complaint"),
    [
        (Mount("/d", "/s", "", ("bind", "idmap")), "mounts[0].options: an ID-mapped mount needs"),
        (Mount("/d", "/s", "", ("bind",), ONE), "mounts[0]: has uidMappings or gidMappings"),
        (Mount("/", "t", "tmpfs", ("tmpcopyup",)), "mounts[0].options: tmpcopyup cannot copy"),
    ],
)
def test_refused(mount: Mount, complaint: str) -> None:
    with pytest.raises(UsageError) as refused:
        steps(mount)
    assert refused.value.message.startswith(complaint)


@pytest.mark.parametrize(
    ("kind", "namespace", "source"),
    [("proc", "pid", "/proc"), ("sysfs", "network", "/sys"), ("mqueue", "ipc", "/dev/mqueue")],
)
def test_filesystems_of_a_namespace_that_is_the_hosts(kind: str, namespace: str, source: str) -> None:
    mount = Mount("/m", "x", kind, ("nosuid", "ro"))
    own = [f"mount {kind} x /m 0x3 ''"]
    bound = [f"bind {source} /m auto 1 0x0 0x0 0x3 0x0 0x0"]
    assert of(steps(mount), "mounts[0]") == own
    assert of(steps(mount, kinds="mount user", maps=MANY), "mounts[0]") == bound
    assert of(steps(mount, kinds=f"mount user {namespace}", maps=MANY), "mounts[0]") == own
    assert of(steps(mount, kinds="mount user", facts=USER, maps=ONE), "mounts[0]") == bound


def test_a_remount_without_bind_is_about_the_filesystem_too() -> None:
    assert of(steps(Mount("/t", "", "", ("remount", "size=2m", "sync", "noexec"))), "mounts[0]") == [
        "remount /t 0x8 0x0 0 sync,size=2m"
    ]
    assert of(steps(Mount("/t", "", "", ("remount", "bind", "size=2m", "rro"))), "mounts[0]") == [
        "remount /t 0x1 0x0 1"
    ]


def test_a_tmpfs_has_the_mode_it_names_or_that_of_its_directory() -> None:
    assert of(steps(Mount("/t", "t", "tmpfs", ("size=1m",))), "mounts[0]") == [
        "mount tmpfs t /t 0x0 size=1m 1"
    ]
    assert of(steps(Mount("/t", "t", "tmpfs", ("mode=700",))), "mounts[0]") == [
        "mount tmpfs t /t 0x0 mode=700"
    ]


def test_links_at_the_ends_of_a_bind() -> None:
    options = ("bind", "src-nofollow", "dest-nofollow")
    assert of(steps(Mount("/t", "/s", "", options)), "mounts[0]") == [
        "bind /s /t auto,source-link,target-link 0 0x0 0x0 0x0 0x0 0x0"
    ]
    copied = steps(Mount("/t", "/s", "", ("bind", "copy-symlink")), kinds="mount user", maps=MANY)
    assert of(copied, "mounts[0]") == ["bind /s /t auto,copy-link 0 0x0 0x0 0x0 0x0 0x0"]


def test_a_mount_label_is_the_filesystems_context() -> None:
    mounts = (Mount("/t", "t", "tmpfs", ("mode=1",)), Mount("/p", "p", "proc"))
    found = steps(*mounts, facts=SELINUX, mount_label="u:r:t:s0:c1,c2")
    assert of(found, "mounts[0]") == ["mount tmpfs t /t 0x0 mode=1,context=u:r:t:s0:c1\\,c2"]
    assert of(found, "mounts[1]") == ["mount proc p /p 0x0 ''"]
    assert of(steps(*mounts, mount_label="u:r:t:s0"), "mounts[0]") == ["mount tmpfs t /t 0x0 mode=1"]


def test_the_hosts_mounts_are_out_of_reach_unless_sharing_is_asked() -> None:
    for value, first, root, last in (
        ("", "0x84000", "", None),
        ("private", "0x84000", "", "0x40000"),
        ("unbindable", "0x84000", "", "0x20000"),
        ("slave", "0x84000", " 0x80000", "0x80000"),
        ("rslave", "0x84000", " 0x80000", "0x84000"),
        ("shared", "0x100000", "", "0x100000"),
    ):
        found = [str(s) for s in steps(rootfs_propagation=value) if s.op in ("propagation", "root")]
        end = [f"propagation / {last}"] if last else []
        assert found == [f"propagation / {first}", f"root /r 1{root}", *end], value


def test_devices_that_the_container_may_not_make() -> None:
    devices = (Device("/dev/a", "c", 1, 5, 0o640, 3, 4), Device("/dev/p", "p", 0, 0, 0o600, 3, 4))
    found = steps(kinds="mount user", maps=MANY, devices=devices)
    assert of(found, "linux.devices[0]") == [
        "open-node 0 c 1 5 640 100003 100004",
        "bind @0 /dev/a file 0 0xa 0x0 0x0 0x0 0x0",
    ]
    assert of(found, "linux.devices[1]") == ["device /dev/p p 0 0 600 3 4 1"]
    assert of(steps(devices=devices), "linux.devices[0]") == ["device /dev/a c 1 5 640 3 4 1"]
    found = steps(kinds="mount user", facts=USER, maps=ONE, devices=devices)
    assert of(found, "linux.devices[0]") == ["bind /dev/a /dev/a file 0 0xa 0x0 0x0 0x0 0x0"]
    with pytest.raises(UsageError, match=r"linux.devices\[0\].uid: 70000 does not exist"):
        steps(kinds="mount user", maps=MANY, devices=(devices[0]._replace(uid=70000),))


def test_a_masked_path_is_absolute_and_a_read_only_one_from_the_root() -> None:
    """As runc and crun have it."""
    with pytest.raises(UsageError, match=r"linux.maskedPaths\[1\]: 'proc/x' is not absolute"):
        steps(masked_paths=("/a", "proc/x"))
    assert of(steps(readonly_paths=("proc/x",)), "linux.readonlyPaths[0]") == ["readonly /proc/x"]


def test_the_images_own_dev_is_no_link() -> None:
    assert "no-link /dev" in of(steps(), "linux.devices")
    assert "no-link /dev" not in of(steps(Mount("/dev/", "t", "tmpfs")), "linux.devices")


def test_a_user_namespace_without_maps_has_what_the_caller_may_give() -> None:
    assert of(steps(kinds="mount user"), "linux.uidMappings") == [r"write-child uid_map '0 0 4294967295\n'"]
    assert of(steps(kinds="mount user", facts=USER), "linux.uidMappings") == [
        r"write-child uid_map '0 1000 1\n'"
    ]


def test_ids_of_a_namespace_that_is_joined_are_as_it_has_them() -> None:
    spec = Spec(
        "1.3.0", Root("/r"), (Mount("/d", "/s", "", ("bind", "idmap")),), Process("/", ("sh",)),
        linux=Linux(namespaces=(Namespace("mount"), Namespace("user", "/n/user"))),
    )  # fmt: skip
    found = list(container_plan(spec, ROOT, Setting(bundle="/b")).steps)
    assert of(found, "mounts[0]")[0] == "open-tree 0 /s auto 0 0x84000 /n/user '' 0"


def test_a_runtimes_bind_has_no_attribute_that_it_does_not_name() -> None:
    def bind(*options: str, kinds: str = "mount", maps: tuple[IdMap, ...] = ()) -> str:
        spec = Spec(
            "1.3.0", Root("/r"), (Mount("/d", "/s", "", ("bind", *options)),), Process("/", ("sh",)),
            linux=Linux(tuple(Namespace(kind) for kind in kinds.split()), maps, maps),
        )  # fmt: skip
        return of(list(container_plan(spec, ROOT, Setting(strict=True)).steps), "mounts[0]")[-1]

    assert bind("ro") == "bind /s /d auto,exact 0 0x1 0x0 0x0 0x0 0x0"
    assert bind("dev") == "bind /s /d auto,exact 0 0x0 0x4 0x0 0x0 0x0"
    assert bind("rprivate") == "bind /s /d auto 0 0x0 0x0 0x0 0x0 0x44000"
    assert bind("ro", kinds="mount user", maps=MANY) == "bind @0 /d auto,exact,locked 0 0x1 0x0 0x0 0x0 0x0"


def test_places_in_the_root_filesystem_by_their_names_on_the_host() -> None:
    mounts = (Mount("/r/a", "/r/b", "", ("bind",)), Mount("/rest", "/rest", "", ("bind",)))
    assert of(steps(*mounts), "mounts[0]") == ["bind /r/b /a auto 0 0x0 0x0 0x0 0x0 0x0"]
    # Whatever the mounts before it have put there: so it is not opened early.
    found = steps(*mounts, kinds="mount user", maps=MANY)
    assert of(found, "mounts[0]") == ["bind /r/b /a auto 0 0x0 0x0 0x0 0x0 0x0"]
    assert of(found, "mounts[1]")[0] == "open-tree 1 /rest auto 0 0x84000"


def test_a_path_is_masked_once() -> None:
    found = steps(masked_paths=("/a", "/b", "/a"))
    assert [s.args for s in found if s.op == "mask"] == [("/a",), ("/b",)]


def test_what_others_are_mounted_in_is_read_only_at_the_end() -> None:
    mounts = (Mount("/dev", "t", "tmpfs", ("ro", "mode=755")), Mount("/dev/pts", "p", "devpts", ("ro",)))
    found = steps(*mounts)
    assert of(found, "mounts[0]") == ["mount tmpfs t /dev 0x0 mode=755", "remount /dev 0x1 0x0 0"]
    assert of(found, "mounts[1]") == ["mount devpts p /dev/pts 0x1 ''"]
    order = [str(s).split()[0] for s in found]
    assert (
        max(i for i, op in enumerate(order) if op == "device") < order.index("remount") < order.index("pivot")
    )


def test_options_of_the_unified_hierarchy_are_the_kernels_to_judge() -> None:
    facts = ROOT._replace(cgroup_v2=CgroupV2(("memory",), "/sys/fs/cgroup", "/"))
    mount = Mount("/sys/fs/cgroup", "cgroup", "cgroup", ("ro", "nosuid", "no_such_option"))
    (found,) = [s for s in steps(mount, kinds="mount cgroup", facts=facts) if s.op == "mount"]
    assert found.args[0] == "cgroup2" and found.args[-1] == "no_such_option"
