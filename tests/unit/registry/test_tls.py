"""certs.d: which directories, and what their files mean."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from knarr.errors import HostError
from knarr.registry.registries import Trust
from knarr.registry.tls import certificate_directories, context, has_authority


def test_directories() -> None:
    assert certificate_directories({"HOME": "/h"}, ("/h/.config/knarr", "/etc/knarr")) == (
        "/h/.config/knarr/certs.d", "/etc/knarr/certs.d", "/h/.config/containers/certs.d", "/h/.config/docker/certs.d",
        "/etc/containers/certs.d", "/etc/docker/certs.d",
    )  # fmt: skip


def test_verified_unless_told_otherwise() -> None:
    strict = context("a.io", Trust(), ())
    assert (strict.verify_mode, strict.check_hostname) == (ssl.CERT_REQUIRED, True)
    lax = context("a.io", Trust(verify=False), ())
    assert (lax.verify_mode, lax.check_hostname) == (ssl.CERT_NONE, False)
    assert strict.minimum_version >= ssl.TLSVersion.TLSv1_2


def test_files_that_are_no_certificates(tmp_path: Path) -> None:
    place = tmp_path / "a.io:5000"
    place.mkdir()
    assert not has_authority("a.io:5000", (str(tmp_path), "/absent"))
    (place / "readme.txt").write_text("nothing")
    context("a.io:5000", Trust(), (str(tmp_path),))
    (place / "ca.crt").write_text("nothing")
    assert has_authority("a.io:5000", ("/absent", str(tmp_path)))
    with pytest.raises(HostError, match=r"ca.crt: not a certificate in PEM form"):
        context("a.io:5000", Trust(), (str(tmp_path),))
    context("a.io", Trust(), (str(tmp_path),))  # the port counts
    (place / "ca.crt").unlink()
    (place / "me.cert").write_text("nothing")
    with pytest.raises(HostError, match="its key me.key is missing"):
        context("a.io:5000", Trust(), (str(tmp_path),))
