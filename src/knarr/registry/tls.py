"""TLS contexts: which certificate authorities a registry's certificate may come from, and our own certificate.

The system's authorities are looked up one by one in the hashed directory (0.1 ms) instead of being loaded all
(20 ms). A registry's own are added from `registries.toml` and, as docker and the containers tools have it, from
`DIRECTORY/HOST:PORT/`: `*.crt` are authorities, `NAME.cert` with `NAME.key` is our certificate.
"""

from __future__ import annotations

import os

from knarr.errors import HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable, Mapping

    from knarr.registry.registries import Trust


def context(host: str, trust: Trust, directories: Iterable[str]) -> ssl.SSLContext:
    """For connections to `host` (with port). Raises `HostError` naming a file that cannot be used."""
    import ssl

    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    if not trust.verify:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    else:
        _system_authorities(made)
        if trust.ca:
            _authority(made, trust.ca)
    if trust.client_cert:
        _own_certificate(made, trust.client_cert, trust.client_key or trust.client_cert)
    for directory in directories:
        _from_directory(made, os.path.join(directory, host), trust)
    return made


def certificate_directories(env: Mapping[str, str], config: Iterable[str]) -> tuple[str, ...]:
    """Every `certs.d`, the user's own first."""
    home = env.get("XDG_CONFIG_HOME") or (env.get("HOME") or "/") + "/.config"
    own = [os.path.join(directory, "certs.d") for directory in config]
    return (
        *own, f"{home}/containers/certs.d", f"{home}/docker/certs.d",
        "/etc/containers/certs.d", "/etc/docker/certs.d",
    )  # fmt: skip


def has_authority(host: str, directories: Iterable[str]) -> bool:
    """Whether a `certs.d` names authorities for `host`: then it speaks TLS and is verified."""
    for directory in directories:
        try:
            names = os.listdir(os.path.join(directory, host))
        except OSError:
            continue
        if any(name.endswith(".crt") for name in names):
            return True
    return False


def _system_authorities(made: ssl.SSLContext) -> None:
    import ssl

    paths = ssl.get_default_verify_paths()  # knows SSL_CERT_FILE and SSL_CERT_DIR
    if "SSL_CERT_FILE" in os.environ and paths.cafile:
        _authority(made, paths.cafile)
    if paths.capath and _is_hashed(paths.capath):
        made.load_verify_locations(capath=paths.capath)
    else:
        made.set_default_verify_paths()


def _is_hashed(directory: str) -> bool:
    """Whether OpenSSL finds certificates there by subject: names like `3513523f.0`."""
    try:
        with os.scandir(directory) as entries:
            return any(e.name.endswith(".0") and len(e.name) == 10 for e in entries)
    except OSError:
        return False


def _authority(made: ssl.SSLContext, path: str) -> None:
    import ssl

    try:
        made.load_verify_locations(cafile=path)
    except ssl.SSLError as e:
        raise HostError(f"{path}: not a certificate in PEM form") from e
    except OSError as e:
        raise HostError(f"{path}: {e.strerror}") from e


def _own_certificate(made: ssl.SSLContext, certificate: str, key: str) -> None:
    import ssl

    try:
        made.load_cert_chain(certificate, key, password=_no_password)
    except ssl.SSLError as e:
        raise HostError(f"{certificate}, {key}: not a certificate and its key in PEM form") from e
    except OSError as e:
        raise HostError(f"{certificate}, {key}: {e.strerror}") from e


def _no_password() -> str:
    """Without this OpenSSL would ask on the terminal for the pass phrase of an encrypted key."""
    return ""


def _from_directory(made: ssl.SSLContext, directory: str, trust: Trust) -> None:
    try:
        names = sorted(os.listdir(directory))
    except OSError:
        return
    for name in names:
        path = os.path.join(directory, name)
        if name.endswith(".crt") and trust.verify:
            _authority(made, path)
        elif name.endswith(".cert") and not trust.client_cert:
            key = path.removesuffix(".cert") + ".key"
            if not os.path.exists(key):
                raise HostError(f"{path}: its key {os.path.basename(key)} is missing")
            _own_certificate(made, path, key)
