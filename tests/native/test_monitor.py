(
    ""
    """The monitor: from start to tear-down, its records, its clients, what becomes of a container without it."""
)

from __future__ import annotations

import os
import random
import re
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from harness.wait import until
from native.plans import ALL, Native, Rootfs, gone, memory, step, until_end

pytestmark = pytest.mark.requires("root", "overlay", "busybox")

FOREVER = "while :; do sleep 0.1; done"


def record(path: Path) -> dict[str, str]:
    return dict(line.split(" ", 1) for line in path.read_text().splitlines())


def connect(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.settimeout(20)
    connection.connect(str(path))
    return connection


class Listener:
    """A listening socket at a short path, as `listen=` wants it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.bind(str(path))
        self.socket.listen(8)

    @property
    def word(self) -> str:
        return f"listen={self.socket.fileno()}"


@pytest.fixture
def listener(tmp_path: Path):  # type: ignore[no-untyped-def]
    here = os.open(tmp_path, os.O_PATH)  # the path itself may be too long for a socket
    listener = Listener(Path(f"/proc/self/fd/{here}/attach"))
    yield listener
    listener.socket.close()
    os.close(here)


def test_the_life_of_a_container(native: Native, rootfs: Rootfs, tmp_path: Path) -> None:
    pidfile, exitfile, undone = tmp_path / "pid", tmp_path / "exit", tmp_path / "undone"
    running = native.monitor(
        rootfs.shell("echo out; echo err >&2; exit 3"),
        f"pidfile={pidfile}",
        f"exitfile={exitfile}",
        teardown=[step("write-file", undone, 600, "yes")],
    ).started()
    assert running.pid == int(record(pidfile)["pid"])
    messages = until_end(running.primary)
    assert messages[0] == b"hpipe"
    assert sorted(messages[1:3]) == [b"eerr\n", b"oout\n"]
    assert messages[3:] == [b"x3"]
    assert running.wait() == 0
    found = record(pidfile)
    assert found["monitor"] == str(running.process.pid)
    assert int(found["monitor_start"]) <= int(found["start"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", found["started"])
    found = record(exitfile)
    seen = {name: found[name] for name in ("code", "signal", "oom")}
    assert seen == {"code": "3", "signal": "0", "oom": "0"}
    assert found["started"] <= found["finished"]
    assert undone.read_text() == "yes"


def test_timestamps_are_now(native: Native, rootfs: Rootfs, tmp_path: Path) -> None:
    before = time.time()
    running = native.monitor(rootfs.plan("true"), f"exitfile={tmp_path}/exit").started()
    assert running.wait() == 0
    text = record(tmp_path / "exit")["finished"]
    from datetime import datetime

    assert before - 1 <= datetime.fromisoformat(text[:26] + "+00:00").timestamp() <= time.time() + 1


def test_a_failed_start_is_torn_down(native: Native, rootfs: Rootfs, tmp_path: Path) -> None:
    running = native.monitor(
        rootfs.plan("nothing"),
        f"exitfile={tmp_path}/exit",
        f"log={tmp_path}/log",
        "driver=k8s-file",
        teardown=[step("write-file", tmp_path / "undone", 600, "yes")],
    )
    reports = [m.decode() for m in until_end(running.status)]
    # The end of the status connection comes after the tear-down.
    assert (tmp_path / "undone").exists()
    assert reports[-1].startswith("fail ")
    assert running.wait() == 125
    assert not (tmp_path / "exit").exists()
    assert gone(int(reports[0].split()[1]))


def test_a_bad_plan(native: Native) -> None:
    running = native.monitor([step("exec")])
    assert [m.decode().split()[0] for m in until_end(running.status)] == ["fail"]
    assert running.wait() == 125


def test_every_step_of_a_teardown_is_tried(native: Native, rootfs: Rootfs, tmp_path: Path) -> None:
    running = native.monitor(
        rootfs.plan("true"),
        teardown=[
            step("write", "/no/such", "x"),
            step("rmdir", tmp_path),
            step("mkdir", tmp_path / "a", 700),
            step("write", "/no/such", "x", optional=True),
            step("mkdir", tmp_path / "b", 700),
        ],
    ).started()
    assert running.wait() == 0
    assert (tmp_path / "a").is_dir() and (tmp_path / "b").is_dir()


def test_the_exit_command(native: Native, rootfs: Rootfs, tmp_path: Path) -> None:
    undone = tmp_path / "undone"
    running = native.monitor(
        rootfs.plan("true"),
        teardown=[step("write-file", undone, 600, "")],
        exit_command=["sh", "-c", f"test -e {undone} && echo $$ > {tmp_path}/ran"],
    ).started()
    assert running.wait() == 0
    until(15, (tmp_path / "ran").exists)


def test_it_holds_nothing_of_its_starter(native: Native, rootfs: Rootfs) -> None:
    """`x=$(knarr run -d …)` ends when the command ends."""
    running = native.monitor(rootfs.plan("sleep", "30")).started()
    targets = {os.readlink(f"/proc/{running.process.pid}/fd/{fd}") for fd in range(3)}
    assert targets == {"/dev/null"}
    children = Path(f"/proc/{running.pid}/fd")
    assert sorted(os.listdir(children)) == ["0", "1", "2"]


# ---- ends ----


def test_killing_the_foreground_ends_the_container(native: Native, rootfs: Rootfs, tmp_path: Path) -> None:
    running = native.monitor(
        rootfs.shell(FOREVER),
        f"exitfile={tmp_path}/exit",
        teardown=[step("write-file", tmp_path / "undone", 600, "")],
    ).started()
    running.primary.close()
    assert running.wait() == 0
    assert record(tmp_path / "exit")["code"] == "137"
    assert (tmp_path / "undone").exists()
    assert gone(running.pid)


def test_killing_the_foreground_whose_input_is_stuck(native: Native, rootfs: Rootfs) -> None:
    running = native.monitor(rootfs.shell(FOREVER), "stdin=2").started()
    running.primary.settimeout(0.2)
    for _ in range(6):
        try:
            running.primary.send(b"i" + b"x" * 32000)
        except TimeoutError:
            break
    running.primary.close()
    assert running.wait() == 0


def test_a_detached_foreground_leaves_the_container_running(
    native: Native, rootfs: Rootfs, listener: Listener
) -> None:
    running = native.monitor(rootfs.shell(FOREVER), listener.word, fds=[listener.socket.fileno()]).started()
    assert running.primary.recv(100) == b"hpipe"
    running.primary.send(b"d")
    assert running.primary.recv(100) == b""
    assert running.process.poll() is None
    again = connect(listener.path)
    assert again.recv(100) == b"hpipe"
    again.send(b"s9")
    assert until_end(again)[-1] == b"x137"
    again.close()
    assert running.wait() == 0


def test_killing_the_monitor_kills_the_container(native: Native, rootfs: Rootfs) -> None:
    running = native.monitor(rootfs.shell(FOREVER, process=[step("pdeathsig", 9)])).started()
    running.process.kill()
    assert gone(running.pid)


def test_it_survives_a_change_of_identity(native: Native, rootfs: Rootfs) -> None:
    """The kernel forgets the parent-death signal when a process becomes somebody else."""
    process = [step("pdeathsig", 9), step("user", 1000, 1000, "-"), step("caps", 0, 0, 0, 0)]
    running = native.monitor(rootfs.shell(FOREVER, process=process)).started()
    running.process.kill()
    assert gone(running.pid)


def test_signals_reach_the_container(native: Native, rootfs: Rootfs) -> None:
    running = native.monitor(
        rootfs.shell(f"trap 'echo term' TERM; trap 'echo usr; exit 4' USR1; echo up; {FOREVER}")
    ).started()
    assert running.primary.recv(100) == b"hpipe"
    assert running.primary.recv(100) == b"oup\n"
    running.process.terminate()
    assert running.primary.recv(100) == b"oterm\n"
    running.primary.send(b"s%d" % signal.SIGUSR1)
    assert running.output() == (b"usr\n", 4)


def test_giving_up_while_it_starts(native: Native, rootfs: Rootfs, tmp_path: Path) -> None:
    """The starter dies in a pause: with a foreground there is nothing to go on for."""
    plan = rootfs.plan("true", late=[step("pause", "network")])
    running = native.monitor(plan, teardown=[step("write-file", tmp_path / "undone", 600, "")])
    pid = int(running.status.recv(100).split()[1])
    assert running.status.recv(100).startswith(b"pause network")
    running.status.close()
    assert running.wait() == 125
    assert gone(pid)
    assert (tmp_path / "undone").exists()


def test_a_detached_start_in_a_pause_is_given_up_too(native: Native, rootfs: Rootfs) -> None:
    running = native.monitor(rootfs.plan("true", late=[step("pause", "network")]), primary=False)
    pid = int(running.status.recv(100).split()[1])
    assert running.status.recv(100).startswith(b"pause")
    running.status.close()
    assert running.wait() == 125
    assert gone(pid)


def test_s_is_killed_while_it_sets_up(native: Native, rootfs: Rootfs, tmp_path: Path) -> None:
    plan = rootfs.plan("true", late=[step("pause", "here")])
    running = native.monitor(plan, teardown=[step("write-file", tmp_path / "undone", 600, "")])
    pid = int(running.status.recv(100).split()[1])
    assert running.status.recv(100).startswith(b"pause")
    children = Path(f"/proc/{running.process.pid}/task/{running.process.pid}/children").read_text().split()
    setter = next(int(child) for child in children if int(child) != pid)
    os.kill(setter, signal.SIGKILL)
    assert [m.decode() for m in until_end(running.status)] == ["fail -1 3 the container's set-up was killed"]
    assert (running.wait(), gone(pid), (tmp_path / "undone").exists()) == (125, True, True)


def test_garbage_from_a_client(native: Native, rootfs: Rootfs, listener: Listener) -> None:
    running = native.monitor(
        rootfs.plan("cat"), "stdin=1", listener.word, fds=[listener.socket.fileno()]
    ).started()
    random_ = random.Random(3)
    for _ in range(8):
        client = connect(listener.path)
        for _ in range(30):
            message = bytes(random_.choices(b"icwsdqoexhk\0 0123456789-\xff", k=random_.randint(1, 70)))
            if message[:1] == b"s":
                continue  # a signal is a signal
            try:
                client.send(message, socket.MSG_DONTWAIT)
            except (BlockingIOError, BrokenPipeError, ConnectionResetError):
                break
        client.close()
        assert running.process.poll() is None
    running.primary.send(b"s9")
    assert running.output()[1] == 137


def test_a_pause_is_answered(native: Native, rootfs: Rootfs) -> None:
    running = native.monitor(rootfs.plan("true", late=[step("pause", "a"), step("pause", "b")]))
    reports = []
    while message := running.status.recv(1000):
        reports.append(message.decode().split()[0])
        if message.startswith(b"pause"):
            running.status.send(b"go")
    assert reports == ["pid", "pause", "pause", "started"]
    assert running.wait() == 0


def test_orphans_are_collected(native: Native, rootfs: Rootfs) -> None:
    """Without a pid namespace what is orphaned in the container comes to the monitor."""
    plan = rootfs.shell("(sleep 0.2 &) ; echo up; sleep 0.6; exec sleep 30")
    plan = [s._replace(args=(ALL.replace("pid,", ""),)) if s.op == "clone" else s for s in plan]
    running = native.monitor(plan).started()
    assert running.primary.recv(100) == b"hpipe"
    assert running.primary.recv(100) == b"oup\n"
    children = Path(f"/proc/{running.process.pid}/task/{running.process.pid}/children")
    until(15, lambda: len(children.read_text().split()) == 2)
    until(15, lambda: len(children.read_text().split()) == 1)


def test_what_is_left_behind_does_not_hold_up_the_end(native: Native, rootfs: Rootfs) -> None:
    """An exec ends with its process, though something it started still has its pipes."""
    plan = rootfs.shell("sleep 30 & echo $!; exit 2")
    plan = [s._replace(args=(ALL.replace("pid,", ""),)) if s.op == "clone" else s for s in plan]
    running = native.monitor(plan).started()
    out, code = running.output()
    assert code == 2
    assert running.wait() == 0
    os.kill(int(out), signal.SIGKILL)
    assert gone(int(out))


@pytest.mark.parametrize("name", ["memory.oom_control", "memory.events"])
def test_an_oom_kill_is_seen(native: Native, rootfs: Rootfs, tmp_path: Path, name: str) -> None:
    counter = tmp_path / name
    counter.write_text("oom 5\noom_kill 3\n")
    running = native.monitor(
        rootfs.shell("read x"), f"oom={counter}", f"exitfile={tmp_path}/exit", "stdin=2"
    ).started()
    counter.write_text("oom 6\noom_kill 4\n")
    running.primary.send(b"c")
    assert running.wait() == 0
    assert record(tmp_path / "exit")["oom"] == "1"


# ---- input and output ----


def test_input_reaches_the_container_and_ends(native: Native, rootfs: Rootfs) -> None:
    running = native.monitor(rootfs.plan("cat"), "stdin=2").started()
    assert running.primary.recv(100) == b"hpipe stdin"
    running.primary.send(b"ihello\n")
    assert {running.primary.recv(100), running.primary.recv(100)} == {b"ohello\n", b"k"}
    running.primary.send(b"ibye")
    running.primary.send(b"c")
    assert running.output() == (b"bye", 0)


def test_input_that_stays_open(native: Native, rootfs: Rootfs, listener: Listener) -> None:
    running = native.monitor(
        rootfs.plan("cat"), "stdin=1", listener.word, primary=False, fds=[listener.socket.fileno()]
    ).started()
    for word in (b"one", b"two"):
        client = connect(listener.path)
        assert client.recv(100) == b"hpipe stdin"
        client.send(b"i" + word)
        assert {client.recv(100), client.recv(100)} == {b"o" + word, b"k"}
        client.send(b"c")
        client.close()
    os.kill(running.pid, signal.SIGKILL)
    assert running.wait() == 0


def test_much_input_and_output(native: Native, rootfs: Rootfs) -> None:
    """A slow reader holds the writer back, and nothing is lost."""
    running = native.monitor(rootfs.plan("cat"), "stdin=2").started()
    assert running.primary.recv(100) == b"hpipe stdin"
    blocks = [bytes([i % 251]) * 32768 for i in range(200)]
    received, sent, free = bytearray(), 0, True
    while len(received) < 200 * 32768:
        if free and sent < 200:
            running.primary.send(b"i" + blocks[sent])
            sent, free = sent + 1, False
        message = running.primary.recv(65536)
        if message[:1] == b"k":
            free = True
        else:
            assert message[:1] == b"o"
            received += message[1:]
    running.primary.send(b"c")
    assert running.output() == (b"", 0)
    assert bytes(received) == b"".join(blocks)


def test_a_slow_client_gets_everything_and_nobody_waits_for_it(
    native: Native, rootfs: Rootfs, tmp_path: Path
) -> None:
    """After the end the monitor goes; a copy of it stays with the client."""
    log = tmp_path / "log"
    running = native.monitor(
        rootfs.shell("yes | head -c 2000000; echo end >&2"),
        f"exitfile={tmp_path}/exit",
        f"log={log}",
        "driver=k8s-file",
    ).started()
    time.sleep(0.3)
    assert running.process.poll() is None  # it writes more than fits anywhere: the container waits
    got = bytearray()
    while len(got) < 1_850_000:
        message = running.primary.recv(65536)
        if message[:1] == b"o":
            got += message[1:]
    assert running.wait() == 0
    assert record(tmp_path / "exit")["code"] == "0"
    rest = until_end(running.primary)
    got += b"".join(m[1:] for m in rest if m[:1] == b"o")
    assert bytes(got) == b"y\n" * 1_000_000
    assert rest[-1] == b"x0"
    assert b"eend\n" in rest


def test_a_second_client_sees_what_comes_and_may_go(
    native: Native, rootfs: Rootfs, listener: Listener
) -> None:
    running = native.monitor(
        rootfs.shell("while read x; do echo got $x; done; exit 6"),
        "stdin=2",
        listener.word,
        fds=[listener.socket.fileno()],
    ).started()
    second = connect(listener.path)
    assert second.recv(100) == b"hpipe stdin"
    second.send(b"q")
    running.primary.send(b"ione\n")
    assert second.recv(100) == b"ogot one\n"
    second.close()  # not the primary, and it has no input: nothing happens
    running.primary.send(b"itwo\n")
    running.primary.send(b"c")
    assert running.output() == (b"got one\ngot two\n", 6)


def test_too_long_a_message_ends_the_connection(native: Native, rootfs: Rootfs, listener: Listener) -> None:
    running = native.monitor(
        rootfs.plan("cat"), "stdin=1", listener.word, fds=[listener.socket.fileno()]
    ).started()
    bad = connect(listener.path)
    assert bad.recv(100) == b"hpipe stdin"
    bad.send(b"i" + b"x" * 40_000)
    try:
        assert until_end(bad) == []
    except ConnectionResetError:
        pass
    bad.close()
    assert running.process.poll() is None
    for message in (b"", b"w", b"w 1", b"wx y", b"s", b"sx", b"s-1", b"s9999", b"?what"):
        if message:
            running.primary.send(message)
    running.primary.send(b"i.")
    assert running.primary.recv(100) == b"hpipe stdin"
    assert {running.primary.recv(100), running.primary.recv(100)} == {b"k", b"o."}


def test_more_clients_than_there_is_room_for(native: Native, rootfs: Rootfs, listener: Listener) -> None:
    running = native.monitor(
        rootfs.plan("cat"), "stdin=2", listener.word, fds=[listener.socket.fileno()]
    ).started()
    clients = []
    for _ in range(40):
        clients.append(connect(listener.path))
        try:
            clients[-1].recv(100)
        except ConnectionResetError:
            pass
    running.primary.send(b"c")
    assert running.output()[1] == 0
    assert running.wait() == 0
    for client in clients:
        client.close()


def test_a_terminal(native: Native, rootfs: Rootfs) -> None:
    plan = rootfs.shell(
        (
            "tty; stty size; ls -l /dev/console | cut -c1; trap 'stty size; exit 8' WINCH; echo up; "
            "while :; do sleep 0.1; done"
        ),
        inside=[step("new-session"), step("console", 3, 24, 80, 1)],
    )
    (rootfs.lower / "bin/cut").symlink_to("busybox")
    running = native.monitor(plan, "tty=1", "rows=30", "cols=90", "stdin=2").started()
    assert running.primary.recv(100) == b"htty stdin"
    seen = b""
    while b"up\r\n" not in seen:
        seen += running.primary.recv(1000)[1:]
    assert seen == b"/dev/pts/0\r\n30 90\r\nc\r\nup\r\n"
    running.primary.send(b"w10 20")
    assert running.output() == (b"10 20\r\n", 8)


def test_a_terminal_of_which_the_other_end_is_closed(native: Native, rootfs: Rootfs) -> None:
    """The kernel then reports a hang-up for as long as it is asked: that must not keep a processor busy."""
    plan = rootfs.shell(
        "exec <&- >&- 2>&-; sleep 1.5; exec >/dev/console; echo back; exit 1",
        inside=[step("new-session"), step("console", 3, 24, 80, 1)],
    )
    running = native.monitor(plan, "tty=1", "stdin=2").started()
    assert running.output() == (b"back\r\n", 1)
    spent = os.wait3(os.WNOHANG)  # not collected by anybody else
    running.process.returncode = 0 if spent[0] == running.process.pid else None
    if spent[0] == running.process.pid:
        assert spent[2].ru_utime + spent[2].ru_stime < 0.5


def test_the_reserved_descriptors_go_with_the_container(native: Native, rootfs: Rootfs) -> None:
    reader, writer = os.pipe()
    running = native.monitor(rootfs.plan("cat"), f"hold={writer}", "stdin=2", fds=[writer]).started()
    os.close(writer)
    os.set_blocking(reader, False)
    with pytest.raises(BlockingIOError):
        os.read(reader, 1)
    running.primary.send(b"c")
    assert running.wait() == 0
    assert os.read(reader, 1) == b""
    os.close(reader)


def test_the_lock_is_held_until_everything_is_torn_down(
    native: Native, rootfs: Rootfs, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    for number in range(5000):
        (run / str(number)).touch()
    reader, writer = os.pipe()
    running = native.monitor(
        rootfs.plan("true"), f"lock={writer}", fds=[writer], teardown=[step("rmtree", run)]
    )
    os.close(writer)
    assert os.read(reader, 1) == b""
    assert not run.exists()
    assert running.wait() == 0
    os.close(reader)


def test_it_is_small(native: Native, rootfs: Rootfs, programs: dict[str, Path]) -> None:
    if native.path != str(programs["shipped"]):
        return
    running = native.monitor(rootfs.plan("sleep", "60")).started()
    rollup = Path(f"/proc/{running.process.pid}/smaps_rollup").read_text()
    pss = int(re.search(r"^Pss: +(\d+)", rollup, re.MULTILINE)[1])  # type: ignore[index]
    assert pss < 200  # with its program's pages, which monitors share


@pytest.mark.parametrize(
    "word", ["plan=x", "plan=77", "nonsense", "stdin=3", "tty=2", "driver=x", "max-file=-1", "what=1"]
)
def test_bad_words(native: Native, word: str) -> None:
    fd = memory(b"x")
    result = subprocess.run(
        [native.path, "monitor", f"plan={fd}", word], pass_fds=[fd], capture_output=True, env=native.env
    )
    os.close(fd)
    assert result.returncode == 125
    assert b"bad argument" in result.stderr


def test_files_of_mapped_ids_are_removed_in_the_user_namespace(
    native: Native, rootfs: Rootfs, tmp_path: Path
) -> None:
    for path in (rootfs.base, *rootfs.base.rglob("*")):
        os.lchown(path, 100000, 100000)
    for path in rootfs.base.parents:
        if path != Path("/"):
            path.chmod(path.stat().st_mode | 0o111)
    steps = []
    maps = "0 100000 65536"
    for s in rootfs.shell(
        "id > /file", late=[step("write-child", "uid_map", maps), step("write-child", "gid_map", maps)]
    ):
        if s.op == "clone":
            s = s._replace(args=(f"user,{ALL}",))
        if s.op != "device":
            steps.append(s)
        if s.op == "enter":
            steps.append(step("become-root"))
    running = native.monitor(
        steps,
        "userns=1",
        teardown=[
            step("write-file", tmp_path / "by-host", 600, "", origin="host record"),
            step("write-file", rootfs.upper / "by-root-inside", 600, ""),
            step("write-file", tmp_path / "not-inside", 600, ""),
        ],
    ).started()
    assert running.wait() == 0
    assert (rootfs.upper / "by-root-inside").stat().st_uid == 100000
    assert (tmp_path / "by-host").stat().st_uid == 0
    assert not (tmp_path / "not-inside").exists()


def test_a_client_that_detaches_and_does_not_read_on(native: Native, rootfs: Rootfs) -> None:
    """Its messages count, though the kernel tells of the end of its connection first."""
    running = native.monitor(rootfs.shell(f"while :; do echo text; done & {FOREVER}"), "stdin=2").started()
    time.sleep(0.1)  # it is full of what was not read
    running.primary.send(b"iwhat\n")
    running.primary.send(b"d")
    running.primary.close()
    time.sleep(0.3)
    assert running.process.poll() is None
    os.kill(running.pid, signal.SIGKILL)
    assert running.wait() == 0
