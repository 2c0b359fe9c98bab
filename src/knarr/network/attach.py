"""Attaches a container to its network: what is leased and reserved now, and the steps that a plan does with it.

    bridge          a namespace of its own, a veth pair into the bridge, an address, published ports
    none            a namespace of its own with only `lo`
    host            the host's
    container:ID    another container's
    slirp4netns, pasta   a namespace of its own, with a program that carries its traffic for a user who is not root

`prepare` takes (an address, ports); the steps only use. What was taken is given back by `teardown_steps`, which
the monitor executes when the container has ended or has not started, or by `release` if there never was a monitor.
"""

from __future__ import annotations

import os

from knarr.errors import HostError, UsageError
from knarr.network import names
from knarr.network.attachment import Attachment, Names, loopback_step, named

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from knarr.host.paths import Paths
    from knarr.network.ports import PortRequest
    from knarr.plan.facts import HostFacts

USER_MODES = ("slirp4netns", "pasta")
_PACKAGES = {"slirp4netns": "slirp4netns", "pasta": "passt"}


def prepare(
    paths: Paths,
    facts: HostFacts,
    container_id: str,
    mode: str = "",
    ports: Sequence[PortRequest] = (),
    *,
    hostname: str = "",
    dns: Sequence[str] = (),
    dns_search: Sequence[str] = (),
    dns_options: Sequence[str] = (),
    add_hosts: Sequence[str] = (),
    mac: str = "",
    ip: str = "",
    join: str = "",
) -> Attachment:
    """Takes what the container needs of the network and tells what to do with it.

    mode: `bridge`, `host`, `none`, `slirp4netns`, `pasta`, `container:ID` with its namespace file in `join`
    (`/proc/PID/ns/net`), or empty for the default: the bridge for root, user-mode networking for others.
    mac: one in place of the address's own; ip: an address of the subnet. Raises UsageError, Conflict (address or
    port is taken), HostError.
    """
    resolved = resolve_mode(mode, facts)
    asked = Names(hostname, dns, dns_search, dns_options, add_hosts)
    _check(resolved, ports, asked, mac, ip)
    if resolved == "bridge":
        from knarr.network import bridged

        return bridged.prepare(paths, facts, container_id, ports, asked, mac, ip)
    if resolved in USER_MODES:
        from knarr.network import rootless

        return rootless.prepare(paths, facts, container_id, resolved, ports, asked, mac)
    if resolved == "none" and mode != "none":
        return _alone(asked, _without_network(facts, ports))
    warnings = (f"published ports are discarded with --network {resolved}",) if ports else ()
    if resolved == "none":
        return _alone(asked, warnings)
    if resolved == "host":
        return _host(asked, warnings)
    if not join:
        raise UsageError(f"--network {resolved}: no namespace to join")
    return Attachment(resolved, join)


def resolve_mode(mode: str, facts: HostFacts) -> str:
    """The mode as it will be done on this machine; `none` for the default one where nothing else can work."""
    if mode in ("none", "host") or mode.startswith("container:"):
        return mode
    if mode in USER_MODES:
        if mode not in facts.tools:
            raise HostError(f"--network {mode}: {mode}: not found", hint=f"apt install {_PACKAGES[mode]}")
        return mode
    if mode not in ("", "default", "bridge", "private"):
        raise UsageError(f"--network {mode}: no such network", hint="bridge, host, none or container:NAME")
    if not facts.rootless:
        return "bridge"
    from knarr.network import rootless

    return "none" if rootless.missing(facts) else rootless.choose(facts)


def _without_network(facts: HostFacts, ports: Sequence[PortRequest]) -> tuple[str, ...]:
    """The warning of a container that was not asked to have no network and has none. Ports cannot be had then."""
    from knarr.network.rootless import missing

    why = missing(facts)
    if ports:
        raise HostError(f"-p {ports[0].container_port}: there is no network to publish on: {why}")
    return (f"the container has no network: {why}",)


def _check(mode: str, ports: Sequence[PortRequest], asked: Names, mac: str, ip: str) -> None:
    """Docker's refusals, and values that would change the meaning of a file they are written to."""
    if mode.startswith("container:"):
        clashes = {
            "-p": ports,
            "--hostname": asked.hostname,
            "--dns": asked.dns or asked.dns_search or asked.dns_options,
            "--add-host": asked.add_hosts,
            "--mac-address": mac,
        }
        for flag, given in clashes.items():
            if given:
                raise UsageError(f"conflicting options: {flag} and --network {mode}")
    if mac and not _is_mac(mac):
        raise UsageError(
            f"--mac-address {mac}: not a unicast mac address", hint="write it like 02:42:0a:00:00:02"
        )
    if ip and mode != "bridge":
        raise UsageError(f"--ip {ip}: an address can only be chosen on the bridge, not with --network {mode}")
    names.checked_words(asked.dns_search, "--dns-search")
    names.checked_words(asked.dns_options, "--dns-option")


def _is_mac(text: str) -> bool:
    parts = text.split(":")
    hexadecimal = all(len(part) == 2 and set(part) <= set("0123456789abcdefABCDEF") for part in parts)
    return len(parts) == 6 and hexadecimal and not int(parts[0], 16) & 1


def _alone(asked: Names, warnings: tuple[str, ...]) -> Attachment:
    return named(Attachment("none", "new", child_steps=(loopback_step(),), warnings=warnings), asked, "")


def _host(asked: Names, warnings: tuple[str, ...]) -> Attachment:
    extra = [names.parse_add_host(text, "127.0.0.1") for text in asked.add_hosts]
    return Attachment(
        "host",
        "host",
        hosts=names.host_hosts(extra),
        hostname=f"{asked.hostname or os.uname().nodename}\n",
        resolv_conf=names.resolv_conf(asked.dns, asked.dns_search, asked.dns_options, loopback=True),
        warnings=warnings,
    )


def release(attachment: Attachment) -> None:
    """Gives back what `prepare` took, when no monitor was started that would execute the tear-down. Only once: by the
    second time, descriptors and address may be another's."""
    for fd in attachment.hold_fds:
        os.close(fd)
    if attachment.user is not None:
        attachment.user.lifeline.close()
    for step in attachment.teardown_steps:
        if step.op == "unlink":
            try:
                os.unlink(step.args[0])
            except FileNotFoundError:
                pass
