"""Kills a command at each of its system calls that change something, one run per call.

strace counts the calls of one run, then delivers SIGKILL at the entry of the Nth call of each kind. Only the
command itself is traced: what it starts (the monitor) lives on, as it would if an administrator killed the command.
"""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from harness.command import Knarr

# What changes the world outside of the process. (Opening with O_CREAT is openat: its writes are here.)
CHANGING = (
    "mkdir,mkdirat,symlink,symlinkat,rename,renameat,renameat2,unlink,unlinkat,rmdir,write,pwrite64,sendto,sendmsg,"
    "bind,listen,memfd_create,clone,clone3,vfork,fork,execve,fsync,fdatasync,syncfs,ftruncate,link,linkat,chmod,"
    "fchmod,fchmodat,chown,fchown,lchown,fchownat,utimensat,setxattr,fsetxattr,lsetxattr,mount,umount2"
)


def _strace(cli: Knarr, options: list[str], args: tuple[str, ...]) -> int:
    argv = ["strace", "-qq", *options, *cli.argv, *args]
    # Not pipes: what the command leaves behind may hold its output open.
    nowhere = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
    everything = {**cli.identity, **nowhere, "env": cli.env, "timeout": 120}
    return subprocess.run(argv, check=False, **everything).returncode


def changing_calls(cli: Knarr, scratch: Path, *args: str) -> Counter[str]:
    """How often a run of the command makes each changing call."""
    log = scratch / "calls"
    _strace(cli, ["-e", f"trace={CHANGING}", "-e", "signal=none", "-o", str(log)], args)
    names = (line.split("(")[0] for line in log.read_text(errors="replace").splitlines() if "(" in line)
    return Counter(name for name in names if name.isidentifier())


def kills(
    cli: Knarr, scratch: Path, *args: str, most: int = 12, before: Callable[[], object] = lambda: None
) -> Iterator[str]:
    """Runs the command once per changing call and kills it there; yields what was done to it, for the message.

    Of a kind that is called more often than `most`, the calls are sampled evenly. `before` is called before each run,
    also before the first, in which nothing is killed: that is yielded too.
    """
    before()
    calls = changing_calls(cli, scratch, *args)
    yield f"{' '.join(args)} not killed"
    for name, count in calls.items():
        for number in sorted(
            {1 + i * (count - 1) // max(1, min(count, most) - 1) for i in range(min(count, most))}
        ):
            before()
            injected = f"inject={name}:signal=KILL:when={number}"
            _strace(cli, ["-e", f"trace={name}", "-e", injected, "-o", "/dev/null"], args)
            yield f"{' '.join(args)} killed at {name} number {number} of {count}"
