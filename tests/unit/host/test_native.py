"""Reports of the executor in the user's words; starting programs; telling a process from its successor."""

from __future__ import annotations

import fcntl
import os
import sys
from pathlib import Path

import pytest

from knarr.errors import CommandNotExecutable, CommandNotFound, DataError, HostError, StepFailed, UsageError
from knarr.host import native
from knarr.plan.step import Step, to_wire

STEPS = [
    Step("mount", ("tmpfs", "tmpfs", "/data", "0x0", ""), "mounts[3]"),
    Step("exec", ("foo", "-x"), "process.args"),
    Step("wait-spawned", (), "linux.uidMappings"),
    Step("no-such-op", ("a", "b\nc", "d"), ""),
    Step("exec", ("/bin/foo",), "process.args"),
    Step("write", ("/sys/fs/cgroup/x/pids.max", "7" * 300), "linux.resources.pids"),
    Step("mount", (), "mounts[0]"),
]


@pytest.mark.parametrize(
    ("report", "kind", "message"),
    [
        (b"fail 0 2 ", StepFailed, "mounts[3]: mount /data: no such file or directory"),
        (b"fail 0 2", StepFailed, "mounts[3]: mount /data: no such file or directory"),
        (b"fail 0 22 fsconfig size\0", StepFailed, "mounts[3]: mount /data: fsconfig size: invalid argument"),
        (b"fail 1 2 ", CommandNotFound, "exec foo: executable file not found in $PATH"),
        (b"fail 4 2 ", CommandNotFound, "exec /bin/foo: no such file or directory"),
        (b"fail 1 13 ", CommandNotExecutable, "exec foo: permission denied"),
        (b"fail 1 8 ", CommandNotExecutable, "exec foo: exec format error"),
        (b"fail 1 12 ", StepFailed, "process.args: exec 'foo': cannot allocate memory"),
        (b"fail 2 0 newuidmap: not\nallowed", StepFailed, "linux.uidMappings: newuidmap: not allowed"),
        (b"fail 3 1 ", StepFailed, "no-such-op a b c: operation not permitted"),
        (b"fail 6 1 ", StepFailed, "mounts[0]: mount: operation not permitted"),
        (b"fail -1 22 not a plan", StepFailed, "not a plan"),
        (b"fail 99 1 ", StepFailed, "operation not permitted"),
        (b"fail x", StepFailed, "the executor reported b'fail x'"),
        (b"", StepFailed, "the executor reported b''"),
        (b"\xff\xfe", StepFailed, "the executor reported b'\\xff\\xfe'"),
    ],
)
def test_failure(report: bytes, kind: type, message: str) -> None:
    error = native.failure(STEPS, report)
    assert type(error) is kind
    assert error.message == message


def test_a_long_argument_is_shortened() -> None:
    message = native.failure(STEPS, b"fail 5 22 ").message
    assert message.startswith("linux.resources.pids: write 777")
    assert message.endswith("… to /sys/fs/cgroup/x/pids.max: invalid argument")
    assert len(message) < 250


def test_nothing_speaks_to_the_terminal() -> None:
    """A path of an image with an escape sequence in it."""
    steps = [Step("chdir", ("/\x1b[2J\udcff",), "process.cwd")]
    message = native.failure(steps, b"fail 0 2 \x1b]0;x\x07").message
    assert message == (
        "process.cwd: chdir to the working directory /\\x1b[2J\\udcff: \\x1b]0;x\\x07: no such file or directory"
    )


def test_errno_and_exit_codes() -> None:
    error = native.failure(STEPS, b"fail 0 17 ")
    assert isinstance(error, StepFailed)
    assert error.errno == 17
    assert native.failure(STEPS, b"fail 1 2").exit_code == 127
    assert native.failure(STEPS, b"fail 1 13").exit_code == 126
    assert "#!" in native.failure(STEPS, b"fail 1 8").hint


def test_warning() -> None:
    assert native.warning(STEPS, b"warn 0 1 ") == "mounts[3]: mount /data: operation not permitted"


def test_every_phrase_fits_its_operation() -> None:
    """A phrase that names argument 2 of an operation with two would be lost."""
    from knarr.host.phrases import phrase

    assert phrase(Step("bind", ("/a", "/b", "dir"), "")) == "mount /a on /b"
    assert phrase(Step("hostname", ("",), "")) == "set the host name to \"''\""
    assert phrase(Step("rlimit", ("nofile", "10", "20"), "")) == "set the limit nofile to 10:20"


def test_plan_is_sealed() -> None:
    fd = native.plan_fd(STEPS)
    try:
        assert os.read(fd, 1 << 16) == to_wire(STEPS)
        wanted = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
        assert fcntl.fcntl(fd, fcntl.F_GET_SEALS) & wanted == wanted
        with pytest.raises(PermissionError):
            os.write(fd, b"x")
        assert not os.get_inheritable(fd)
    finally:
        os.close(fd)


def test_a_nul_is_refused() -> None:
    with pytest.raises(UsageError):
        native.plan_fd([Step("mkdir", ("/a\0b", "0755"), "mounts[0]")])


def test_wire_round_trip() -> None:
    steps = [*STEPS, Step("unlink", ("/x\udcff",), "host.cgroup", optional=True)]
    assert native.from_wire(to_wire(steps)) == steps
    assert native.from_wire(to_wire([])) == []


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"knarr-plan\0",
        b"knarr-plan\x002\x000\0",
        b"knarr-plan\x001\x00x\0",
        b"knarr-plan\x001\x003\0mkdir\0",
    ]
    + [to_wire(STEPS)[:-40], to_wire(STEPS).replace(b"\x005\0tmpfs", b"\x00-5\0tmpfs")],
)
def test_a_damaged_plan_is_refused(data: bytes) -> None:
    with pytest.raises(DataError, match="a stored plan is damaged"):
        native.from_wire(data)


def test_program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KNARR_NATIVE", "/bin/sh")
    assert native.program() == "/bin/sh"
    monkeypatch.setenv("KNARR_NATIVE", str(tmp_path / "none"))
    with pytest.raises(HostError, match="is not there"):
        native.program()


def shown(fds: dict[int, int]) -> dict[int, str]:
    """The descriptors a child finds."""
    read, write = os.pipe()
    code = (
        "import os\n"
        "for n in sorted(map(int, os.listdir('/proc/self/fd'))):\n"
        "    try: print(n, os.readlink(f'/proc/self/fd/{n}'))\n"
        "    except OSError: pass\n"
    )
    pid = native.spawn([sys.executable, "-I", "-S", "-c", code], {0: read, **fds, 1: write})
    os.close(write)
    with os.fdopen(read) as out:
        lines = dict(line.split(" ", 1) for line in out.read().splitlines())
    assert native.wait_for(pid) == 0
    return {int(n): path for n, path in lines.items()}


def test_spawn_maps_descriptors_even_when_they_cross(tmp_path: Path) -> None:
    files = []
    for name in "abc":
        (tmp_path / name).write_text(name)
        files.append(os.open(tmp_path / name, os.O_RDONLY))
    a, b, c = files
    try:
        found = shown({a: b, b: a, 20: c, c: c})
        assert found[a] == f"{tmp_path}/b"
        assert found[b] == f"{tmp_path}/a"
        assert found[c] == found[20] == f"{tmp_path}/c"
    finally:
        for fd in files:
            os.close(fd)


def test_spawn_leaks_nothing(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    fd = os.open(tmp_path / "x", os.O_RDONLY)
    os.set_inheritable(fd, True)  # as a shell's `exec 5<file` leaves it
    try:
        assert f"{tmp_path}/x" not in shown({}).values()
        assert os.get_inheritable(fd)
    finally:
        os.close(fd)


def test_spawn_gives_signals_back() -> None:
    read, write = os.pipe()
    pid = native.spawn(["/bin/grep", "SigIgn\\|SigBlk", "/proc/self/status"], {1: write})
    os.close(write)
    with os.fdopen(read) as out:
        lines = dict(line.split() for line in out)
    assert native.wait_for(pid) == 0
    assert int(lines["SigIgn:"], 16) & (1 << 12 | 1 << 24) == 0  # Python ignores SIGPIPE and SIGXFSZ
    assert int(lines["SigBlk:"], 16) == 0


def test_spawn_of_nothing() -> None:
    with pytest.raises(HostError, match="cannot start /no/such: no such file or directory"):
        native.spawn(["/no/such"], {})


def test_a_process_is_known_by_its_start() -> None:
    pid = native.spawn(["/bin/sleep", "60"], {})
    start = native.start_time(pid)
    assert start > 0
    assert native.open_process(pid, start + 1) is None  # somebody else with that number
    assert native.open_process(pid, 0) is None
    fd = native.open_process(pid, start)
    assert fd is not None
    try:
        assert not native.wait_process(fd, 0)
        assert native.signal_process(fd, 15)
        assert native.wait_process(fd, 30)
        assert native.wait_for(pid) == 143
        assert not native.signal_process(fd, 15)
    finally:
        os.close(fd)
    assert native.open_process(pid, start) is None
    assert native.start_time(pid) == 0


def test_absurd_pids() -> None:
    assert native.open_process(-1, 1) is None
    assert native.open_process(1 << 22, 1) is None
