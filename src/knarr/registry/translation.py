"""The seam to urllib3's errors: each becomes one of ours, in the system's own words where there are any."""

from __future__ import annotations

import ssl

from urllib3 import exceptions as trouble

from knarr.errors import RemoteError
from knarr.registry.failures import Transient, Unreachable, WrongScheme, clean


def translated(error: Exception, host: str) -> Exception:
    """What urllib3, the socket or TLS raised while `host` was asked. The order matters: some inherit from others."""
    if isinstance(error, trouble.ProxyError):
        return RemoteError(
            f"proxy for {host}: {_cause(error)}", hint="check HTTPS_PROXY, HTTP_PROXY and NO_PROXY"
        )
    if isinstance(error, (trouble.SSLError, ssl.SSLError)):
        return _tls_failure(error, host)
    if isinstance(error, trouble.NameResolutionError):
        return Unreachable(f"registry {host}: no such host name, or no name server answers")
    if isinstance(error, trouble.NewConnectionError):  # before its own base, the time-out
        return Unreachable(f"registry {host}: {_cause(error)}", hint=_reach_hint(host))
    if isinstance(error, trouble.ConnectTimeoutError):
        return Unreachable(f"registry {host}: no answer to the connection in time", hint=_reach_hint(host))
    if isinstance(error, (trouble.ReadTimeoutError, TimeoutError)):
        return Transient(f"registry {host} stalls: it sent nothing in time")
    if "IncompleteRead" in repr(error):  # wrapped once or twice, depending on where it happened
        return Transient(f"registry {host} cut the connection off in the middle of an answer")
    if "BadStatusLine" in str(error):
        return WrongScheme(f"registry {host} does not speak HTTP here")
    if isinstance(error, (trouble.LocationValueError, trouble.InvalidHeader, ValueError)):
        return RemoteError(f"registry {host}: its answer makes no sense: {clean(str(error))[:120]}")
    return Transient(f"registry {host}: {_cause(error)}")


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


def _cause(error: BaseException) -> str:
    """The system's own words at the bottom of a chain of wrappers."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror.lower()
        wrapped = getattr(cause, "original_error", None) or cause.__cause__ or cause.__context__
        if wrapped is None:
            wrapped = next((a for a in cause.args if isinstance(a, BaseException)), None)
        if wrapped is None or wrapped is cause:
            return clean(str(cause))[:160]
        cause = wrapped
    return clean(str(error))[:160]
