"""Standard descriptors that are closed, full, not read, or shared with a caller of bad habits."""

from __future__ import annotations

import os
import resource
import subprocess

import pytest

from harness.command import Knarr

pytestmark = [pytest.mark.requires("root", "overlay", "busybox")]


def in_shell(cli: Knarr, script: str, image: str) -> subprocess.CompletedProcess[str]:
    """A shell line with `$K` as knarr and `$I` as the image."""
    env = {**cli.env, "K": " ".join(cli.argv), "I": image}
    return subprocess.run(
        ["sh", "-c", script], env=env, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize(
    "words",
    [
        "ps -a",
        "images",
        "inspect $I",
        "info",
        "version",
        "--help",
        "help run",
        "run --help",
        "completion bash",
    ],
)
def test_output_that_nobody_can_take(knarr: Knarr, busybox: str, words: str) -> None:
    full = in_shell(knarr, f"exec $K {words} >/dev/full", busybox)
    assert (full.returncode or 0) in (1, 125), full
    assert full.stderr == "knarr: standard output: no space left on device\n"
    closed = in_shell(knarr, f"exec $K {words} >&-", busybox)
    assert (closed.returncode, closed.stderr) == (0, ""), closed
    hung_up = in_shell(knarr, f"{{ $K {words}; echo $? >&2; }} | true", busybox)
    assert hung_up.stderr.strip() in ("0", "1"), hung_up


def test_output_of_a_container_that_nobody_can_take(knarr: Knarr, busybox: str) -> None:
    full = in_shell(knarr, "exec $K run --rm --network none $I echo hi >/dev/full", busybox)
    assert full.returncode == 125
    assert full.stderr == "knarr: cannot write the container's output: No space left on device\n"


def test_closed_descriptors_are_nobody_elses(knarr: Knarr, busybox: str) -> None:
    """Nothing that knarr opens becomes the container's input or output."""
    script = "ls -l /proc/self/fd >/links; echo out; echo err >&2; exit 3"
    closed = in_shell(
        knarr, f"exec $K run --name one --network none $I sh -c '{script}' <&- >&- 2>&-", busybox
    )
    assert closed.returncode == 3
    assert in_shell(knarr, "exec $K run --rm -i --network none $I cat <&-", busybox).stdout == ""
    knarr.ok("run", "-d", "--name", "two", "--network", "none", busybox, "sleep", "1000")
    assert in_shell(knarr, "exec $K exec two sh -c 'echo hi; exit 4' <&- >&- 2>&-", busybox).returncode == 4


def test_few_descriptors(knarr: Knarr, busybox: str) -> None:
    """Ones left open beyond the limit do no harm."""
    spare = os.dup2(0, 200)

    def lower() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))

    try:
        for words in (["run", "--rm", "--network", "none", busybox, "true"], ["ps", "-a"]):
            result = knarr(*words, preexec_fn=lower, pass_fds=(200,))
            assert result.code == 0, result
    finally:
        os.close(spare)
