"""Files of knarr's own directories that are damaged, gone or of another time: told in a line, and mendable."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from harness.command import Knarr

pytestmark = [pytest.mark.requires("root", "overlay", "busybox", "nft", "ip")]

QUESTIONS = (
    "ps -a|inspect one|logs one|top one|port one|exec one true|start one|rename one two|rename two one|"
    "stop -t 0 one|wait one|pause one|restart -t 0 one"
)


def damage(path: Path, how: str) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    match how:
        case "garbage":
            path.write_bytes(bytes(range(256)) * 10)
        case "json":
            path.write_text('{"id": 5, "pid": "x", "layers": "y", "ports": {}, "options": []}')
        case "lines":
            path.write_text("pid x\nstart -\nmonitor 99999999999999999999999\nstarted y\ncode z\nfinished\n")
        case "directory":
            path.mkdir()
        case "dangling":
            path.symlink_to("/nonexistent/file")


def one(cli: Knarr, image: str) -> tuple[str, Path, Path]:
    cid = cli.ok("run", "-d", "--name", "one", "-p", "0:80", image, "sleep", "1000")
    return cid, cli.root / "containers" / cid, cli.run / "containers" / cid


@pytest.mark.parametrize("how", ["garbage", "json", "lines", "directory", "dangling", "gone"])
@pytest.mark.parametrize(
    "name", ["config.json", "exit", "run/pid", "run/run.json", "run/config.json", "run/cgroup.json"]
)
def test_a_damaged_file(knarr: Knarr, busybox: str, name: str, how: str) -> None:
    """Whatever is damaged, no command shows a traceback, and `rm -f` removes the container."""
    cid, root, run = one(knarr, busybox)
    pid = int(dict(line.split() for line in (run / "pid").read_text().splitlines())["pid"])
    damage(run / name.removeprefix("run/") if name.startswith("run/") else root / name, how)
    for words in QUESTIONS.split("|"):
        if words == "wait one" and name == "run/pid":
            continue  # nobody knows any more whom to stop
        result = knarr(*words.split(), timeout=30)
        assert "Traceback" not in result.stderr and result.code in (0, 1, 125), str(result)
        assert result.code == 0 or result.stderr.startswith("knarr: "), str(result)
    if name == "run/pid" and Path(f"/proc/{pid}").exists():
        os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while cid in os.listdir(knarr.root / "containers") and time.monotonic() < deadline:
        knarr("rm", "-f", cid)
    assert os.listdir(knarr.root / "containers") == []
    assert os.listdir(knarr.root / "names") == []


def test_a_damaged_container_is_found(knarr: Knarr, busybox: str) -> None:
    cid, root, _ = one(knarr, busybox)
    damage(root / "config.json", "garbage")
    assert knarr.ok("ps", "-a", "--format", "{{.Names}} {{.Image}}") == "one <damaged>"
    result = knarr("inspect", "one")
    assert result.stderr.startswith(f"knarr: container {cid[:12]}: its config.json is damaged: "), result
    knarr.ok("rm", "-f", "one")
    assert knarr.ok("ps", "-aq") == ""


def test_garbage_among_the_containers(knarr: Knarr, busybox: str) -> None:
    cid, _, _ = one(knarr, busybox)
    containers, names = knarr.root / "containers", knarr.root / "names"
    (containers / "file").write_text("garbage")
    (containers / "link").symlink_to("/nonexistent")
    (containers / "x\ny").mkdir()
    (knarr.run / "containers" / "file").write_text("garbage")
    (names / "dangling").symlink_to("../containers/nobody")
    (names / "file").write_text("garbage")
    (names / "loop").symlink_to("loop")
    assert knarr.ok("ps", "-aq", "--no-trunc") == cid
    for name in ("dangling", "file", "loop"):
        assert knarr("inspect", name).code == 1
        assert knarr("rm", name).code == 1
    knarr.ok("create", "--name", "dangling", busybox, "true")
    assert knarr("create", "--name", "file", busybox, "true").stderr.startswith("knarr: ")
    knarr.ok("rm", "-f", "one", "dangling")


def test_after_a_reboot(knarr: Knarr, busybox: str) -> None:
    """RUN is a memory file system: after a power cut everything that ran is gone, and nobody has said so."""
    cid, _, run = one(knarr, busybox)
    knarr.ok("exec", "one", "sh", "-c", "echo kept >/file")
    record = dict(line.split() for line in (run / "pid").read_text().splitlines())
    os.kill(int(record["monitor"]), signal.SIGKILL)
    deadline = time.monotonic() + 10
    while Path(f"/proc/{record['pid']}").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    for entry in knarr.run.iterdir():
        shutil.rmtree(entry)
    subprocess.run(["nft", "flush", "ruleset"], check=True)
    bridges = subprocess.run(
        ["ip", "-o", "link", "show", "type", "bridge"], capture_output=True, text=True
    ).stdout
    for line in bridges.splitlines():
        subprocess.run(["ip", "link", "delete", line.split(":")[1].strip()], check=True)
    assert knarr.ok("ps", "-q") == ""
    assert knarr.ok("ps", "-aq", "--no-trunc") == cid
    assert knarr("create", "--name", "one", busybox, "true").code == 125
    knarr.ok("start", "one")
    assert knarr.ok("exec", "one", "cat", "/file") == "kept"
    assert knarr.ok("port", "one").startswith("80/tcp -> ")


def test_run_wiped_while_nothing_runs(knarr: Knarr, busybox: str) -> None:
    """The bridge and the rules are still there."""
    one(knarr, busybox)
    knarr.ok("stop", "-t", "0", "one")
    for entry in knarr.run.iterdir():
        shutil.rmtree(entry)
    assert "Exited (137)" in knarr.ok("ps", "-a")
    knarr.ok("start", "one")
    assert knarr.ok("port", "one").startswith("80/tcp -> ")
    assert knarr.ok("exec", "one", "echo", "works") == "works"


def test_a_clock_set_back(knarr: Knarr, busybox: str) -> None:
    """The container ended in what is now the future; it runs nevertheless."""
    _, root, _ = one(knarr, busybox)
    knarr.ok("stop", "-t", "0", "one")
    text = (root / "exit").read_text()
    (root / "exit").write_text(text.replace("finished 20", "finished 29").replace("started 20", "started 29"))
    knarr.ok("start", "one")
    assert knarr.ok("ps", "--format", "{{.Names}} {{.State}}") == "one running"
    assert knarr.ok("exec", "one", "echo", "works") == "works"
    knarr.ok("stop", "-t", "0", "one")
    assert "Exited (137)" in knarr.ok("ps", "-a")
