"""What a step was trying to do, in words: the middle of every error about a plan. Imported when one failed."""

from __future__ import annotations

import errno

TYPE_CHECKING = False
if TYPE_CHECKING:
    from knarr.plan.step import Step

# `{N}` is the step's argument N. An operation that is missing here is named as it is in the plan.
_PHRASES = {
    "mkdir": "make directory {0}",
    "rmdir": "remove directory {0}",
    "rmtree": "remove {0}",
    "unlink": "remove {0}",
    "symlink": "make link {1}",
    "rename": "rename {0} to {1}",
    "write": "write {1} to {0}",
    "write-first": "write {1} to {0}",
    "write-both": "write {1} to {0} and {3} to {2}",
    "write-file": "write {0}",
    "cgroup-kill": "kill the processes in cgroup {0}",
    "cgroup-move": "move the processes of cgroup {0} to {1}",
    "umount": "unmount {0}",
    "net-device": "move network device {0} into the container as {1}",
    "resctrl-group": "make the resctrl group {0}",
    "netlink": "set up the network",
    "join": "enter the {0} namespace {1}",
    "join-pid": "enter the namespaces of process {0}",
    "cgroup-own": "give cgroup {0} to its user",
    "cgroup-v2": "start in cgroup {0}",
    "unshare": "make a new namespace ({0})",
    "clone": "make new namespaces ({0})",
    "write-child": "write {0} of the container's process",
    "spawn": "start {0}",
    "wait-spawned": "wait for the programs started before",
    "pause": "wait for {0}",
    "enter": "start the container's process",
    "become-root": "become root of the user namespace",
    "pdeathsig": "set the parent death signal",
    "new-session": "start a session",
    "keyring": "join a session keyring",
    "propagation": "change the propagation of {0}",
    "open-tree": "open {1}",
    "open-node": "make a device",
    "overlay": "mount the layers on {0}",
    "root": "use {0} as the root filesystem",
    "mount": "mount {2}",
    "bind": "mount {0} on {1}",
    "idmap-bind": "mount {0} on {1} with mapped ids",
    "attach-propagation": "change the propagation of {0}",
    "remount": "change the mount {0}",
    "copy-up": "copy the content of {0} into its tmpfs",
    "make-dir": "make directory {0}",
    "make-file": "make file {0}",
    "no-link": "use {0}",
    "make-link": "make link {0}",
    "device": "make device {0}",
    "mask": "mask {0}",
    "readonly": "make {0} read-only",
    "sysctl": "set {0}",
    "find-command": "find {0}",
    "hostname": "set the host name to {0!r}",
    "domainname": "set the domain name to {0!r}",
    "pivot": "change the root",
    "move-root": "change the root",
    "chroot": "change the root",
    "root-attr": "make the root filesystem read-only",
    "console": "open a terminal",
    "stdio": "connect the standard streams",
    "reap": "start the init process",
    "rlimit": "set the limit {0} to {1}:{2}",
    "oom-score": "set the oom score to {0}",
    "personality": "set the personality {0}",
    "scheduler": "set the scheduler {0}",
    "ioprio": "set the io priority",
    "mempolicy": "set the memory policy",
    "affinity": "run on cpus {0}",
    "bounding": "limit the capability bounding set",
    "user": "become user {0}:{1}",
    "caps": "set the capabilities",
    "no-new-privs": "set no_new_privs",
    "label": "set the {0} label {1}",
    "seccomp": "load the seccomp filter",
    "seccomp-listener": "connect to {0}",
    "chdir": "chdir to the working directory {0}",
    "close-fds": "close descriptors",
    "wait": "wait to be started",
    "wait-fifo": "wait to be started",
    "env": "set the environment",
    "exec": "exec {0!r}",
}

_NO_USERNS = "see `knarr doctor`: user namespaces seem to be switched off for ordinary users"


def phrase(step: Step) -> str:
    """The step as a user would say it: `mount /data`, `write 100 to /sys/fs/cgroup/…`."""
    if step.op == "bind" and step.args[0].startswith("@"):  # opened by an earlier step, which named it
        return f"mount on {_shortened(step.args[1])}"
    if step.op == "hook":
        kind, _, number = step.origin.removeprefix("hooks.").rstrip("]").partition("[")
        return f"error running {kind} hook #{number}: {_shortened(step.args[0])}"
    try:
        words = _PHRASES[step.op].format(*map(_shortened, step.args))
    except (KeyError, IndexError):
        words = f"{step.op} {' '.join(map(_shortened, step.args[:2]))}".rstrip()
    return words


def _shortened(arg: str) -> str:
    arg = printable(" ".join(arg.split())) or "''"
    return arg if len(arg) <= 120 else f"{arg[:100]}…"


def printable(text: str) -> str:
    """Names come from images: none of them may speak to the user's terminal."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def hint(step: Step, number: int) -> str:
    """The next thing to try, "" where nothing is known to help."""
    op = {"find-command": "exec", "open-tree": "bind"}.get(step.op, step.op)
    if (op, number) in _HINTS:
        return _HINTS[op, number]
    if step.op in ("clone", "unshare") and number in (errno.EPERM, errno.ENOSPC, errno.EUSERS):
        return _NO_USERNS
    if step.op == "write" and "/cpuset." in step.args[0] and number in (errno.ERANGE, errno.EINVAL):
        return "not all of these are on this machine, or in the cgroup above: `nproc`, `lscpu`"
    if number == errno.ENOSPC:
        return "free some space: `knarr rmi IMAGE`, `knarr rm CONTAINER`"
    return ""


_HINTS = {
    (
        "bind",
        errno.ELOOP,
    ): "/proc and /sys must be ordinary directories of the image: a link could lead elsewhere",
    ("exec", errno.ENOENT): (
        "is it in the image? look with `knarr run -it --entrypoint sh IMAGE`; a script also needs the "
        "interpreter of its first line, a dynamic program its loader"
    ),
    ("exec", errno.EACCES): "make it executable in the image: `chmod +x`",
    ("exec", errno.ENOEXEC): (
        "the image may be for another architecture (see --platform), or a script lacks its #! line"
    ),
    (
        "bind",
        errno.ENOENT,
    ): "the source of a bind mount must exist; -v with a path makes it, --mount does not",
    ("bind", errno.ENOTDIR): "one of the two is a directory, the other a file",
    ("overlay", errno.EINVAL): "does the filesystem of knarr's root support overlay? see `knarr doctor`",
    ("overlay", errno.ENODEV): "this kernel has no overlay filesystem: `modprobe overlay`",
    ("rlimit", errno.EPERM): "a limit above the hard limit of knarr itself needs CAP_SYS_RESOURCE",
    ("oom-score", errno.EACCES): "lowering the score needs CAP_SYS_RESOURCE",
    (
        "wait-spawned",
        0,
    ): "see `knarr doctor`: the ranges in /etc/subuid and /etc/subgid, newuidmap and newgidmap",
    (
        "seccomp",
        errno.EINVAL,
    ): "this kernel may lack a flag of the profile; try --security-opt seccomp=unconfined",
}
