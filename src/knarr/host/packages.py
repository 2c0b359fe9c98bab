"""The command that installs a helper program, in the words of this machine's distribution (os-release(5))."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_COMMANDS = {
    "apt": "sudo apt-get install -y",
    "dnf": "sudo dnf install -y",
    "apk": "sudo apk add",
    "pacman": "sudo pacman -S --noconfirm",
    "zypper": "sudo zypper install -y",
}

# ID or a word of ID_LIKE → package manager.
_MANAGERS = {
    "debian": "apt", "ubuntu": "apt", "fedora": "dnf", "rhel": "dnf", "centos": "dnf", "rocky": "dnf",
    "almalinux": "dnf", "amzn": "dnf", "alpine": "apk", "arch": "pacman", "manjaro": "pacman",
    "suse": "zypper", "opensuse": "zypper", "sles": "zypper",
}  # fmt: skip

# Program → package, where it is not called as the program everywhere.
_PACKAGES = {
    "newuidmap": {
        "apt": "uidmap",
        "dnf": "shadow-utils",
        "apk": "shadow-subids",
        "pacman": "shadow",
        "zypper": "shadow",
    },
    "newgidmap": {
        "apt": "uidmap",
        "dnf": "shadow-utils",
        "apk": "shadow-subids",
        "pacman": "shadow",
        "zypper": "shadow",
    },
    "nft": dict.fromkeys(_COMMANDS, "nftables"),
    "pasta": dict.fromkeys(_COMMANDS, "passt"),
}


def package_manager(os_release: str) -> str:
    """apt, dnf, apk, pacman or zypper; "" for a distribution that is not known."""
    fields = {}
    for line in os_release.split("\n"):
        key, equals, value = line.strip().partition("=")
        if equals:
            fields[key] = value.strip("\"'")
    for word in (fields.get("ID", ""), *fields.get("ID_LIKE", "").split()):
        for name in (word, word.partition("-")[0]):  # opensuse-leap, opensuse-tumbleweed
            if name in _MANAGERS:
                return _MANAGERS[name]
    return ""


def install_command(os_release: str, tools: Sequence[str]) -> str:
    """`sudo apt-get install -y uidmap`; on an unknown distribution, the program by name."""
    manager = package_manager(os_release)
    if not manager:
        return f"install {' '.join(tools)}"
    names = dict.fromkeys(_PACKAGES.get(tool, {}).get(manager, tool) for tool in tools)
    return f"{_COMMANDS[manager]} {' '.join(names)}"
