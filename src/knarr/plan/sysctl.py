"""Kernel parameters of a container (config-linux.md, Sysctl): only those that belong to a namespace it has."""

from __future__ import annotations

from knarr.errors import UsageError
from knarr.plan.step import Step, key, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from knarr.plan.namespaces import Namespaces

IPC = frozenset(
    ("kernel/msgmax", "kernel/msgmnb", "kernel/msgmni", "kernel/sem", "kernel/shmall", "kernel/shmmax",
     "kernel/shmmni", "kernel/shm_rmid_forced", "kernel/auto_msgmni", "kernel/msg_next_id", "kernel/sem_next_id",
     "kernel/shm_next_id")
)  # fmt: skip
DOMAIN, HOST = "kernel/domainname", "kernel/hostname"
UTS = frozenset((DOMAIN, HOST))


def sysctl_steps(sysctls: Mapping[str, str], ns: Namespaces, domainname: str = "") -> Iterator[Step]:
    for name, value in sysctls.items():
        origin = f"linux.sysctl[{key(name)}]"
        path = sysctl_path(name)
        kind = _namespace(path)
        if ".." in path.split("/") or not path:
            raise UsageError(f"{origin}: is not a parameter's name")
        if kind is None:
            raise UsageError(
                f"{origin}: is the whole machine's",
                hint="set it on the host with sysctl(8)",
            )
        if not ns.own(kind):
            raise UsageError(
                f"{origin}: would change the host: the container has no {kind} namespace of its own"
            )
        if path == HOST:
            raise UsageError(f"{origin}: a container has it from the field hostname")
        if path == DOMAIN and domainname not in ("", value):
            raise UsageError(
                f"{origin}: {quoted(value)} contradicts the field domainname, {quoted(domainname)}"
            )
        yield Step("sysctl", (path, value), origin)


def sysctl_path(name: str) -> str:
    """`net.ipv4.conf.eth0/1.forwarding` -> `net/ipv4/conf/eth0.1/forwarding`: whichever of the two comes first
    is the separator, and the other stands for it within a name (sysctl.d(5))."""
    dot, slash = name.find("."), name.find("/")
    if slash >= 0 and (dot < 0 or slash < dot):
        return name
    return name.translate({ord("."): "/", ord("/"): "."})


def _namespace(path: str) -> str | None:
    if path.startswith("net/"):
        return "net"
    if path in IPC or path.startswith("fs/mqueue/"):
        return "ipc"
    if path in UTS:
        return "uts"
    if path.startswith("user/"):
        return "user"
    return None
