"""The process that the workload begins as: identity, capabilities, limits, filters, names."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
from pathlib import Path

import pytest

from native.plans import ALL, Native, Rootfs, step

pytestmark = pytest.mark.requires("root", "overlay", "busybox")

STATUS = "grep -E '^(Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp:|Umask)' /proc/self/status"
KILL, SETPCAP, NET_BIND = 1 << 5, 1 << 8, 1 << 10


def fields(out: str) -> dict[str, str]:
    return {
        name: " ".join(value.split()) for name, _, value in (line.partition(":") for line in out.splitlines())
    }


def test_identity_and_capabilities(native: Native, rootfs: Rootfs) -> None:
    process = [
        step("bounding", hex(KILL | NET_BIND)),
        step("user", 1000, 1001, "0027", 5, 6),
        step("caps", hex(KILL), hex(KILL | NET_BIND), hex(NET_BIND), hex(NET_BIND)),
        step("no-new-privs"),
    ]
    found = fields(native.init(rootfs.shell(STATUS, process=process)).out)
    assert found["Uid"] == "1000 1000 1000 1000"
    assert found["Gid"] == "1001 1001 1001 1001"
    assert (found["Groups"], found["Umask"], found["NoNewPrivs"]) == ("5 6", "0027", "1")
    # Not root: after exec only the ambient set is left.
    assert int(found["CapPrm"], 16) == int(found["CapEff"], 16) == int(found["CapAmb"], 16) == NET_BIND
    assert int(found["CapBnd"], 16) == KILL | NET_BIND


def test_root_keeps_what_the_bounding_set_allows(native: Native, rootfs: Rootfs) -> None:
    process = [step("bounding", hex(KILL)), step("user", 0, 0, "-"), step("caps", hex(KILL), hex(KILL), 0, 0)]
    found = fields(native.init(rootfs.shell(STATUS, process=process)).out)
    assert int(found["CapEff"], 16) == int(found["CapBnd"], 16) == KILL
    assert (found["Groups"], found["Umask"]) == ("", "0022")


def test_limits(native: Native, rootfs: Rootfs) -> None:
    process = [
        step("rlimit", "nofile", 100, 200),
        step("rlimit", "core", 0, 0),
        step("rlimit", "stack", 1048576, -1),
    ]
    out = native.init(rootfs.shell("cat /proc/self/limits", process=process)).out
    lines = {line[:26].strip(): line[26:].split()[:2] for line in out.splitlines()}
    assert lines["Max open files"] == ["100", "200"]
    assert lines["Max stack size"] == ["1048576", "unlimited"]
    bad = native.init(rootfs.plan("true", process=[step("rlimit", "patience", 1, 1)]))
    assert bad.words[0].endswith("22 unknown limit patience")


def test_a_limit_that_may_not_be_raised_goes_as_far_as_it_may(native: Native, rootfs: Rootfs) -> None:
    """Without CAP_SYS_RESOURCE: a warning, and the limit that is possible."""
    process = [
        step("rlimit", "nofile", 300, 400),
        step("bounding", 0),
        step("user", 1000, 1000, "-"),
        step("caps", 0, 0, 0, 0),
        step("rlimit", "nofile", 350, 5000, optional=True),
    ]
    outcome = native.init(rootfs.shell("ulimit -Sn; ulimit -Hn", process=process))
    assert outcome.out == "350\n400\n"
    assert [w.split()[0::2] for w in outcome.words] == [["warn", "1"]]


def test_scheduling(native: Native, rootfs: Rootfs) -> None:
    process = [
        step("scheduler", 3, 0, 5, 0, 0, 0, 0),  # SCHED_BATCH, nice 5
        step("ioprio", 3, 0),
        step("affinity", "0-0"),
        step("oom-score", 500),
        step("personality", "0x40000"),  # ADDR_NO_RANDOMIZE
    ]
    script = (
        "cat /proc/self/oom_score_adj /proc/self/personality; cut -d' ' -f19,41 /proc/self/stat; "
        "grep Cpus_allowed_list /proc/self/status"
    )
    rootfs_cut = rootfs.lower / "bin/cut"
    rootfs_cut.symlink_to("busybox")
    outcome = native.init(rootfs.shell(script, process=process))
    assert outcome.out.split() == ["500", "00040000", "5", "3", "Cpus_allowed_list:", "0"], outcome
    for bad in ("", "x", "3-1", "0-", "1;2"):
        outcome = native.init(rootfs.plan("true", process=[step("affinity", bad)]))
        assert outcome.code == 125 or bad == "", bad


def test_names_and_sysctls(native: Native, rootfs: Rootfs) -> None:
    inside = [
        step("hostname", "h"),
        step("domainname", "d"),
        step("sysctl", "net/ipv4/ip_forward", "1"),
        step("sysctl", "kernel/shmmni", "99"),
    ]
    script = "cd /proc/sys; cat kernel/hostname kernel/domainname net/ipv4/ip_forward kernel/shmmni"
    before = Path("/proc/sys/kernel/shmmni").read_text()
    assert native.init(rootfs.shell(script, inside=inside)).out.split() == ["h", "d", "1", "99"]
    assert Path("/proc/sys/kernel/shmmni").read_text() == before


@pytest.mark.parametrize("name", ["../version", "../../etc/passwd", "/etc/passwd", "kernel/../../self/comm"])
def test_a_sysctl_stays_below_proc_sys(native: Native, rootfs: Rootfs, name: str) -> None:
    outcome = native.init(rootfs.plan("true", inside=[step("sysctl", name, "x")]))
    assert (outcome.code, outcome.words[0].split()[2]) == (125, "18")


# ---- seccomp ----


def returning(value: int) -> str:
    return struct.pack("=HBBI", 0x06, 0, 0, value).hex()  # RET


def refusing(number: int) -> str:
    """EPERM for one system call."""
    return (
        struct.pack("=HBBI", 0x20, 0, 0, 0)  # LD nr
        + struct.pack("=HBBI", 0x15, 0, 1, number)  # JEQ
        + struct.pack("=HBBI", 0x06, 0, 0, 0x00050001)
        + struct.pack("=HBBI", 0x06, 0, 0, 0x7FFF0000)
    ).hex()


UNAME = {"x86_64": 63, "aarch64": 160}[os.uname().machine]
EXECVE = {"x86_64": 59, "aarch64": 221}[os.uname().machine]


def test_a_filter_with_no_new_privs(native: Native, rootfs: Rootfs) -> None:
    process = [step("no-new-privs"), step("seccomp", 0, refusing(UNAME)), step("chdir", "/")]
    outcome = native.init(
        rootfs.shell("grep Seccomp: /proc/self/status; /bin/busybox uname", process=process)
    )
    assert outcome.out.startswith("Seccomp:\t2\n"), outcome
    assert "Linux" not in outcome.out


def test_a_filter_without_no_new_privs_is_loaded_at_once(native: Native, rootfs: Rootfs) -> None:
    process = [
        step("seccomp", 0, refusing(UNAME)),
        step("bounding", 0),
        step("user", 1, 1, "-"),
        step("caps", 0, 0, 0, 0),
    ]
    outcome = native.init(rootfs.shell("grep -E 'NoNew|Seccomp:' /proc/self/status", process=process))
    assert outcome.out == "NoNewPrivs:\t0\nSeccomp:\t2\n"


def test_only_exec_needs_to_be_allowed(native: Native, rootfs: Rootfs) -> None:
    """A filter that kills for anything but execve: loaded late enough that the program gets to it."""
    kill_all_but_exec = (
        struct.pack("=HBBI", 0x20, 0, 0, 0)
        + struct.pack("=HBBI", 0x15, 0, 1, EXECVE)
        + struct.pack("=HBBI", 0x06, 0, 0, 0x7FFF0000)
        + struct.pack("=HBBI", 0x06, 0, 0, 0x80000000)
    ).hex()
    plan = rootfs.plan(
        "/bin/true",
        process=[step("no-new-privs"), step("seccomp", 0, kill_all_but_exec), step("close-fds", 5)],
    )
    plan = [s._replace(args=(ALL.replace("pid,", ""),)) if s.op == "clone" else s for s in plan]
    outcome = native.init(plan)
    assert (outcome.code, outcome.words) == (128 + 31, [])  # the workload dies of SIGSYS, not we


def test_a_bad_filter_is_told_as_its_own_step(native: Native, rootfs: Rootfs) -> None:
    plan = rootfs.plan(
        "true", process=[step("no-new-privs"), step("seccomp", 0, "ffff" * 4), step("chdir", "/")]
    )
    number = next(i for i, s in enumerate(plan) if s.op == "seccomp")
    assert native.init(plan).words == [f"fail {number} 22 "]
    odd = rootfs.plan("true", process=[step("no-new-privs"), step("seccomp", 0, "00")])
    assert native.init(odd).words[0].endswith("a filter of 1 bytes")


def test_standard_pipes_belong_to_the_workload(native: Native, rootfs: Rootfs) -> None:
    """Otherwise a program that opens /dev/stdout is refused."""
    process = [step("user", 1000, 1000, "-"), step("caps", 0, 0, 0, 0)]
    outcome = native.init(rootfs.shell("echo again > /proc/self/fd/1", process=process))
    assert outcome.out == "again\n"


def test_a_users_file_is_not_given_away(native: Native, rootfs: Rootfs, tmp_path: Path) -> None:
    with open(tmp_path / "out", "wb") as out:
        fd = os.dup(out.fileno())
        try:
            process = [step("stdio", "-", fd, fd), step("user", 1000, 1000, "-"), step("caps", 0, 0, 0, 0)]
            plan = rootfs.shell("echo text; echo error >&2", process=process)
            assert native.init(plan, fds=[fd]).code == 0
        finally:
            os.close(fd)
    assert (tmp_path / "out").read_text() == "text\nerror\n"
    assert (tmp_path / "out").stat().st_uid == 0


def test_signals_are_as_programs_expect_them(native: Native, rootfs: Rootfs) -> None:
    """Python ignores SIGPIPE, and what is ignored stays ignored across exec."""
    outcome = native.init(rootfs.plan("grep", "-E", "Sig(Blk|Ign)", "/proc/self/status"))
    assert [line.split()[1] for line in outcome.out.splitlines()] == ["0" * 16] * 2


def test_the_path_is_the_environments(native: Native, rootfs: Rootfs) -> None:
    plan = rootfs.plan("true")
    plan[-2] = step("env", "PATH=/nowhere:/bin/true:/bin", "X=1")
    assert native.init(plan).code == 0
    plan[-2] = step("env")  # none: the usual one
    assert native.init(plan).code == 0
    plan[-2] = step("env", "PATH=/nowhere")
    assert native.init(plan).words[0].split()[2] == "2"


def test_keyring_and_session(native: Native, rootfs: Rootfs) -> None:
    outcome = native.init(
        rootfs.shell(
            "cut -d' ' -f5,6 /proc/self/stat || true; echo",
            process=[step("keyring", "_ses"), step("new-session")],
        )
    )
    assert outcome.code == 0


def test_the_shipped_program_is_static(programs: dict[str, Path]) -> None:
    described = subprocess.run(["readelf", "-l", programs["shipped"]], capture_output=True, text=True).stdout
    assert described
    assert "INTERP" not in described


def test_nobody_gets_at_a_process_that_has_the_rights_of_the_workload_already(
    native: Native, rootfs: Rootfs
) -> None:
    """In the host's pid namespace others with the same rights see it, while it still has the host's descriptors."""
    rights = [step("bounding", hex(KILL)), step("user", 0, 0, "-"), step("caps", hex(KILL), hex(KILL), 0, 0)]
    started = native.start(rootfs.plan("sleep", "10", process=[*rights, step("wait", 0)]))
    pid = started.report().split()[1]
    look = ["setpriv", "--bounding-set=-all,+kill", "readlink", f"/proc/{pid}/root", f"/proc/{pid}/fd/0"]
    assert started.report() == "ready"
    hidden = subprocess.run(look, capture_output=True, text=True, check=False)
    assert (hidden.returncode, hidden.stdout) == (1, ""), hidden
    started.close_input()
    assert started.report() == ""
    seen = subprocess.run(look, capture_output=True, text=True, check=False)
    assert seen.returncode == 0, seen


@pytest.mark.parametrize(
    ("command", "number"),
    [
        ("true", None),
        ("/bin/true", None),
        ("bin/true", None),
        ("nothing", 2),
        ("/bin/nothing", 2),
        ("/bin", 13),
        ("/text", 13),
        ("text", 13),
        ("", 2),
    ],
)
def test_a_command_is_looked_for_before_the_start(
    native: Native, rootfs: Rootfs, command: str, number: int | None
) -> None:
    for path in ("text", "bin/text"):
        (rootfs.lower / path).write_text("text")
    process = [step("env", "PATH=/nowhere:/bin"), step("find-command", command)]
    plan = rootfs.plan("true", process=process)
    at = next(i for i, s in enumerate(plan) if s.op == "find-command")
    assert native.init(plan).words == ([] if number is None else [f"fail {at} {number} "])


@pytest.mark.parametrize(("more", "out"), [((), b"a\r\n"), ((0,), b"a\r\n"), ((1,), b"a\n")])
def test_a_line_feed_of_the_terminal_stays_one_if_asked(
    native: Native, rootfs: Rootfs, more: tuple[int, ...], out: bytes
) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        inside = [step("console", theirs.fileno(), 0, 0, 0, *more)]
        assert native.init(rootfs.shell("echo a", inside=inside), fds=[theirs.fileno()]).code == 0
        _, fds, _, _ = socket.recv_fds(ours, 100, 1)
    assert os.read(fds[0], 100) == out
    os.close(fds[0])


@pytest.mark.parametrize(
    "words", [("6666666666666666", "0"), ("-1", "0"), ("8", "0"), ("2", "8192"), ("2", "-1"), ("x", "0")]
)
def test_an_io_priority_that_is_none(native: Native, words: tuple[str, str]) -> None:
    """A class that does not fit was shifted out of its number, which C leaves undefined."""
    outcome = native.init([step("ioprio", *words), step("exec", "true")])
    assert outcome.code == 125 and outcome.reports[0].startswith("fail 0 22"), outcome
