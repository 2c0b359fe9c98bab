"""S and C: reports, who waits for whom, what happens when one of them dies, what the workload inherits."""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from native.plans import ALL, Native, Rootfs, step

pytestmark = pytest.mark.requires("root", "overlay", "busybox")
_PR_SET_CHILD_SUBREAPER = 36


def test_runs_a_container(native: Native, rootfs: Rootfs) -> None:
    outcome = native.init(
        rootfs.shell("echo hello; id -u; hostname; exit 7", inside=[step("hostname", "box")])
    )
    assert (outcome.code, outcome.out, outcome.words) == (7, "hello\n0\nbox\n", [])
    assert outcome.reports[0].startswith("pid ")


def test_is_process_1_and_sees_nothing_of_the_host(native: Native, rootfs: Rootfs) -> None:
    outcome = native.init(rootfs.shell("echo $$; ls -d /tmp /root /home; ls /"))
    assert outcome.out.splitlines() == ["1", "bin", "dev", "proc"]


def test_tells_which_step_failed(native: Native, rootfs: Rootfs) -> None:
    plan = rootfs.plan("true", inside=[step("bind", "/nowhere/at/all", "/x", "dir", 0, 0, 0, 0, 0, 0)])
    failed = next(i for i, s in enumerate(plan) if s.op == "bind")
    outcome = native.init(plan)
    assert (outcome.code, outcome.words) == (125, [f"fail {failed} 2 "])


def test_the_filesystem_says_what_it_does_not_like(native: Native, rootfs: Rootfs) -> None:
    outcome = native.init(
        rootfs.plan("true", inside=[step("mount", "tmpfs", "tmpfs", "/x", 0, "colour=red")])
    )
    assert outcome.code == 125
    assert "22 tmpfs: Unknown parameter 'colour'" in outcome.words[0]
    outcome = native.init(rootfs.plan("true", inside=[step("mount", "nofs", "x", "/x", 0, "")]))
    assert "19 the kernel has no filesystem nofs" in outcome.words[0]


@pytest.mark.parametrize(
    ("command", "number"),
    [("nothing", 2), ("/bin/nothing", 2), ("/bin", 13), ("/etc/text", 13), ("/etc/x", 8)],
)
def test_the_reason_why_a_command_cannot_be_executed(
    native: Native, rootfs: Rootfs, command: str, number: int
) -> None:
    (rootfs.lower / "etc").mkdir()
    (rootfs.lower / "etc/text").write_text("text")
    (rootfs.lower / "etc/x").write_text("text")
    (rootfs.lower / "etc/x").chmod(0o755)
    plan = rootfs.plan(command)
    outcome = native.init(plan)
    assert (outcome.code, outcome.words) == (125, [f"fail {len(plan) - 1} {number} "])


def test_a_command_that_may_not_be_executed_is_told_from_one_that_is_not_there(
    native: Native, rootfs: Rootfs
) -> None:
    (rootfs.lower / "bin/locked").write_text("")
    (rootfs.lower / "bin/locked").chmod(0o644)
    assert native.init(rootfs.plan("locked")).words[0].split()[2] == "13"


def test_an_optional_step_only_warns(native: Native, rootfs: Rootfs) -> None:
    plan = rootfs.plan("true", host=[step("write", "/nowhere/x", "1", optional=True)])
    assert native.init(plan).words == ["warn 0 2 "]
    plan = rootfs.plan("true", inside=[step("sysctl", "no/such", "1", optional=True)])
    assert native.init(plan).words[0].split()[0] == "warn"


@pytest.mark.usefixtures("subreaper")
def test_without_wait_it_ends_when_the_workload_runs(native: Native, rootfs: Rootfs) -> None:
    outcome = native.init(rootfs.shell("exec sleep 30 >/dev/null 2>&1"), wait=False)
    pid = int(outcome.reports[0].split()[1])
    try:
        assert (outcome.code, outcome.words) == (0, [])
        assert Path(f"/proc/{pid}/root/bin/busybox").exists()
        # C's parent is S's parent: us.
        assert Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1] == str(os.getpid())
    finally:
        os.kill(pid, signal.SIGKILL)
        assert os.waitpid(pid, 0)[1] == signal.SIGKILL


@pytest.mark.usefixtures("subreaper")
def test_a_failed_start_leaves_no_process(native: Native, rootfs: Rootfs) -> None:
    plan = rootfs.plan("true", late=[step("write-child", "no_such_file", "x")])
    outcome = native.init(plan, wait=False)
    pid = int(outcome.reports[0].split()[1])
    assert outcome.code == 125
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL


def test_a_plan_without_clone_is_executed_by_s(native: Native, tmp_path: Path) -> None:
    outcome = native.init(
        [step("write-file", tmp_path / "made", 600, "text"), step("env", "A=b"), step("exec", "env")]
    )
    assert (outcome.code, outcome.out) == (0, "A=b\n")
    assert (tmp_path / "made").read_text() == "text"
    assert (tmp_path / "made").stat().st_mode & 0o777 == 0o600


def test_no_descriptor_of_the_host_reaches_the_workload(native: Native, rootfs: Rootfs) -> None:
    leak = os.open("/", os.O_PATH)
    os.set_inheritable(leak, True)
    try:
        outcome = native.init(rootfs.shell("for fd in /proc/self/fd/*; do echo ${fd##*/}; done"), fds=[leak])
    finally:
        os.close(leak)
    # The shell has one of its own open on the directory while it expands the pattern.
    assert outcome.out.split()[:3] == ["0", "1", "2"]
    assert len(outcome.out.split()) <= 4


def test_descriptors_can_be_handed_on(native: Native, rootfs: Rootfs) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        kept = fcntl.fcntl(theirs.fileno(), fcntl.F_DUPFD, 60)
        try:
            plan = rootfs.shell(f"echo through >&{kept}", process=[step("close-fds", kept + 1)])
            assert native.init(plan, fds=[kept]).code == 0
        finally:
            os.close(kept)
        assert ours.recv(100) == b"through\n"


def test_the_workload_is_not_the_program_on_disk(native: Native, rootfs: Rootfs) -> None:
    (
        ""
        """/proc/PID/exe of the executor is a sealed copy: executing or opening it never reaches the host's file."""
    )
    started = native.start(rootfs.plan("true", process=[step("wait", 0)]))
    pid = int(started.report().split()[1])
    assert started.report() == "ready"
    assert os.readlink(f"/proc/{pid}/exe").startswith("/memfd:knarr-native")
    with pytest.raises(OSError):
        open(f"/proc/{pid}/exe", "r+b")
    started.close_input()
    assert started.process.wait(20) == 0


@pytest.mark.usefixtures("subreaper")
def test_a_created_container_waits_for_its_start(native: Native, rootfs: Rootfs) -> None:
    """With `wait-fifo` S does not stay: it ends when C is ready. The end of the FIFO says that C has executed."""
    fifo = rootfs.base / "start"
    os.mkfifo(fifo)
    fd = os.open(fifo, os.O_PATH)
    try:
        created = native.start(rootfs.shell("exit 5", process=[step("wait-fifo", fd)]), fds=[fd], wait=False)
    finally:
        os.close(fd)
    pid = int(created.report().split()[1])
    assert created.report() == "ready"
    assert created.process.wait(20) == 0
    assert os.waitpid(pid, os.WNOHANG) == (0, 0)
    assert fifo.read_bytes() == b""
    assert created.report() == ""
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 5


@pytest.mark.usefixtures("subreaper")
def test_who_starts_a_container_hears_what_fails(native: Native, rootfs: Rootfs) -> None:
    fifo = rootfs.base / "start"
    os.mkfifo(fifo)
    fd = os.open(fifo, os.O_PATH)
    try:
        plan = rootfs.plan("absent", process=[step("wait-fifo", fd)])
        created = native.start(plan, fds=[fd], wait=False)
    finally:
        os.close(fd)
    pid = int(created.report().split()[1])
    assert created.report() == "ready"
    assert created.process.wait(20) == 0
    assert fifo.read_bytes() == f"fail {len(plan) - 1} 2 \0".encode()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 125


def test_a_missing_program_is_told_before_the_start(native: Native, rootfs: Rootfs) -> None:
    outcome = native.init(rootfs.plan("true", process=[step("find-command", "absent")]))
    assert outcome.code == 125
    assert outcome.words[-1].split()[2] == "2"
    for program in ("true", "/bin/true"):
        assert native.init(rootfs.plan("true", process=[step("find-command", program)])).code == 0


def test_pause_asks_and_waits(native: Native, rootfs: Rootfs) -> None:
    plan = rootfs.plan("true", late=[step("pause", "network")])
    outcome = native.init(plan, answers={"network": b"go"})
    assert outcome.code == 0
    assert outcome.words[0].split()[:2] == ["pause", "network"]
    assert outcome.words[0].split()[2] == outcome.reports[0].split()[1]


def test_pause_gives_up_when_nobody_is_there(native: Native, rootfs: Rootfs) -> None:
    outcome = native.init(rootfs.plan("true", late=[step("pause", "network")]), answers={"network": None})
    assert outcome.code == 125
    assert outcome.words[-1].endswith("given up")


def test_signals_are_forwarded_and_the_code_is_the_workloads(native: Native, rootfs: Rootfs) -> None:
    started = native.start(rootfs.shell("trap 'exit 9' TERM; echo up; while :; do sleep 0.05; done"))
    assert started.process.stdout and started.process.stdout.readline() == b"up\n"
    assert started.report().startswith("pid ")
    assert started.report() == ""
    started.process.terminate()
    assert started.process.wait(20) == 9


def test_a_killed_workload_is_128_and_the_signal(native: Native, rootfs: Rootfs) -> None:
    plan = rootfs.shell("kill -9 $$; sleep 5", process=[])
    plan = [s._replace(args=(ALL.replace("pid,", ""),)) if s.op == "clone" else s for s in plan]
    assert native.init(plan).code == 137


@pytest.mark.usefixtures("subreaper")
def test_c_does_not_outlive_s_before_enter(native: Native, rootfs: Rootfs) -> None:
    started = native.start(rootfs.plan("true", late=[step("pause", "here")]), wait=False)
    pid = int(started.report().split()[1])
    assert started.report().startswith("pause")
    started.process.kill()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 125


def test_a_container_killed_while_it_is_set_up_is_a_failure(native: Native, rootfs: Rootfs) -> None:
    started = native.start(rootfs.plan("true", process=[step("wait", 0)]))
    pid = int(started.report().split()[1])
    assert started.report() == "ready"
    os.kill(pid, signal.SIGKILL)
    assert "was killed while it was set up" in started.report()
    assert started.process.wait(20) == 125


def test_a_new_time_namespace_has_its_offsets(native: Native, rootfs: Rootfs) -> None:
    plan = rootfs.shell(
        "cat /proc/uptime",
        late=[step("write-child", "timens_offsets", "boottime 864000 0\nmonotonic 864000 0")],
    )
    plan = [s._replace(args=(ALL + ",time",)) if s.op == "clone" else s for s in plan]
    assert float(native.init(plan).out.split()[0]) - time.clock_gettime(time.CLOCK_BOOTTIME) > 863_000


@pytest.mark.usefixtures("subreaper")
def test_joins_a_running_container(native: Native, rootfs: Rootfs) -> None:
    started = native.init(
        rootfs.shell("exec sleep 30 >/dev/null 2>&1", inside=[step("hostname", "joined")]), wait=False
    )
    pid = int(started.reports[0].split()[1])
    start = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    kinds = "mnt,pid,net,ipc,uts,cgroup"
    tail = [step("clone", ""), step("enter"), step("chdir", "/"), step("env", "PATH=/bin")]
    try:
        joined = native.init(
            [step("join-pid", pid, start, kinds), *tail, step("exec", "sh", "-c", "hostname; ls /; ps")]
        )
        recycled = native.init([step("join-pid", pid, int(start) + 1, kinds), *tail, step("exec", "true")])
        by_file = native.init(
            [step("join", "uts", f"/proc/{pid}/ns/uts"), step("env"), step("exec", "hostname")]
        )
        spawned = native.init(
            [step("join-pid", pid, start, kinds), step("spawn", "true"), *tail, step("exec", "true")]
        )
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    assert joined.code == 0
    assert joined.out.startswith("joined\nbin\ndev\nproc\n")
    assert "sleep 30" in joined.out
    assert (recycled.code, recycled.words) == (125, ["fail 0 3 "])
    assert by_file.out == "joined\n"
    assert spawned.words == ["fail 1 1 "]  # it would be the container's program, with the host's rights


def test_a_joining_process_is_hidden_from_the_container(native: Native, rootfs: Rootfs) -> None:
    """Between joining and exec it still has descriptors of the host: nobody in the container may get at them."""
    # Which descriptors there are may be listed by root; what they are may not be seen, nor may they be opened.
    script = (
        "while read x; do for p in /proc/[2-9]*; do readlink $p/exe $p/cwd $p/fd/*; cat $p/environ $p/mem; done;"
        "echo looked; done 2>/dev/null"
    )
    bounding = [step("bounding", 0), step("user", 0, 0, "-"), step("caps", 0, 0, 0, 0)]
    container = native.start(rootfs.shell(script, process=bounding))
    pid = int(container.report().split()[1])
    assert container.report() == ""
    start = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    tail = [
        step("clone", ""),
        step("enter"),
        *bounding,
        step("wait", 0),
        step("env"),
        step("exec", "/bin/true"),
    ]
    joining = native.start([step("join-pid", pid, start, "mnt,pid"), *tail])
    assert joining.report().startswith("pid ")
    assert joining.report() == "ready"
    assert container.process.stdin and container.process.stdout
    container.process.stdin.write(b"\n")
    container.process.stdin.flush()
    assert container.process.stdout.readline() == b"looked\n"
    joining.close_input()
    assert joining.process.wait(20) == 0
    container.close_input()
    assert container.process.wait(20) == 0


def test_reap_leaves_a_process_1_that_collects_and_forwards(native: Native, rootfs: Rootfs) -> None:
    script = (
        "trap 'exit 3' USR1; (sleep 0.1 &) ; echo $$; cat /proc/1/comm; sleep 0.3; "
        "ps | grep -c '\\[sleep\\]'; kill -USR1 1; sleep 5"
    )
    outcome = native.init(rootfs.shell(script, process=[step("reap")]))
    lines = outcome.out.splitlines()
    assert outcome.code == 3
    assert lines[0] != "1"
    assert lines[2] == "0"


def test_the_reaper_keeps_no_rights_and_no_descriptors(native: Native, rootfs: Rootfs) -> None:
    process = [
        step("bounding", "0x1"),
        step("user", 65534, 65534, "0022"),
        step("caps", 0, 0, 0, 0),
        step("reap"),
    ]
    outcome = native.init(
        rootfs.shell("grep -E 'Uid|CapPrm' /proc/1/status; ls /proc/1/fd | wc -l", process=process)
    )
    assert outcome.out.splitlines()[:2] == ["Uid:\t65534\t65534\t65534\t65534", "CapPrm:\t0000000000000000"]


def test_a_command_that_is_not_there_behind_reap(native: Native, rootfs: Rootfs) -> None:
    plan = rootfs.plan("nothing", process=[step("reap")])
    assert native.init(plan).words == [f"fail {len(plan) - 1} 2 "]


def test_spawned_helpers(native: Native, rootfs: Rootfs) -> None:
    good = native.init(
        rootfs.plan("true", late=[step("spawn", "test", "{pid}", "-gt", "1"), step("wait-spawned")])
    )
    assert (good.code, good.words) == (0, [])
    late = [
        step("spawn", "true"),
        step("spawn", "sh", "-c", "echo no such range for {pid} >&2; exit 1"),
        step("wait-spawned"),
    ]
    bad = native.init(rootfs.plan("true", late=late))
    number = bad.reports[0].split()[1]
    assert bad.words == [f"fail 3 10 no such range for {number}\n"]
    missing = native.init(rootfs.plan("true", late=[step("spawn", "nosuchprogram"), step("wait-spawned")]))
    assert "nosuchprogram: No such file" in missing.words[0]


def test_the_operations_can_be_listed(native: Native) -> None:
    lines = subprocess.run(
        [native.path, "ops"], capture_output=True, text=True, env=native.env
    ).stdout.splitlines()
    names = [line.split()[0] for line in lines]
    assert names == sorted(names)  # it is searched by halves
    assert {"clone", "enter", "exec", "overlay"} <= set(names)


@pytest.fixture
def subreaper() -> Iterator[None]:
    """C is the child of S's parent; were that not us, nobody would collect it. Not for longer than the test: a
    container of another test would wait for us to collect its processes."""
    libc = ctypes.CDLL(None)
    assert libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    yield
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
