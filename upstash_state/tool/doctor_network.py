"""The doctor's way to the endpoint: its name, a connection, TLS."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterator
from time import monotonic
from urllib.parse import SplitResult, urlsplit

from requests.utils import DEFAULT_CA_BUNDLE_PATH, get_environ_proxies, select_proxy

from ..settings import Settings, is_loopback
from ..transport.sockets import in_time
from .doctor_finding import Finding, Wrong, ok

# OpenSSL's numbers (x509_vfy.h) for what certificates are refused for.
_WRONG_TIME = (9, 10)
_OTHER_HOST = (62, 64)

PROXIES = "HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY"


class Route:
    """Where a connection to the endpoint goes first: to itself, or to a proxy.

    Args:
        settings: Says where the endpoint is, and how long an attempt may take.
    """

    def __init__(self, settings: Settings) -> None:
        self.url = urlsplit(settings.url)
        self._timeout = settings.timeout
        proxy = None
        if not is_loopback(self.url.hostname or ""):
            proxy = select_proxy(settings.url, get_environ_proxies(settings.url))
        self.proxied = proxy is not None
        first = self.url
        if proxy is not None:
            first = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        try:
            port = first.port
        except ValueError:
            port = 0
        if port == 0 or not first.hostname:
            raise Wrong("the proxy's address is none", f"check {PROXIES}")
        self.host = first.hostname
        self.port = port or _default_port(first)
        self._what = "the proxy" if self.proxied else "the endpoint"
        self._where = PROXIES if self.proxied else "the URL"

    def name(self) -> Iterator[Finding]:
        """Whether the host's name is known."""
        via = f"by way of the proxy {self.host}; " if self.proxied else ""
        try:
            found = in_time(
                monotonic() + self._timeout,
                lambda: socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM),
            )
            addresses = {address[4][0] for address in found}
        except TimeoutError:
            raise Wrong(
                f"{self.host} was not looked up in {self._timeout:g} s",
                "check this machine's network and name server",
            ) from None
        except OSError:
            raise Wrong(
                f"{self._what}'s host {self.host} is not known",
                f"check {self._where} for slips, that the database still exists, "
                "and that this machine has a network",
            ) from None
        if addresses == {self.host}:
            yield ok(f"{via}{self.host} is an address already")
        else:
            yield ok(f"{via}{self.host} is {' or '.join(sorted(map(str, addresses)))}")

    def connection(self) -> Iterator[Finding]:
        """Whether somebody listens there."""
        self._connected().close()
        yield ok(f"port {self.port} is open")

    def tls(self) -> Iterator[Finding]:
        """Whether the endpoint proves who it is. By way of a proxy, the first answer tells."""
        if self.url.scheme != "https":
            yield ok("none: plain http")
            return
        if self.proxied:
            yield ok("by way of the proxy: see the token")
            return
        try:
            context = _tls_context()
        except OSError as error:
            raise Wrong(
                f"the certificates to trust cannot be read: {error.strerror or error}",
                "correct or unset REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE",
            ) from None
        sock = self._connected()
        try:
            with context.wrap_socket(sock, server_hostname=self.host) as tls:
                certificate = tls.getpeercert() or {}
                yield ok(f"{tls.version()}, certificate good until {certificate.get('notAfter')}")
        except ssl.SSLCertVerificationError as error:
            raise Wrong(
                f"the certificate was refused: {error.verify_message}",
                _certificate_advice(error.verify_code),
            ) from None
        except OSError as error:
            timed_out = isinstance(error, TimeoutError)
            why = f" in {self._timeout:g} s" if timed_out else f": {_reason(error)}"
            raise Wrong(
                f"no TLS on port {self.port}{why}",
                "check the URL's port, Upstash's is 443 and need not be named; else something in "
                "between breaks the connection",
            ) from None
        finally:
            sock.close()

    def _connected(self) -> socket.socket:
        try:
            deadline = monotonic() + self._timeout
            return in_time(
                deadline,
                lambda: socket.create_connection((self.host, self.port), self._timeout),
            )
        except ConnectionRefusedError:
            found = f"nobody listens on port {self.port} of {self.host}"
            advice = f"check the port in {self._where}; if it is `serve`, start it"
        except TimeoutError:
            found = f"no connection to {self.host}, port {self.port}, in {self._timeout:g} s"
            advice = "a firewall may swallow it: let HTTPS out, or name your proxy in HTTPS_PROXY"
        except OSError as error:
            found = f"no connection to {self.host}, port {self.port}: {_reason(error)}"
            advice = "check this machine's network"
        raise Wrong(found, advice)


def _tls_context() -> ssl.SSLContext:
    # The bundle that requests would use.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    bundle = (
        os.environ.get("REQUESTS_CA_BUNDLE")
        or os.environ.get("CURL_CA_BUNDLE")
        or DEFAULT_CA_BUNDLE_PATH
    )
    if os.path.isdir(bundle):
        context.load_verify_locations(capath=bundle)
    else:
        context.load_verify_locations(cafile=bundle)
    return context


def _default_port(url: SplitResult) -> int:
    return {"http": 80, "https": 443}.get(url.scheme, 1080)


def _certificate_advice(code: int) -> str:
    if code in _WRONG_TIME:
        return "check this machine's clock; if it is right, the server is not Upstash's"
    if code in _OTHER_HOST:
        return "check the URL's host: the server there has another name"
    return (
        "if your network inspects TLS, point REQUESTS_CA_BUNDLE to its certificate; "
        "otherwise the server is not Upstash's"
    )


def _reason(error: OSError) -> str:
    return getattr(error, "reason", None) or error.strerror or type(error).__name__
