"""Requests to the outside for strangers: which hosts and addresses may be reached, and no others whatever the URL says.

A name is resolved once, every address it has must be allowed, and the connection is made to the very address that was
checked, so a name that changes its mind in between changes nothing. Redirects are followed here, each checked anew. No
proxy, no cookie, no credential of this machine is ever used.
"""

import ipaddress
import socket
import ssl
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from urllib.parse import urljoin, urlsplit

import httpcore

from app import __version__
from app.errors import ForbiddenUrlError, SourceError, UnreachableError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

REDIRECTS = 5
SECONDS = 30.0  # for a connection, and without a byte
TOTAL_SECONDS = 300.0
MAX_URL = 4096
REDIRECTED = (301, 302, 303, 307, 308)
UNICAST = (ipaddress.IPv4Network("0.0.0.0/0"), ipaddress.IPv6Network("2000::/3"))
"""Where public hosts are: beyond it, IPv6 is not handed out, or stands for an IPv4 address (compatible, NAT64)."""
SPECIAL = tuple(map(ipaddress.ip_network, ("192.0.0.0/24", "192.88.99.0/24", "2001::/32", "2002::/16", "3fff::/20")))
"""In it all the same, though nobody's host: protocols' own, 6to4 and its relays, Teredo, documentation."""


@dataclass(frozen=True)
class Egress:
    """What may be reached: hosts by name (``*`` is any, ``*.example.org`` all below), at public addresses, and beside
    them at those of ``networks``, where plain ``http`` is allowed too. Without hosts: nothing."""

    hosts: Sequence[str] = ()
    networks: Sequence[Network] = ()

    def check(self, url: str) -> "Target":
        """A URL taken apart, or ``ForbiddenUrlError``; its name is not looked up yet."""
        if len(url) > MAX_URL or not url.isascii() or not url.isprintable() or any(c in url for c in ' \\"<>^`{|}'):
            raise ForbiddenUrlError("A URL is at most 4096 printable ASCII characters, encoded as RFC 3986 says.")
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port
        except ValueError as error:
            raise ForbiddenUrlError("This is no URL.") from error
        if parts.scheme not in ("https", "http") or not host or "%" in parts.netloc:
            raise ForbiddenUrlError("Only https:// URLs with a host can be reached.")
        if "@" in parts.netloc:
            raise ForbiddenUrlError("A URL with a user or a password is not taken.")
        if not any(host == each or (each.startswith("*") and fnmatchcase(host, each)) for each in self.hosts):
            raise ForbiddenUrlError(f"{host[:100]} is none of the hosts that this service may reach.")
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return Target(url, parts.scheme, host, port or (443 if parts.scheme == "https" else 80), path)

    def resolve(self, target: "Target") -> str:
        """The address to connect to: one of those that the name has, all of which must be allowed."""
        try:
            found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise SourceError(f"{target.host[:100]} has no address.") from error
        addresses = [str(each[4][0]) for each in found]
        for each in addresses:
            if not self.allows(each, target.scheme):
                raise ForbiddenUrlError(f"{target.host[:100]} has an address that this service may not reach.")
        return addresses[0]

    def allows(self, address: str, scheme: str = "https") -> bool:
        if "%" in address:  # a zone: link-local
            return False
        plain: Address = ipaddress.ip_address(address)
        if isinstance(plain, ipaddress.IPv6Address) and plain.ipv4_mapped:
            plain = plain.ipv4_mapped
        if any(plain in network for network in self.networks):
            return True
        public = plain.is_global and not plain.is_multicast and not plain.is_reserved
        unicast = any(plain in network for network in UNICAST) and not any(plain in network for network in SPECIAL)
        return scheme == "https" and public and unicast

    # -- requests ------------------------------------------------------------------------------------------------------

    def get(self, url: str, most: int) -> tuple[bytes, str]:
        """What a URL gives, at most so many bytes, and the last part of its path."""
        deadline = time.monotonic() + TOTAL_SECONDS
        for _ in range(1 + REDIRECTS):
            target = self.check(url)
            with self._request("GET", target, {"Accept": "image/*,*/*;q=0.5"}, (), deadline) as response:
                headers = {name.lower().decode(): value.decode("latin-1") for name, value in response.headers}
                if response.status in REDIRECTED:
                    url = urljoin(target.url, headers.get("location", ""))
                    continue
                refuse(target, response.status, headers)
                told = headers.get("content-length", "")
                if told.isdigit() and int(told) > most:
                    raise SourceError("The source is too large.", limit=most, actual=int(told))
                return receive(response.iter_stream(), most), target.path.partition("?")[0].rsplit("/", 1)[-1]
        raise SourceError("The source redirects too often.", limit=REDIRECTS)

    def put(self, url: str, content: Iterable[bytes], size: int, media_type: str) -> None:
        """Uploads to a URL (one that was signed for it, as object stores give); a redirect is not followed."""
        target = self.check(url)
        headers = {"Content-Type": media_type, "Content-Length": str(size)}
        deadline = time.monotonic() + TOTAL_SECONDS
        with self._request("PUT", target, headers, content, deadline) as response:
            refuse(target, response.status, {})

    def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> int:
        """The status; what else is answered is not read. Redirects are not followed."""
        target = self.check(url)
        told = {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}
        with self._request("POST", target, told, [body], time.monotonic() + SECONDS) as response:
            return response.status

    @contextmanager
    def _request(
        self,
        method: str,
        target: "Target",
        headers: Mapping[str, str],
        content: Iterable[bytes],
        deadline: float,
    ) -> Iterator[httpcore.Response]:
        """One request on a connection of its own."""
        own = {"Host": target.authority, "User-Agent": f"enlarger/{__version__}", "Accept-Encoding": "identity"}
        limits = dict.fromkeys(("connect", "read", "write", "pool"), SECONDS)
        backend = OneAddress(self, target, deadline)
        url = httpcore.URL(scheme=target.scheme, host=target.host, port=target.port, target=target.path)
        try:
            with (
                httpcore.ConnectionPool(ssl.create_default_context(), network_backend=backend, retries=0) as pool,
                pool.stream(
                    method,
                    url,
                    headers=list((own | dict(headers)).items()),
                    content=iter(content) if method != "GET" else None,
                    extensions={"timeout": limits},
                ) as response,
            ):
                yield response
        except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError, ssl.SSLError) as error:
            raise UnreachableError(f"{target.host[:100]} did not answer ({type(error).__name__}).") from error


@dataclass(frozen=True)
class Target:
    """A URL that was taken apart."""

    url: str
    scheme: str
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.scheme == "https" else 80) else f"{host}:{self.port}"


class OneAddress(httpcore.NetworkBackend):
    """Connections to one target alone, at the address that was found allowed."""

    def __init__(self, egress: Egress, target: Target, deadline: float) -> None:
        self._egress, self._target, self._deadline = egress, target, deadline
        self._sockets = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        if (host, port) != (self._target.host, self._target.port):
            raise ForbiddenUrlError("The connection is not the one that was checked.")
        address = self._egress.resolve(self._target)
        stream = self._sockets.connect_tcp(address, port, timeout, local_address, socket_options)
        return Timed(stream, self._deadline)


class Timed(httpcore.NetworkStream):
    """A connection that ends at a time, however steadily a byte comes now and then. On the clock of time.monotonic."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: float) -> None:
        self._stream, self._deadline = stream, deadline

    def _left(self, timeout: float | None) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise httpcore.ReadTimeout("the time is over")
        return min(left, SECONDS if timeout is None else timeout)

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._left(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._left(timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        try:
            left = self._left(timeout)
        except httpcore.ReadTimeout:
            self._stream.close()
            raise
        return Timed(self._stream.start_tls(ssl_context, server_hostname, left), self._deadline)

    def get_extra_info(self, info: str) -> object:
        return self._stream.get_extra_info(info)


def refuse(target: Target, status: int, headers: Mapping[str, str]) -> None:
    """Raises ``SourceError`` unless the answer is what was asked for, as it is."""
    if status in (429, 500, 502, 503, 504):
        raise UnreachableError(f"{target.host[:100]} answered {status}.", actual=status)
    if status // 100 != 2 or status == 206:
        raise SourceError(f"{target.host[:100]} answered {status}.", actual=status)
    if headers.get("content-encoding", "identity").lower() not in ("identity", ""):
        raise SourceError("The source is compressed, though it was not asked to be.")


def receive(chunks: Iterable[bytes], most: int) -> bytes:
    body = bytearray()
    for chunk in chunks:
        body += chunk
        if len(body) > most:
            raise SourceError("The source is too large.", limit=most)
    return bytes(body)
