"""Programs that the set-up waits for: what they get, whose files they are, and how their failure is told."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from knarr.plan.step import Step
from native.plans import Native, Rootfs, step
from native.test_process import UNAME, refusing

pytestmark = pytest.mark.requires("root", "overlay", "busybox")

BEFORE, AFTER = '{"id":"a","pid":', ',"bundle":"{pid}"}'


def hook(
    path: str, *argv: object, timeout: int = 0, directory: object = "", env: tuple[str, ...] | None = ()
) -> Step:
    variables = ("-",) if env is None else (len(env), *env)
    return step("hook", path, timeout, directory, BEFORE, AFTER, *variables, *argv)


def shell(script: str, path: str = "/bin/sh", **options: object) -> Step:
    return hook(path, "sh", "-c", script, **options)  # type: ignore[arg-type]


def test_before_the_root_is_left_it_is_the_hosts_program(
    native: Native, rootfs: Rootfs, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    script = (
        f"cat > {out}; readlink /proc/self/ns/mnt >> {out}; pwd >> {out}; ls {rootfs.base}/root/proc/1/stat"
    )
    plan = rootfs.plan("true", inside=[shell(script, directory=tmp_path)])
    assert native.init(plan).words == []
    # The pid as the container sees it; a brace in the document is only that.
    state = f"{BEFORE}1{AFTER}"
    assert out.read_text().startswith(state)
    namespace, directory = out.read_text().removeprefix(state).split()
    assert namespace != os.readlink("/proc/self/ns/mnt")
    assert directory == str(tmp_path)


def test_afterwards_it_is_the_containers(native: Native, rootfs: Rootfs) -> None:
    script = "cat > /state; id -u >> /state; echo $A $B >> /state; readlink /proc/self/fd/5 >> /state; :"
    process = [
        step("user", 1000, 1000, "-"),
        step("env", "A=process", "PATH=/bin"),
        shell(script, env=None),
    ]
    (rootfs.upper).chmod(0o777)
    outcome = native.init(rootfs.shell("cat /state", process=process))
    assert outcome.out == '{"id":"a","pid":1,"bundle":"{pid}"}1000\nprocess\n', outcome


def test_it_has_the_environment_it_names_and_no_other(native: Native, rootfs: Rootfs) -> None:
    (rootfs.lower / "print").symlink_to("bin/env")
    process = [step("env", "A=process", "PATH=/bin"), shell("env > /here", env=("PATH=/bin", "B=c"))]
    out = native.init(rootfs.shell("cat /here", process=process)).out.splitlines()
    assert {"B=c", "PATH=/bin"} <= set(out)
    assert not [line for line in out if line.startswith("A=")]


def test_its_first_word_is_its_path_when_none_is_given(native: Native, rootfs: Rootfs) -> None:
    (rootfs.lower / "bin/pwd").symlink_to("busybox")
    assert native.init(rootfs.plan("true", process=[hook("/bin/pwd")])).words == []


def test_no_descriptor_but_three(native: Native, rootfs: Rootfs) -> None:
    read, write = os.pipe()
    try:
        os.set_inheritable(read, True)
        process = [shell("ls /proc/self/fd | wc -l > /count")]
        outcome = native.init(rootfs.shell("cat /count", process=process), fds=[read, write])
    finally:
        os.close(read)
        os.close(write)
    assert outcome.out == "4\n"  # and that of the directory it lists


def test_in_the_setter_the_pid_is_the_setters(native: Native, rootfs: Rootfs, tmp_path: Path) -> None:
    out = tmp_path / "out"
    outcome = native.init(rootfs.plan("true", late=[shell(f"cat > {out}")]))
    assert f'"pid":{outcome.reports[0].split()[1]},' in out.read_text()


@pytest.mark.parametrize(
    ("script", "text"),
    [
        ("exit 3", "0 exit status 3"),
        ("echo so; echo and so >&2; exit 1", "0 exit status 1: so\nand so\n"),
        ("kill -9 $$", "0 killed by signal 9 (killed)"),
    ],
)
def test_its_failure_is_the_plans(native: Native, rootfs: Rootfs, script: str, text: str) -> None:
    for parts in ({"inside": [shell(script)]}, {"process": [shell(script)]}):
        plan = rootfs.plan("true", **parts)
        outcome = native.init(plan)
        at = next(i for i, s in enumerate(plan) if s.op == "hook")
        assert (outcome.code, outcome.words) == (125, [f"fail {at} {text}"])


def test_one_that_is_not_there(native: Native, rootfs: Rootfs) -> None:
    assert native.init(rootfs.plan("true", process=[hook("/nowhere")])).words[0].endswith(" 2 ")
    (rootfs.lower / "text").write_text("text")
    assert native.init(rootfs.plan("true", process=[hook("/text")])).words[0].endswith(" 13 ")


def test_when_its_time_is_up_it_is_killed_with_what_it_started(
    native: Native, rootfs: Rootfs, tmp_path: Path
) -> None:
    pids = tmp_path / "pids"
    script = f"sleep 1000 & echo $! > {pids}; echo waiting; sleep 1000"
    outcome = native.init(rootfs.plan("true", clone="mnt,net", inside=[shell(script, timeout=1)]))
    assert outcome.code == 125
    assert outcome.words[0].endswith(" 110 timed out after 1 s: waiting\n")
    pid = int(pids.read_text())
    while _lives(pid):
        time.sleep(0.01)


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def test_it_has_ended_when_its_process_has(native: Native, rootfs: Rootfs) -> None:
    """Somebody else may still hold its output; it may have closed it long before; it may say more than is kept."""
    for script in (
        "sleep 1000 & exit 0",
        "exec >&- 2>&-; sleep 0.2",
        "head -c 300000 /dev/zero | tr '\\0' x",
        "true < /dev/null",
    ):
        outcome = native.init(rootfs.plan("true", inside=[shell(script)]))
        assert (outcome.code, outcome.words) == (0, []), script


def test_a_long_document_that_nobody_reads(native: Native, rootfs: Rootfs) -> None:
    long = step("hook", "/bin/true", 0, "", "x" * 300_000, "y", "-")
    assert native.init(rootfs.plan("true", inside=[long])).words == []


def test_c_waits_where_it_is_told_to(native: Native, rootfs: Rootfs) -> None:
    """A pause of C names it as the setter does, not as process 1."""
    plan = rootfs.plan("true", inside=[step("pause", "mounted")])
    outcome = native.init(plan, answers={"mounted": b"go"})
    assert outcome.code == 0
    assert outcome.reports[1] == f"pause mounted {outcome.reports[0].split()[1]}"
    assert native.init(plan, answers={"mounted": None}).words[1].endswith(" 125 given up")


@pytest.mark.parametrize(
    "args",
    [
        ("/bin/true", "x", "", "", "", "-"),
        ("/bin/true", "-1", "", "", "", "-"),
        ("/bin/true", "0", "", "", "", "1"),
        ("/bin/true", "0", "", "", "", "-1", "a"),
        ("/bin/true", "0", "", "", "", "99999999999999999999"),
        ("/bin/true", "0", "/nowhere", "", "", "-"),
    ],
)
def test_refuses_what_is_no_hook(native: Native, rootfs: Rootfs, args: tuple[str, ...]) -> None:
    assert native.init(rootfs.plan("true", inside=[step("hook", *args)])).code == 125


def test_it_is_held_by_the_filter_that_is_loaded_before_it(native: Native, rootfs: Rootfs) -> None:
    process = [
        step("no-new-privs"),
        step("seccomp", 0, refusing(UNAME)),
        shell("/bin/busybox uname > /a; :"),
        step("seccomp-now"),
        shell("/bin/busybox uname > /b; grep Seccomp: /proc/self/status > /c"),
    ]
    outcome = native.init(rootfs.shell("cat /a /b /c", process=process))
    assert outcome.out == "Linux\n\nSeccomp:\t2\n", outcome
