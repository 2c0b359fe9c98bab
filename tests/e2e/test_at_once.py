"""Twenty commands at once on one container, one name, one port: each ends as if the others had come before or after."""

from __future__ import annotations

import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from harness.command import Knarr, Result

pytestmark = [pytest.mark.requires("root", "overlay", "busybox", "nft"), pytest.mark.timeout(300)]

MANY = 20


def at_once(cli: Knarr, *words: str) -> list[Result]:
    """The command, as often; `#` in a word becomes its number."""
    with ThreadPoolExecutor(MANY) as pool:
        results = list(pool.map(lambda i: cli(*(w.replace("#", str(i)) for w in words)), range(MANY)))
    for result in results:
        assert "Traceback" not in result.stderr, str(result)
        assert result.code == 0 or result.stderr.startswith("knarr: "), str(result)
    return results


def worked(results: list[Result]) -> int:
    return sum(result.code == 0 for result in results)


def test_one_name_and_one_port(knarr: Knarr, busybox: str) -> None:
    assert worked(at_once(knarr, "run", "-d", "--name", "one", busybox, "sleep", "1000")) == 1
    port = "127.0.0.1:18080:80"
    assert worked(at_once(knarr, "run", "-d", "-p", port, busybox, "sleep", "1000")) == 1
    assert len(knarr.ok("ps", "-aq").split()) == 2


def test_one_container(knarr: Knarr, busybox: str) -> None:
    """Who finds it being started or stopped waits for that."""
    knarr.ok("create", "--name", "one", "--network", "none", busybox, "sleep", "1000")
    assert worked(at_once(knarr, "start", "one")) == MANY
    assert worked(at_once(knarr, "exec", "one", "true")) == MANY
    assert worked(at_once(knarr, "restart", "-t", "0", "one")) == MANY
    assert worked(at_once(knarr, "stop", "-t", "0", "one")) == MANY
    assert "Exited" in knarr.ok("ps", "-a")
    knarr.ok("start", "one")
    assert worked(at_once(knarr, "rm", "-f", "one")) >= 1
    assert os.listdir(knarr.root / "containers") == os.listdir(knarr.root / "names") == []


def test_one_container_gets_one_name(knarr: Knarr, busybox: str) -> None:
    knarr.ok("create", "--name", "one", busybox, "true")
    worked(at_once(knarr, "rename", "one", "name#"))
    name = knarr.ok("ps", "-a", "--format", "{{.Names}}")
    assert os.listdir(knarr.root / "names") == [name]


def test_many_containers_come_and_go(knarr: Knarr, busybox: str) -> None:
    """While others list them, and so look for something to mend."""
    looking = [
        subprocess.Popen(
            ["sh", "-c", f"while {' '.join(knarr.argv)} ps -a >/dev/null; do :; done"], env=knarr.env
        )
        for _ in range(2)
    ]
    try:
        assert worked(at_once(knarr, "run", "--rm", "-p", "0:80", busybox, "true")) == MANY
        assert worked(at_once(knarr, "run", "-d", "--name", "name#", busybox, "sleep", "1000")) == MANY
        assert worked(at_once(knarr, "rm", "-f", "name#")) == MANY
        assert [looker.poll() for looker in looking] == [None, None]
    finally:
        for looker in looking:
            looker.kill()
            looker.wait()
    assert knarr.ok("ps", "-aq") == ""
    assert os.listdir(knarr.root / "names") == []
    assert list(Path(knarr.run, "networks").glob("*/10.*")) == []
