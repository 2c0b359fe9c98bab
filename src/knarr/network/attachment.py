"""Attachment: what the engine needs to know of a container's network, as a value."""

from __future__ import annotations

from knarr.host import netlink
from knarr.network import names
from knarr.plan.step import Step
from knarr.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from knarr.network.ports import Published
    from knarr.network.rootless import UserNetwork

INTERFACE = "eth0"
# Tear-down steps that are done outside of the container's user namespace have an origin that begins so.
HOST_ORIGIN = "host network"


class Attachment(Record):
    """The files' texts are empty where they are another container's."""

    mode: str  # as resolved: bridge none host slirp4netns pasta container:ID
    namespace: str  # "new", "host", or the path of a namespace file
    host_steps: tuple[Step, ...] = ()  # S, between `clone` and `enter`
    child_steps: tuple[Step, ...] = ()  # C, while it still has CAP_NET_ADMIN
    teardown_steps: tuple[Step, ...] = ()
    hold_fds: tuple[int, ...] = ()  # for the monitor's `hold=`; close on exec, ours until handed over
    relayed: Mapping[int, int] = {}  # of those: what the kernel cannot redirect to port N of `relay_to`
    relay_to: str = ""
    ip: str = ""
    prefix: int = 0
    gateway: str = ""
    ip6: str = ""
    prefix6: int = 0
    gateway6: str = ""
    mac: str = ""
    published: tuple[Published, ...] = ()
    hosts: str = ""
    hostname: str = ""
    resolv_conf: str = ""
    pauses: tuple[
        str, ...
    ] = ()  # labels of pauses; at "network" the engine calls `knarr.network.rootless.start`
    user: UserNetwork | None = None
    warnings: tuple[str, ...] = ()


class Names(Record):
    """What was asked about names: `--hostname --dns --dns-search --dns-option --add-host`."""

    hostname: str = ""
    dns: Sequence[str] = ()
    dns_search: Sequence[str] = ()
    dns_options: Sequence[str] = ()
    add_hosts: Sequence[str] = ()


def named(attachment: Attachment, asked: Names, host_gateway: str, own_server: str = "") -> Attachment:
    """With the contents of the three files. `host_gateway`: where the host is; `own_server`: the network's resolver."""
    extra = [names.parse_add_host(text, host_gateway) for text in asked.add_hosts]
    return attachment._replace(
        hosts=names.hosts(asked.hostname, (attachment.ip, attachment.ip6), extra),
        hostname=f"{asked.hostname}\n",
        resolv_conf=names.resolv_conf(
            asked.dns,
            asked.dns_search,
            asked.dns_options,
            own_server=own_server,
            ipv6=bool(attachment.ip6),
        ),
    )


def loopback_step() -> Step:
    return Step("netlink", (str(netlink.ROUTE), netlink.link_up(netlink.LOOPBACK).hex()), "network")
