"""The command that installs a program, on the distributions there are."""

from __future__ import annotations

import pytest

from knarr.host.packages import install_command, package_manager


@pytest.mark.parametrize(
    ("os_release", "manager"),
    [
        ("ID=debian\n", "apt"),
        ('NAME="Ubuntu"\nID=ubuntu\nID_LIKE=debian\n', "apt"),
        ('ID=linuxmint\nID_LIKE="ubuntu debian"\n', "apt"),
        ("ID=fedora\n", "dnf"),
        ('ID="rocky"\nID_LIKE="rhel centos fedora"\n', "dnf"),
        ("ID=alpine\n", "apk"),
        ("ID=arch\n", "pacman"),
        ('ID="opensuse-tumbleweed"\nID_LIKE="opensuse suse"\n', "zypper"),
        ("ID='opensuse-leap'\n", "zypper"),
        ("ID=plan9\n", ""),
        ("", ""),
    ],
)
def test_package_manager(os_release: str, manager: str) -> None:
    assert package_manager(os_release) == manager


def test_install_command() -> None:
    assert install_command("ID=debian", ["newuidmap", "newgidmap"]) == "sudo apt-get install -y uidmap"
    assert install_command("ID=fedora", ["newuidmap"]) == "sudo dnf install -y shadow-utils"
    assert install_command("ID=alpine", ["nft", "slirp4netns"]) == "sudo apk add nftables slirp4netns"
    assert install_command("ID=arch", ["pasta"]) == "sudo pacman -S --noconfirm passt"
    assert install_command("ID=plan9", ["nft"]) == "install nft"
