"""An ordinary user as root of a user namespace of their own: for files that belong to mapped ids.

An image's files have many owners. A user may only make and delete those of their own id and, through newuidmap and
newgidmap, of the ranges in /etc/subuid and /etc/subgid. So a command that unpacks or deletes (`pull`, `load`,
`rmi`, `rm`) runs itself again inside such a namespace, with KNARR_USERNS=<the user's id outside>. Where helpers or
ranges are missing the namespace maps the one id only.
"""

from __future__ import annotations

import _socket
import errno
import os

from knarr.errors import HostError, StepFailed
from knarr.oci.spec import Linux
from knarr.plan.defaults import user_maps
from knarr.plan.idmap import idmap_steps
from knarr.plan.step import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import NoReturn

    from knarr.oci.spec import IdMap
    from knarr.plan.facts import HostFacts

ENVIRONMENT = "KNARR_USERNS"
ORIGIN = "host.userns"
_SIGKILL = 9


def uid_maps(facts: HostFacts) -> tuple[tuple[IdMap, ...], tuple[IdMap, ...], bool]:
    """(uid maps, gid maps, is it the single-id map) of this user's namespaces: the same for what is unpacked and for
    what runs, or the owners of files would not be those of processes. Pure."""
    uids, gids, cost = user_maps(facts)
    return uids, gids, bool(cost)


def missing(facts: HostFacts) -> str:
    """What keeps this user from having more than one id inside, "" when nothing does. Pure."""
    for tool in ("newuidmap", "newgidmap"):
        if tool not in facts.tools:
            return f"{tool} is not installed"
    for name, ranges in (("/etc/subuid", facts.subuids), ("/etc/subgid", facts.subgids)):
        if not ranges:
            return f"{name} has no range for {facts.user or facts.euid}"
    return ""


def single_id_warning(facts: HostFacts) -> str:
    """One line that says what the single-id map costs, "" where it is not used. Pure."""
    return user_maps(facts)[2]


def namespace_steps(facts: HostFacts, kinds: str = "user,mnt") -> list[Step]:
    """The beginning of a plan whose container part runs as root of a new user namespace."""
    uids, gids, _ = uid_maps(facts)
    return [
        Step("clone", (kinds,), ORIGIN),
        *idmap_steps(Linux(uid_mappings=uids, gid_mappings=gids), facts),
        Step("enter", (), ORIGIN),
        Step("become-root", (), ORIGIN),
        # After the change of ids, which clears it (prctl(2), PR_SET_PDEATHSIG).
        Step("pdeathsig", (str(_SIGKILL),), ORIGIN),
    ]


def reexec_in_userns(
    facts: HostFacts, argv: Sequence[str] = (), env: Mapping[str, str] | None = None
) -> NoReturn:
    """Become `argv` (default: this very command again) as root of a new user and mount namespace.

    This process only passes signals on, and exits as the command does. It does not come back but with an error.
    """
    import sys

    from knarr.host.launch import foreground

    words = list(argv) or [sys.executable, *sys.orig_argv[1:]]
    variables = {**(os.environ if env is None else env), ENVIRONMENT: str(facts.euid)}
    steps = [
        *namespace_steps(facts),
        Step("env", tuple(f"{k}={v}" for k, v in variables.items()), ORIGIN),
        Step("exec", tuple(words), ORIGIN),
    ]
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(foreground(steps))


def execute_in_userns(steps: Sequence[Step], facts: HostFacts | None = None) -> None:
    """Execute a plan without `clone` as root of a new user namespace. Raises what `native.execute` raises."""
    from knarr.host import native

    facts = facts or _facts()
    if facts.euid == 0:
        native.execute(steps)
        return
    plan = native.plan_fd(steps)
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    try:
        # A second executor, started by the first: only the outer plan knows of namespaces, and the inner one's reports
        # name its own steps.
        given = (plan, theirs.fileno())
        outer = [
            *namespace_steps(facts),
            Step("close-fds", (str(max(given) + 1),), ORIGIN),
            Step("exec", (native.program(), "init", *map(str, given)), ORIGIN),
        ]
        status = native.execute(outer, pass_fds=given)
        theirs.close()
        while report := ours.recv(native.REPORT_BYTES):
            if report.startswith(b"fail "):
                raise native.failure(steps, report)
        if status:
            raise HostError(f"the executor ended with {status}")
    finally:
        os.close(plan)
        ours.close()
        theirs.close()


def rmtree_in_userns(path: str, facts: HostFacts | None = None) -> None:
    """Delete a tree whose files may belong to mapped ids. Absent is fine. Raises `StepFailed`."""
    from knarr.host import native

    steps = [Step("rmtree", (path,), "")]
    try:
        native.execute(steps)  # most trees are all the user's own, and a namespace costs milliseconds
    except StepFailed as e:
        facts = facts or _facts()
        if e.errno not in (errno.EACCES, errno.EPERM) or facts.euid == 0:
            raise
        execute_in_userns(steps, facts)


def _facts() -> HostFacts:
    from knarr.host.facts import read_facts

    return read_facts()


def outer_uid(env: Mapping[str, str]) -> int | None:
    """The id outside of the user whose namespace knarr made around this process; None in no such namespace."""
    value = env.get(ENVIRONMENT, "")
    if not value:
        return None
    if not value.isdecimal():
        raise HostError(f"{ENVIRONMENT}={value}: is not a user id")
    return int(value)
