"""The one static nftables ruleset of a network, and the map elements that publish a port.

    map any4/any6      protocol . port            → container . port     `-p 8080:80`
    map ports4/ports6  protocol . address . port  → container . port     `-p 192.0.2.1:8080:80`
    set runs           a number per run, see knarr.network.publish

Rules never change while containers come and go; elements do. The comment of an element is its container's id, which
is how leftovers are told from what is in use.
"""

from __future__ import annotations

from knarr.host.netlink import pack_address
from knarr.host.nft import Element

TYPE_CHECKING = False
if TYPE_CHECKING:
    from knarr.network.bridge import Network
    from knarr.network.ports import Published

MAPS = ("any4", "any6", "ports4", "ports6", "runs")
PROTOCOLS = {"tcp": 6, "udp": 17, "sctp": 132}

# In the comment of the last rule of `publish`: a ruleset with it is there and is this version's.
MARK = b"knarr-2\0"
MARKED_CHAIN = "publish"

_RULESET = """\
table inet {table}
delete table inet {table}
table inet {table} {{
	set bridges {{ type ifname; elements = {{ "{bridge}" }}; }}
	set same {{ type ifname . ifname; elements = {{ "{bridge}" . "{bridge}" }}; }}
	set subnets4 {{ type ipv4_addr; flags interval; elements = {{ {subnet} }}; }}
	set subnets6 {{ type ipv6_addr; flags interval; {elements6} }}
	set runs {{ type mark; }}
	map any4 {{ type inet_proto . inet_service : ipv4_addr . inet_service; }}
	map any6 {{ type inet_proto . inet_service : ipv6_addr . inet_service; }}
	map ports4 {{ type inet_proto . ipv4_addr . inet_service : ipv4_addr . inet_service; }}
	map ports6 {{ type inet_proto . ipv6_addr . inet_service : ipv6_addr . inet_service; }}

	# route_localnet on the bridge lets answers come back to 127.0.0.1. Without this, it would also let a container
	# talk to services that listen on the host's loopback only (CVE-2020-8558). Answers are still addressed to the
	# bridge here: this is before address translation.
	chain guard {{
		type filter hook prerouting priority raw; policy accept;
		iifname @bridges ip daddr 127.0.0.0/8 drop
		iifname @bridges ip6 daddr ::1 drop
	}}
	chain publish {{
		# Left to the monitor, who relays it: there is no route_localnet for IPv6, and where br_netfilter is loaded the
		# answer, translated back to ::1 too early, would be dropped as forged.
		ip6 daddr ::1 return
		dnat ip to meta l4proto . ip daddr . th dport map @ports4
		dnat ip6 to meta l4proto . ip6 daddr . th dport map @ports6
		fib daddr type local meta nfproto ipv4 dnat ip to meta l4proto . th dport map @any4
		fib daddr type local meta nfproto ipv6 dnat ip6 to meta l4proto . th dport map @any6 comment "knarr-2"
	}}
	chain prerouting {{
		type nat hook prerouting priority dstnat; policy accept;
		jump publish
	}}
	chain output {{
		type nat hook output priority -100; policy accept;
		jump publish
	}}
	chain postrouting {{
		type nat hook postrouting priority srcnat; policy accept;
		# The host's own loopback address cannot be answered from elsewhere.
		oifname @bridges ip saddr 127.0.0.0/8 masquerade
		# A container that calls a published port of a neighbour: the answer has to come back through here.
		oifname @bridges ip saddr @subnets4 ct status dnat masquerade
		oifname @bridges ip6 saddr @subnets6 ct status dnat masquerade
		# Going out. Everybody else keeps their source address.
		oifname != @bridges ip saddr @subnets4 masquerade
		oifname != @bridges ip6 saddr @subnets6 masquerade
	}}
	# Only published ports can be called from outside, even by a neighbour that routes to the container's address.
	chain forward {{
		type filter hook forward priority filter; policy accept;
		oifname @bridges jump inward
	}}
	chain inward {{
		ct state established,related accept
		ct status dnat accept
		iifname . oifname @same accept
		drop
	}}
}}
"""


def ruleset(network: Network) -> str:
    """For `nft -f -`: replaces what is there in one transaction."""
    elements6 = f"elements = {{ {network.subnet6} }};" if network.subnet6 else ""
    return _RULESET.format(
        table=network.table, bridge=network.bridge, subnet=network.subnet, elements6=elements6
    )


def element(port: Published, ip: str, ip6: str, container_id: str) -> tuple[str, Element] | None:
    """(map, element) that sends a published host port to the container; None where it has no address of that family,
    and for what is relayed."""
    version = "6" if ":" in port.host_ip else "4"
    target = ip6 if version == "6" else ip
    if not target or port.host_ip == "::1":
        return None
    protocol = bytes((PROTOCOLS[port.protocol], 0, 0, 0))
    anywhere = port.host_ip in ("0.0.0.0", "::")
    address = b"" if anywhere else pack_address(port.host_ip)
    key = protocol + address + _port(port.host_port)
    data = pack_address(target) + _port(port.container_port)
    return ("any" if anywhere else "ports") + version, Element(key, data, container_id[:64])


def _port(number: int) -> bytes:
    return number.to_bytes(2, "big") + b"\0\0"
