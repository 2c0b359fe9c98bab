"""network.toml: checked key by key, with the place of what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from knarr.errors import DataError
from knarr.network.address import subnet
from knarr.network.settings import Settings, decode, read


def test_what_is_said_is_taken() -> None:
    found = decode({"subnet": "10.99.3.4/16", "subnet6": "fd00:99::/64"}, "f")
    assert found == Settings(subnet("10.99.0.0/16"), subnet("fd00:99::/64"), where="f")
    assert decode({"subnet6": ""}, "f") == Settings(ipv6=False, where="f")
    assert decode({}, "f") == Settings(where="f")


@pytest.mark.parametrize(
    ("document", "fault"),
    [
        ({"subnets": "10.0.0.0/8"}, "unknown key 'subnets'"),
        ({"subnet": "10.0.0.0"}, "subnet: '10.0.0.0' is not a subnet like"),
        ({"subnet": 10}, "subnet: 10 is not"),
        ({"subnet": ""}, "subnet: '' is not"),
        ({"subnet": "fd00::/64"}, "subnet: 'fd00::/64' is not"),
        ({"subnet6": "10.0.0.0/8"}, "subnet6: '10.0.0.0/8' is not"),
        ({"subnet": "10.0.0.0/7"}, "not between /8 and /30"),
        ({"subnet": "10.0.0.0/31"}, "not between /8 and /30"),
        ({"subnet": "127.5.0.0/16"}, "127.5.0.0/16 is not for hosts"),
        ({"subnet6": "ff02::/64"}, "ff02::/64 is not for hosts"),
        ({"subnet": "10.0.0.0/8", "subnet6": "fd00::/112"}, "fewer addresses"),
    ],
)
def test_what_is_wrong_is_named(document: dict[str, Any], fault: str) -> None:
    with pytest.raises(DataError, match="^f: ") as caught:
        decode(document, "f")
    assert fault in caught.value.message


def test_the_first_file_there_is_counts(tmp_path: Path) -> None:
    (tmp_path / "network.toml").write_text('subnet = "10.99.0.0/24"\n')
    found = read([f"{tmp_path}/none", str(tmp_path)])
    assert found == Settings(subnet("10.99.0.0/24"), where=f"{tmp_path}/network.toml")
    assert read([f"{tmp_path}/none"]) == Settings()
    (tmp_path / "network.toml").write_text("subnet = \n")
    with pytest.raises(DataError, match="network.toml: "):
        read([str(tmp_path)])
