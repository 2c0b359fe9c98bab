"""Images whose configuration is absurd or malicious: one line, docker's exit code, nothing acts on the terminal."""

from __future__ import annotations

import os
import pty
from pathlib import Path
from typing import Any

import pytest

from harness.command import Knarr, Result
from harness.images import layer, layer_of, make_image, write_archive
from harness.wait import until

pytestmark = [pytest.mark.requires("root", "overlay", "busybox")]

ESCAPE = "\x1b]0;title\x07\x1b[31m"
NAME = "localhost/hostile:1"


@pytest.fixture
def hostile(knarr: Knarr, busybox_rootfs: Path, tmp_path: Path) -> Any:
    """Loads an image with the given layers over busybox and the given configuration."""

    def load(*layers: bytes, **config: object) -> Result:
        image = make_image([layer_of(busybox_rootfs), *layers], **config)
        return knarr("load", "-i", str(write_archive(image, NAME, tmp_path / "image.tar")))

    return load


def one_line(result: Result, code: int = 125) -> str:
    """The error, which is one line that begins with `knarr: `, perhaps with a hint below it."""
    assert result.code == code, str(result)
    lines = result.stderr.splitlines()
    assert lines and lines[0].startswith("knarr: "), str(result)
    assert len(lines) == 1 or (len(lines) == 2 and lines[1].startswith("  ")), str(result)
    assert result.stderr.replace("\n", "").isprintable(), str(result)
    return lines[0].removeprefix("knarr: ")


def volumes_left(cli: Knarr) -> list[str]:
    folder = cli.root / "volumes"
    return os.listdir(folder) if folder.exists() else []


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"Env": ["A=1\0B=2"]}, "process.env: contains a NUL byte"),
        ({"Env": ["A=\ud800"]}, "not a character"),
        ({"Env": ["A=" + "x" * 200_000]}, "argument list too long"),
        ({"Cmd": ["true", *["x"] * 300_000]}, "argument list too long"),
        ({"Cmd": ["sh\0", "-c"]}, "contains a NUL byte"),
        ({"Cmd": []}, "no command specified"),
        ({"User": "9" * 5000}, "uids and gids must be in range"),
        ({"User": "4294967295"}, "uids and gids must be in range"),
        ({"User": ESCAPE + "\nx"}, "unable to find user \\x1b"),
        ({"User": "١٢"}, "unable to find user"),
        ({"WorkingDir": "relative"}, "is not absolute"),
        ({"WorkingDir": "/proc/self/fd/0"}, "too many levels of symbolic links"),
        ({"WorkingDir": "/" + "a/" * 2500}, "file name too long"),
        ({"Volumes": {"/" + "v" * 5000: {}}}, "file name too long"),
    ],
)
def test_what_cannot_run(knarr: Knarr, hostile: Any, config: dict[str, object], says: str) -> None:
    assert hostile(**{"Cmd": ["true"], **config}).code == 0
    assert says in one_line(knarr("run", "--rm", "--network", "none", NAME))
    assert knarr.ok("ps", "-aq") == ""
    assert volumes_left(knarr) == []


@pytest.mark.parametrize(
    ("config", "path"),
    [
        ({"Cmd": "true"}, "config.Cmd"),
        ({"Cmd": [1]}, "config.Cmd[0]"),
        ({"Env": {"A": "1"}}, "config.Env"),
        ({"Healthcheck": {"Test": 5}}, "config.Healthcheck.Test"),
    ],
)
def test_what_is_no_configuration(hostile: Any, config: dict[str, object], path: str) -> None:
    assert path in one_line(hostile(**config), 1)


@pytest.mark.parametrize(
    "volumes",
    [["../../../../tmp/out"], ["/a/../../../tmp/out"], ["/"], ["//"], [""], ["relative"], ["/proc/self/fd"]],
)
def test_volumes_stay_inside(knarr: Knarr, hostile: Any, volumes: list[str]) -> None:
    hostile(Cmd=["true"], Volumes={v: {} for v in volumes})
    knarr("run", "--rm", "--network", "none", NAME)
    assert not Path("/tmp/out").exists()
    until(10, lambda: volumes_left(knarr) == [])


@pytest.mark.parametrize("name", ["SIGNONSENSE", "99", "0", "-9", "9" * 5000])
def test_a_stop_signal_that_is_none(knarr: Knarr, hostile: Any, name: str) -> None:
    """It must not keep a container from being stopped and removed."""
    hostile(Cmd=["sleep", "1000"], StopSignal=name)
    knarr.ok("run", "-d", "--name", "one", "--network", "none", NAME)
    knarr.ok("stop", "-t", "0", "one")
    knarr.ok("start", "one")
    knarr.ok("rm", "-f", "one")


def test_passwd_bombs(knarr: Knarr, hostile: Any) -> None:
    hostile(layer({"etc/passwd": b"x:x:1:1::/:/bin/sh\n" * 400_000}), User="root", Cmd=["true"])
    assert "larger than 4 MiB" in one_line(knarr("run", "--rm", "--network", "none", NAME))
    hostile(layer({"etc/passwd": bytes(range(256)) * 100}), User="alice", Cmd=["true"])
    assert "unable to find user alice" in one_line(knarr("run", "--rm", "--network", "none", NAME))


def on_terminal(cli: Knarr, *args: str) -> str:
    """What a command prints when standard output is a terminal."""
    ours, theirs = pty.openpty()
    with cli.popen(*args, stdout=theirs) as process:
        os.close(theirs)
        out = b""
        try:
            while chunk := os.read(ours, 65536):
                out += chunk
        except OSError:  # EIO: the other end is closed
            pass
        assert process.wait(30) == 0
    os.close(ours)
    return out.decode()


def test_nothing_of_an_image_acts_on_the_terminal(knarr: Knarr, hostile: Any) -> None:
    hostile(
        Cmd=[ESCAPE], Labels={ESCAPE: "a\nb", "half": "\ud800"}, WorkingDir="/" + ESCAPE, StopSignal=ESCAPE
    )
    knarr.ok("create", "--name", "one", "--label", f"mine={ESCAPE}", NAME)
    for words in (
        ["ps", "-a"],
        ["ps", "-a", "--format", "{{.Command}} {{.Labels}}"],
        ["ps", "-a", "--format", "json"],
        ["inspect", "one"],
        ["inspect", NAME],
        ["inspect", "--format", "{{.Config}}", "one"],
        ["inspect", "--format", "{{json .Config}}", NAME],
        ["images"],
    ):
        text = on_terminal(knarr, *words)
        assert text.replace("\r\n", "").isprintable(), (words, text)
    # A program gets a value as it is; half a character is no reason to fail.
    assert knarr.ok("inspect", "--format", '{{index .Config.Labels "mine"}}', "one") == ESCAPE
    assert knarr.ok("inspect", "--format", "{{.Config.Labels.half}}", NAME) == "\\ud800"
    assert "\\x1b" in one_line(knarr("start", "-a", "one"), 127)
