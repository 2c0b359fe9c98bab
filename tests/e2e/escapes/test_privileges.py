"""CVE-2022-29162, CVE-2022-24769, CVE-2022-27650 (inheritable capabilities), CVE-2026-30892 and CVE-2024-40635 (whom a
user's number means), CVE-2022-0492 (release_agent), and what root of a container may not do at all.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from e2e.escapes.conftest import Host
from e2e.escapes.engines import Engine, RuntimeEngine, config_of

pytestmark = [pytest.mark.requires("root", "overlay", "busybox"), pytest.mark.timeout(300)]

SETS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")


def held(text: str) -> dict[str, int]:
    rows = (line.split() for line in text.splitlines() if line.startswith("Cap"))
    return {name.rstrip(":"): int(value, 16) for name, value in rows}


def test_nothing_is_inheritable(engine: Engine) -> None:
    """A program with inheritable file capabilities would get them although its user has none."""
    image = engine.image()
    show = ("cat", "/proc/self/status")
    for user in ("", "1000:1000"):
        assert held(engine.run(image, *show, user=user).stdout)["CapInh"] == 0
    container = engine.start(image, "sleep", "1000")
    for user in ("", "1000:1000"):
        caps = held(container.exec(*show, user=user).stdout)
        assert caps["CapInh"] == caps["CapAmb"] == 0
        assert bool(caps["CapEff"]) == (user == ""), "a user without a name for it has capabilities"
    container.end()


def test_exec_with_one_more(bundles: RuntimeEngine) -> None:
    container = bundles.start(bundles.image(), "sleep", "1000")
    words = ("exec", "--cap", "CAP_NET_ADMIN")
    for user in ((), ("--user", "1000")):
        shown = bundles.runtime(*words, *user, _id(bundles), "cat", "/proc/self/status").stdout
        caps = held(shown)
        assert caps["CapEff"] >> 12 & 1 or user, shown
        assert caps["CapInh"] == 0, shown
    container.end()


def _id(bundles: RuntimeEngine) -> str:
    return str(bundles.runtime.ok("list", "-q")).split()[0]


def test_who_asks_for_them_has_them(bundles: RuntimeEngine) -> None:
    """The test above reads what it thinks it reads."""
    config = config_of("cat", "/proc/self/status")
    config["process"]["capabilities"]["inheritable"] = ["CAP_KILL"]
    bundle = bundles.bundle(bundles.image(), config=config)
    assert held(bundles.runtime("run", "-b", str(bundle), "one").stdout)["CapInh"] == 1 << 5


@pytest.mark.parametrize(
    ("user", "is_"),
    [
        ("1", "1:0"),
        ("1000", "1000:"),
        ("1:2", "1:2"),
        ("65534:0", "65534:0"),
        ("4294967296", ""),
        ("4294967295", ""),
        ("-1", ""),
        ("1:4294967296", ""),
        ("18446744073709551616", ""),
        ("0x1", ""),
        (" 1", ""),
    ],
)
def test_whom_a_number_means(engine: Engine, user: str, is_: str) -> None:
    """Nobody becomes root by a number that is too large, or is read halfway."""
    container = engine.start(engine.image(), "sleep", "1000")
    result = container.exec("sh", "-c", "echo $(id -u):$(id -g)", user=user)
    container.end()
    if is_:
        assert result.stdout.startswith(is_), str(result)
    elif result.code == 0:
        pytest.fail(f"{user!r} is nobody: {result}")


RELEASE = """
for c in cpu memory pids rdma misc devices freezer; do
    mkdir -p /tmp/$c && mount -t cgroup -o $c cgroup /tmp/$c && echo mounted $c
    mount -o remount,rw /sys/fs/cgroup && echo remounted
    mount -o remount,rw /sys/fs/cgroup/$c && echo remounted $c
done
for f in $(find /sys/fs/cgroup /tmp -name release_agent -o -name notify_on_release -o -name cgroup.procs); do
    echo /tmp/escape 2>/dev/null >$f && echo wrote $f
done
mkdir /sys/fs/cgroup/new /sys/fs/cgroup/*/new && echo made
"""
AS_ROOT_OF_A_NAMESPACE = f"unshare -UrmC sh -c '{RELEASE.replace(chr(39), '')}'"


@pytest.mark.parametrize("script", [RELEASE, AS_ROOT_OF_A_NAMESPACE], ids=["root", "namespace"])
def test_no_release_agent(engine: Engine, host: Host, script: str) -> None:
    result = engine.run(engine.image(), "sh", "-c", f"({script}) 2>/dev/null; echo end")
    lines = result.stdout.splitlines()
    assert lines[-1:] == ["end"], str(result)
    # In a namespace of its own a container may mount; what it then writes to is its own, or refused.
    assert not [line for line in lines if line.startswith(("wrote", "made", "remounted"))], str(result)


def test_cgroups_of_others_are_not_in_sight(engine: Engine) -> None:
    """A cgroup namespace: no path of the host, and nothing above."""
    shown = engine.run(engine.image(), "cat", "/proc/self/cgroup", "/proc/self/mountinfo").stdout
    paths = [
        line.split(":", 2)[2] for line in shown.splitlines() if line[0].isdigit() and line.count(":") >= 2
    ]
    assert paths and set(paths) == {"/"}, shown


FORBIDDEN: Sequence[tuple[str, str]] = (
    ("mknod", "mknod /tmp/disk b 254 0 && head -c1 /tmp/disk"),
    ("mem", "mknod /tmp/mem c 1 1 && head -c1 /tmp/mem"),
    ("module", "insmod /bin/busybox || modprobe loop"),
    ("mount", "mount -t tmpfs tmpfs /tmp"),
    ("bind", "mount -o bind / /tmp"),
    ("time", "date -s 2001-01-01; test $(date +%Y) = 2001"),
    ("hostname", "hostname other"),
    ("reboot", "reboot -f"),
    ("other processes", "nsenter -t 1 -m true && test -e {secret}"),
    ("chroot", "mkdir /tmp/x && chroot /tmp/x /bin/sh"),
    ("raw", "losetup -f /bin/busybox"),
)


@pytest.mark.parametrize(("what", "script"), FORBIDDEN, ids=[what for what, _ in FORBIDDEN])
def test_what_root_of_a_container_may_not(engine: Engine, host: Host, what: str, script: str) -> None:
    words = script.format(secret=host.secret)
    result = engine.run(engine.image(), "sh", "-c", f"({words}) >/dev/null 2>&1 && echo done; echo end")
    assert result.stdout == "end\n", str(result)


def test_set_user_id_programs_gain_nothing_with_no_new_privileges(
    bundles: RuntimeEngine, tmp_path: Path
) -> None:
    def change(root: Path) -> None:
        (root / "bin/raised").unlink(missing_ok=True)
        shutil.copy(root / "bin/busybox", root / "bin/raised")
        (root / "bin/raised").chmod(0o4755)

    config = config_of("/bin/raised", "id", "-u")
    config["process"]["user"] = {"uid": 1000, "gid": 1000}
    config["process"]["noNewPrivileges"] = True
    bundle = bundles.bundle(bundles.image(change), config=config)
    assert bundles.runtime("run", "-b", str(bundle), "one").stdout != "0\n"
