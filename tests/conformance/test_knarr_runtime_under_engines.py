"""knarr-runtime in place of runc below docker, podman and containerd: what a user of theirs sees is the same.

The expectation is the engine's own: each line and each life is run with runc as well, in the same test.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from harness.command import Knarr, Result
from harness.images import BUSYBOX
from harness.peers import RUNTIME, Tool
from harness.terminal import Terminal
from harness.wait import until

pytestmark = [pytest.mark.requires("root", "overlay", "runc", "cgroup-v1"), pytest.mark.timeout(1200)]

V1 = "/sys/fs/cgroup"
# Options and the container's words, with --rm and, unless they say otherwise, without a network.
LINES: tuple[tuple[str, Sequence[str]], ...] = (
    ("", ("id",)),
    ("", ("grep", "-E", "^(Cap|NoNewPrivs|Seccomp|Sig[BC])", "/proc/self/status")),
    ("", ("sh", "-c", "umask; pwd; env | grep -v HOSTNAME | sort")),
    ("", ("sh", "-c", "ls /dev | grep -v core; ls -l /dev/null /dev/ptmx | cut -c1-10")),
    ("", ("sh", "-c", "awk '{print $5}' /proc/self/mountinfo | grep -v unified | sort -u")),
    ("", ("cat", "/proc/self/limits")),
    ("", ("sh", "-c", "exit 42")),
    ("", ("sh", "-c", "echo out; echo err >&2")),
    ("", ("sh", "-c", "ls /proc/self/fd | wc -l; cat /proc/self/oom_score_adj; tty")),
    ("--cap-drop ALL", ("grep", "Cap", "/proc/self/status")),
    ("--cap-add SYS_ADMIN", ("grep", "Cap", "/proc/self/status")),
    ("-u 1000:1000 --cap-add NET_ADMIN", ("grep", "Cap", "/proc/self/status")),
    ("-u nobody", ("id",)),
    ("--group-add 55", ("id",)),
    ("--security-opt no-new-privileges", ("grep", "NoNew", "/proc/self/status")),
    ("--security-opt seccomp=unconfined", ("grep", "Seccomp:", "/proc/self/status")),
    ("--init", ("sh", "-c", "test $$ -ne 1 && echo reaped")),
    ("--read-only", ("sh", "-c", "touch /x || echo refused")),
    ("--tmpfs /t:size=1m,mode=1777", ("sh", "-c", "stat -c %a /t; df -k /t | tail -1")),
    ("--shm-size 1m", ("df", "-k", "/dev/shm")),
    ("-m 32m", ("cat", f"{V1}/memory/memory.limit_in_bytes")),
    ("-m 40m --memory-swap 40m --memory-reservation 20m", ("cat", f"{V1}/memory/memory.soft_limit_in_bytes")),
    ("--pids-limit 20", ("cat", f"{V1}/pids/pids.max")),
    ("--cpus 0.5", ("cat", f"{V1}/cpu/cpu.cfs_quota_us")),
    ("--cpuset-cpus 0", ("grep", "Cpus_allowed_list", "/proc/self/status")),
    ("--device-cgroup-rule", ("sh", "-c", f"sort {V1}/devices/devices.list")),
    ("--device /dev/null:/dev/mine", ("sh", "-c", "echo x >/dev/mine; ls -l /dev/mine | cut -c1-10")),
    ("--oom-score-adj 300", ("cat", "/proc/self/oom_score_adj")),
    ("--sysctl net.ipv4.ip_forward=1", ("cat", "/proc/sys/net/ipv4/ip_forward")),
    ("-h box", ("hostname",)),
    ("-v /usr:/x:ro", ("sh", "-c", "touch /x/y || echo refused")),
    ("-e A=two", ("sh", "-c", "echo $A")),
    ("--pid host", ("sh", "-c", "test -d /proc/2 && echo host")),
    ("--ipc host", ("true",)),
    ("--network host", ("sh", "-c", "grep -c : /proc/net/dev")),
    ("--cgroupns private", ("cat", "/proc/self/cgroup")),
    ("-i", ("cat",)),
    ("-w /etc/passwd", ("true",)),
    ("", ("nope",)),
    ("", ("/etc",)),
    ("", ("/nope/x",)),
    ("-e PATH=/nowhere", ("ls",)),
)
NOT_FOUND = "executable file not found in $PATH"


class Engine(NamedTuple):
    """One engine with ours and with its own runtime: words of the program, and of `run`."""

    tool: Tool
    ours: Tool
    theirs: Tool
    flags: tuple[tuple[str, ...], tuple[str, ...]]

    def run(self, ours: bool, *words: str) -> Result:
        """`run` with one of the two."""
        return self.side(ours).run("run", *self.flags[not ours], *words, stdin=b"typed\n")

    def side(self, ours: bool) -> Tool:
        return self.ours if ours else self.theirs


@pytest.fixture(params=["docker", "podman"])
def engine(request: pytest.FixtureRequest, knarr: Knarr, busybox: str, tmp_path: Path) -> Engine:
    return _engine(request.getfixturevalue(request.param), knarr, busybox, tmp_path)


def _engine(tool: Tool, knarr: Knarr, busybox: str, tmp_path: Path) -> Engine:
    archive = tmp_path / "busybox.tar"
    knarr.ok("save", "-o", str(archive), busybox)
    archive.chmod(0o644)
    tool("load", "-q", stdin=archive.read_bytes())
    if tool.prefix[0] == "docker":
        return Engine(tool, tool, tool, (("--runtime", "knarr"), ("--runtime", "runc")))
    sides = (
        Tool([*tool.prefix, "--runtime", name], tool.env, tool.identity) for name in (str(RUNTIME), "runc")
    )
    return Engine(tool, *sides, ((), ()))


def _plain(text: str) -> str:
    """Without what is another one each time."""
    return re.sub(r"\b[0-9a-f]{64}\b", "ID", re.sub(r"\b[0-9a-f]{12}\b", "ID", text))


def test_the_same_lines(engine: Engine) -> None:
    different = []
    for asked, words in LINES:
        options = asked.split() or []
        if asked == "--device-cgroup-rule":
            options = [asked, "c 10:200 rwm"]
        if "--network" not in options:
            options += ["--network", "none"]
        both = [engine.run(ours, "--rm", *options, BUSYBOX, *words) for ours in (True, False)]
        if both[0].code >= 125:  # the engine's own words about it
            seen = [(r.code, NOT_FOUND in r.stderr, "permission denied" in r.stderr) for r in both]
        else:
            seen = [(r.code, _plain(r.stdout), r.stderr) for r in both]
        if seen[0] != seen[1]:
            different.append("\n".join(map(str, (*both, *seen))))
    assert not different, "\n\n".join(different)


def test_a_life(engine: Engine) -> None:
    """Everything an engine does with a container that runs."""
    lives = [_life(engine, ours) for ours in (True, False)]
    assert lives[0] == lives[1]


def _life(engine: Engine, ours: bool) -> list[tuple[str, int, str]]:
    seen: list[tuple[str, int, str]] = []
    tool = engine.side(ours)

    def note(*words: str) -> Result:
        result = tool.run(*words, stdin=b"typed\n")
        quiet = words[0] in ("run", "top", "stats", "update") or result.code >= 125
        said = "" if quiet else _plain(result.stdout)
        seen.append((" ".join(words), result.code, said))
        return result

    traps = "trap 'exit 7' TERM; trap 'echo usr1' USR1; echo began; while :; do sleep 0.1; done"
    assert engine.run(ours, "-d", "--name", "life", "--network", "none", BUSYBOX, "sh", "-c", traps).code == 0
    try:
        until(30, lambda: "began" in tool.run("logs", "life").stdout)
        note("exec", "life", "sh", "-c", "echo in; exit 3")
        note("exec", "-u", "1000", "-w", "/tmp", "-e", "A=b", "life", "sh", "-c", "id -u; pwd; echo $A")
        note("exec", "-i", "life", "cat")
        missing = note("exec", "life", "nope")
        assert NOT_FOUND in missing.stdout + missing.stderr  # older dockers say it on either
        note("exec", "life", "/etc")
        note("exec", "-d", "life", "touch", "/tmp/made")
        until(30, lambda: tool.run("exec", "life", "ls", "/tmp/made").code == 0)
        assert "sleep 0.1" in note("top", "life").stdout
        assert "life" in note("stats", "--no-stream", "life").stdout
        note("pause", "life")
        note("inspect", "-f", "{{.State.Status}}", "life")
        assert note("exec", "life", "true").code != 0
        note("unpause", "life")
        note("update", "--memory", "50m", "--memory-swap", "60m", "life")
        note("update", "--cpus", "0.5", "life")
        note("exec", "life", "cat", f"{V1}/memory/memory.limit_in_bytes", f"{V1}/cpu/cpu.cfs_quota_us")
        note("kill", "-s", "USR1", "life")
        until(30, lambda: "usr1" in tool.run("logs", "life").stdout)
        engine.run(ours, "--rm", "--network", "container:life", "--pid", "container:life", BUSYBOX, "true")
        note("restart", "-t", "5", "life")
        note("inspect", "-f", "{{.State.Status}}", "life")
        note("stop", "life")
        note("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}} {{.State.OOMKilled}}", "life")
        note("start", "life")
        note("kill", "life")
        note("wait", "life")
        note("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "life")
    finally:
        tool.run("rm", "-f", "life")
    return seen


def test_out_of_memory(engine: Engine) -> None:
    options = ("--name", "greedy", "-m", "16m", "--memory-swap", "16m", "--network", "none")
    seen = []
    for ours in (True, False):
        try:
            code = engine.run(ours, *options, BUSYBOX, "tail", "/dev/zero").code
            seen.append((code, engine.tool("inspect", "-f", "{{.State.ExitCode}}", "greedy")))
        finally:
            engine.tool.run("rm", "-f", "greedy")
    assert seen == [(137, "137")] * 2


def test_health(engine: Engine) -> None:
    health = ("--health-cmd", "test -e /tmp", "--health-interval", "1s")
    engine.run(True, "-d", "--name", "healthy", *health, "--network", "none", BUSYBOX, "sleep", "60")
    try:
        if engine.tool.prefix[0] == "podman":  # its timers are systemd's: asked by hand
            assert engine.ours.run("healthcheck", "run", "healthy").code == 0
        else:
            until(
                30, lambda: engine.tool("inspect", "-f", "{{.State.Health.Status}}", "healthy") == "healthy"
            )
    finally:
        engine.tool.run("rm", "-f", "healthy")


def test_terminals(engine: Engine) -> None:
    """`run -it`, `exec -it`, `attach`: a terminal of the asker's size, which follows it, and keys that interrupt."""
    env = engine.tool.env
    words = ("run", *engine.flags[0], "-it", "--name", "seen", "--network", "none", BUSYBOX, "sh")
    try:
        with Terminal([*engine.ours.prefix, *words], env) as front:
            front.until("# ")
            _settles(front, 33, 99)
            front.type("tty\n")
            front.until("/dev/pts/0")
            front.type(
                "sh -c 'echo asl''eep; sleep 100'\n"
            )  # both in one process group: whichever is interrupted
            front.until("asleep")
            front.type("\x03")
            front.type("echo interrupt''ed\n")
            front.until("interrupted")
            with Terminal([*engine.ours.prefix, "exec", "-it", "seen", "sh"], env) as second:
                second.until("# ")
                _settles(second, 44, 111)
                second.type("exit 5\n")
                assert second.end() == 5
            with Terminal([*engine.ours.prefix, "attach", "seen"], env) as other:
                other.type("echo from''there\n")
                other.until("fromthere")
                front.until("fromthere")
                front.type("exit 9\n")
                assert front.end() == 9
    finally:
        engine.tool.run("rm", "-f", "seen")


def _settles(terminal: Terminal, rows: int, columns: int) -> None:
    """A new size is followed. Again and again: who has a prompt need not be listening for it yet."""
    deadline = time.monotonic() + 20
    while f"{rows} {columns}\n" not in terminal.seen:
        assert time.monotonic() < deadline, terminal.seen
        terminal.resize(rows, columns + 1)
        terminal.resize(rows, columns)
        terminal.type("sleep 0.2; stty size; echo si''ze\n")
        terminal.until("\nsize\n")


IN_USERNS = (
    "sh",
    "-c",
    "cat /proc/self/uid_map; id; touch /made && stat -c %u:%g /made; grep Cap /proc/self/status",
)


def test_podman_in_user_namespaces(
    podman: Tool, knarr: Knarr, busybox: str, tmp_path: Path, subordinate_ids: None
) -> None:
    engine = _engine(podman, knarr, busybox, tmp_path)
    for option in (("--uidmap", "0:100000:65536"), ("--userns=auto",)):
        ours, theirs = (
            engine.run(side, "--rm", "--network", "none", *option, BUSYBOX, *IN_USERNS)
            for side in (True, False)
        )
        assert (ours.code, ours.stdout) == (theirs.code, theirs.stdout) and ours.code == 0, f"{ours}{theirs}"


def test_docker_in_user_namespaces(remapped_docker: Tool, knarr: Knarr, busybox: str, tmp_path: Path) -> None:
    engine = _engine(remapped_docker, knarr, busybox, tmp_path)
    ours, theirs = (
        engine.run(side, "--rm", "--network", "none", BUSYBOX, *IN_USERNS) for side in (True, False)
    )
    assert (ours.code, ours.stdout) == (theirs.code, theirs.stdout) and ours.code == 0, f"{ours}{theirs}"


@pytest.mark.requires("newuidmap")
def test_an_ordinary_users_podman(user_podman: Tool, knarr: Knarr, busybox: str, tmp_path: Path) -> None:
    engine = _engine(user_podman, knarr, busybox, tmp_path)
    for option in ("", "--userns=keep-id", "--userns=auto", "-u 1000"):
        ours, theirs = (
            engine.run(side, "--rm", "--network", "none", *option.split(), BUSYBOX, *IN_USERNS)
            for side in (True, False)
        )
        assert (ours.code, ours.stdout) == (theirs.code, theirs.stdout), f"{ours}{theirs}"
        assert ours.code == 0, str(ours)
    assert engine.run(True, "-d", "--name", "own", "--network", "none", BUSYBOX, "sleep", "60").code == 0
    assert engine.ours.run("exec", "own", "sh", "-c", "exit 4").code == 4
    engine.ours("stop", "-t", "0", "own")
    engine.ours("rm", "own")


def test_a_pod(podman: Tool, knarr: Knarr, busybox: str, tmp_path: Path) -> None:
    tool = _engine(podman, knarr, busybox, tmp_path).ours
    infra = ("--infra-image", BUSYBOX, "--infra-command", "sleep 60")
    tool("pod", "create", "--name", "pod", "--network", "none", *infra)
    try:
        tool("run", "-d", "--pod", "pod", "--name", "first", BUSYBOX, "sh", "-c", "hostname inside; sleep 60")
        until(30, lambda: tool("run", "--rm", "--pod", "pod", BUSYBOX, "hostname") == "pod")
        shared = ("sh", "-c", "for n in net uts ipc; do readlink /proc/self/ns/$n; done")
        spaces = [tool("run", "--rm", "--pod", "pod", BUSYBOX, *shared), tool("exec", "first", *shared)]
        assert spaces[0] == spaces[1]
        tool("pod", "stop", "-t", "0", "pod")
        tool("pod", "start", "pod")
        assert "Running" in tool("pod", "ps", "--format", "{{.Status}}")
    finally:
        tool.run("pod", "rm", "-f", "-t", "0", "pod")


def test_containerd(containerd: Tool, busybox_archive: Path) -> None:
    containerd("image", "import", "--no-unpack", str(busybox_archive))
    containerd("image", "import", str(busybox_archive))
    binary = ("--runc-binary", str(RUNTIME))
    run = ("run", *binary, "--snapshotter", "overlayfs")
    result = containerd.run(*run, "--rm", BUSYBOX, "one", "sh", "-c", "id -u; exit 6")
    assert (result.code, result.stdout) == (6, "0\n"), str(result)
    assert NOT_FOUND in containerd.run(*run, "--rm", BUSYBOX, "two", "nope").stderr
    containerd(*run, "-d", "--memory-limit", "50000000", BUSYBOX, "three", "sleep", "60")
    try:
        assert containerd("task", "exec", "--exec-id", "e", "three", "echo", "inside") == "inside"
        assert len(containerd("task", "ps", "three").splitlines()) == 2
        containerd("task", "pause", "three")
        assert "PAUSED" in containerd("task", "ls")
        containerd("task", "resume", "three")
        assert "memory" in containerd("task", "metrics", "three")
        with Terminal(
            [*containerd.prefix, "task", "exec", "-t", "--exec-id", "t", "three", "sh"], containerd.env
        ) as front:
            front.until("# ")
            front.type("tty; exit 3\n")
            assert front.end() == 3
            assert "/dev/pts/0" in front.seen
        containerd("task", "kill", "-s", "9", "three")
        until(30, lambda: "STOPPED" in containerd("task", "ls"))
    finally:
        containerd.run("task", "rm", "-f", "three")
        containerd.run("container", "rm", "three")


def test_warnings_are_not_among_what_a_container_prints(
    podman: Tool, knarr: Knarr, busybox: str, tmp_path: Path
) -> None:
    """conmon gives the runtime the container's own standard error, and knows no log file of ours."""
    tool = _engine(podman, knarr, busybox, tmp_path).ours
    odd = ("--security-opt", "apparmor=unconfined", "--ulimit", "core=0", "--annotation", "a=b")
    result = tool.run("run", "--rm", "--network", "none", *odd, BUSYBOX, "true")
    assert (result.code, result.stdout, result.stderr) == (0, "", "")
