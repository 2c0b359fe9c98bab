"""The seam to the network's troubles: each becomes one of our errors, in the system's own words where there are any."""

from __future__ import annotations

import sys

from knarr.errors import RemoteError
from knarr.registry.connection import Cut, Silent
from knarr.registry.failures import Transient, Unreachable, WrongScheme, clean
from knarr.registry.http import NotHttp
from knarr.registry.reach import NoAnswer, NoSuchHost, ProxyTrouble, Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ssl import SSLError
    from typing import TypeGuard

TROUBLES = (Cut, Silent, NotHttp, NoAnswer, NoSuchHost, ProxyTrouble, Refused)


def translated(error: Exception, host: str) -> Exception:
    """What was raised while `host` was asked: one of `TROUBLES`, an `OSError` of the socket or TLS, a `ValueError`."""
    if isinstance(error, ProxyTrouble):
        return RemoteError(
            f"proxy for {host}: {_words(error)}", hint="check HTTPS_PROXY, HTTP_PROXY and NO_PROXY"
        )
    if isinstance(error, NoSuchHost):
        return Unreachable(f"registry {host}: no such host name, or no name server answers")
    if isinstance(error, Refused):
        return Unreachable(f"registry {host}: {_words(error)}", hint=_reach_hint(host))
    if isinstance(error, NoAnswer):
        return Unreachable(f"registry {host}: no answer to the connection in time", hint=_reach_hint(host))
    if isinstance(error, NotHttp):
        return WrongScheme(f"registry {host} does not speak HTTP here")
    if isinstance(error, Cut):
        return Transient(f"registry {host} cut the connection off in the middle of an answer")
    if isinstance(error, Silent):
        return Transient(f"registry {host} ended the connection without an answer")
    if isinstance(error, TimeoutError):
        return Transient(f"registry {host} stalls: it sent nothing in time")
    if _is_tls(error):
        return _tls_failure(error, host)
    if isinstance(error, ValueError):
        return RemoteError(f"registry {host}: its answer makes no sense: {clean(str(error))[:120]}")
    return Transient(f"registry {host}: {_words(error)}")


def _is_tls(error: Exception) -> TypeGuard[SSLError]:
    """Without importing `ssl` where there is none."""
    ssl = sys.modules.get("ssl")
    return ssl is not None and isinstance(error, ssl.SSLError)


def _tls_failure(error: Exception, host: str) -> Exception:
    text = str(error)
    if "WRONG_VERSION_NUMBER" in text or "HTTP_REQUEST" in text or "RECORD_LAYER_FAILURE" in text:
        return WrongScheme(
            f"registry {host}: server gave HTTP response to HTTPS client",
            hint=f'in registries.toml: [registry."{host}"] insecure = true',
        )
    if "CERTIFICATE_VERIFY_FAILED" in text:
        reason = text.partition("CERTIFICATE_VERIFY_FAILED] ")[2].partition(" (_ssl")[0]
        return RemoteError(
            f"registry {host}: {clean(reason)[:160] or 'certificate verify failed'}",
            hint=f"put its authority into /etc/docker/certs.d/{host}/ca.crt, or `ca` into registries.toml",
        )
    if "EOF occurred" in text or "UNEXPECTED_EOF" in text:
        return Transient(f"registry {host} cut the connection off during TLS")
    if "CERTIFICATE_REQUIRED" in text or "ALERT" in text:
        return RemoteError(f"registry {host} refused the TLS connection: {clean(text)[:120]}")
    return Transient(f"registry {host}: TLS: {clean(text)[:120]}")


def _reach_hint(host: str) -> str:
    return f"is it running? try `curl http://{host}/v2/`"


def _words(error: Exception) -> str:
    """The system's own words for it, or its text."""
    for one in (error, error.__cause__):
        if isinstance(one, OSError) and one.strerror:
            return clean(one.strerror.lower())[:160]
    return clean(str(error))[:160] or "no reason is known"
