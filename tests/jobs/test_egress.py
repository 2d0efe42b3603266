"""What a stranger's URL may reach: thirty and more tricks of server-side request forgery, and none gets through."""

import http.server
import ipaddress
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.errors import EnlargerError, ForbiddenUrlError, SourceError, UnreachableError
from app.jobs.egress import Egress

PICTURE = b"\x89PNG and so on"
LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"),)

PRIVATE_BY_LITERAL = [
    "https://127.0.0.1/",
    "https://127.1/",
    "https://127.0.1/",
    "https://2130706433/",
    "https://017700000001/",
    "https://0x7f000001/",
    "https://0x7f.0x0.0x0.0x1/",
    "https://0177.0.0.1/",
    "https://0.0.0.0/",
    "https://0/",
    "https://10.1.2.3/",
    "https://172.16.0.1/",
    "https://192.168.1.1/",
    "https://100.64.0.1/",
    "https://169.254.169.254/latest/meta-data/",
    "https://198.18.0.1/",
    "https://192.0.2.1/",
    "https://224.0.0.1/",
    "https://255.255.255.255/",
    "https://240.0.0.1/",
    "https://[::1]/",
    "https://[::]/",
    "https://[0:0:0:0:0:0:0:1]/",
    "https://[::ffff:127.0.0.1]/",
    "https://[::ffff:7f00:1]/",
    "https://[::127.0.0.1]/",
    "https://[64:ff9b::7f00:1]/",
    "https://[64:ff9b::a9fe:a9fe]/",
    "https://[2002:7f00:1::]/",
    "https://[2001:0:7f00:1::]/",
    "https://[fe80::1]/",
    "https://[fc00::1]/",
    "https://[fd00:ec2::254]/",
    "https://[ff02::1]/",
    "https://127.0.0.1.:443/",
    "https://0x7f.1/",
    "https://0177.0x0.1/",
    "https://4294967295/",
    "https://[::ffff:0:127.0.0.1]/",
    "https://[::ffff:169.254.169.254]/",
    "https://[64:ff9b:1::a00:1]/",
    "https://[fe80::5efe:7f00:1]/",
    "https://[fec0::1]/",
    "https://[2001:db8::1]/",
    "https://[3fff::1]/",
    "https://[100::1]/",
    "https://192.0.0.8/",
    "https://192.88.99.1/",
    "https://localhost/",
    "https://LOCALHOST./",
]
NO_URL = [
    "http://127.0.0.1/",
    "http://8.8.8.8/",  # no TLS, and no network of ours
    "file:///etc/passwd",
    "ftp://127.0.0.1/",
    "gopher://127.0.0.1:6379/_INFO",
    "dict://127.0.0.1:11211/",
    "unix:///run/docker.sock",
    "https:///etc/passwd",
    "https:127.0.0.1",
    "//127.0.0.1/",
    "https://example.org@127.0.0.1/",
    "https://user:password@example.org/",
    "https://example.org\\@127.0.0.1/",
    "https://127.0.0.1\t.example.org/",
    "https://127.0.0.1\n/",
    "https://example.org /",
    "https://exa%6dple.org/",
    "https://[fe80::1%25eth0]/",
    "https://１２７.０.０.１/",  # noqa: RUF001  # full-width digits
    "https://①②⑦.0.0.1/",
    "https://127。0。0。1/",
    "https://xn--/",
    "https://example.org#@127.0.0.1/",
    "https://127.0.0.1%00.example.org/",
    "https://127.0.0.1%2eexample.org/",
    "https://[127.0.0.1]/",
    "https://[::ffff:0x7f.1]/",
    "https://..127.0.0.1/",
    "https://example.org:99999/",
    "https://example.org:port/",
    "https://[::1/",
    "",
    "https://",
    "https://" + "a" * 5000 + "/",
]


@pytest.mark.parametrize("url", [*PRIVATE_BY_LITERAL, *NO_URL])
def test_no_literal_or_malformed_url_reaches_anything(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket.socket, "connect", pytest.fail)
    with pytest.raises(EnlargerError) as refused:
        Egress(hosts=["*"]).get(url, 100)
    assert refused.value.code in ("forbidden_url", "source_unavailable")


@pytest.mark.parametrize(
    "host", ["example.com", "example.org.evil.net", "evilexample.org", "example.org.", "www.example.org", "127.0.0.1"]
)
def test_only_hosts_of_the_list_are_taken(host: str) -> None:
    with pytest.raises(ForbiddenUrlError):
        Egress(hosts=["example.org"]).check(f"https://{host}/")
    with pytest.raises(ForbiddenUrlError):
        Egress().check(f"https://{host}/")


def test_the_list_takes_names_and_what_is_below_them() -> None:
    egress = Egress(hosts=["example.org", "*.example.net"])
    assert egress.check("https://EXAMPLE.org:8443/a?b=c").authority == "example.org:8443"
    assert egress.check("https://a.b.example.net/").host == "a.b.example.net"
    with pytest.raises(ForbiddenUrlError):
        egress.check("https://example.net/")


class Answering(http.server.BaseHTTPRequestHandler):
    """What a source may do to whoever asks it."""

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers))  # type: ignore[attr-defined]
        if self.path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/to/"))
            self.end_headers()
        elif self.path == "/loop":
            self.send_response(307)
            self.send_header("Location", "/loop")
            self.end_headers()
        elif self.path == "/endless":
            self.send_response(200)
            self.end_headers()
            for _ in range(1000):
                self.wfile.write(b"x" * 1000)
        elif self.path == "/compressed":
            self.send_response(200)
            self.send_header("Content-Encoding", "gzip")
            self.end_headers()
        elif self.path.startswith("/status/"):
            self.send_response(int(self.path.rpartition("/")[2]))
            self.end_headers()
        else:
            self.send_response(200)
            self.send_header("Content-Length", str(len(PICTURE)))
            self.end_headers()
            self.wfile.write(PICTURE)

    def log_message(self, *arguments: object) -> None:
        pass


class Source:
    """A server with TLS on this machine, as ``localhost``."""

    def __init__(self, folder: Path) -> None:
        certificate, key = folder / "certificate.pem", folder / "key.pem"
        made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
        names = ["-addext", "subjectAltName=DNS:localhost,DNS:rebound.test", "-keyout", str(key)]
        subprocess.run([*made, *names, "-out", str(certificate)], check=True, capture_output=True)
        self.certificate, self.asked = certificate, []
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answering)
        self.server.asked = self.asked  # type: ignore[attr-defined]
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a client that goes away
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def url(self, path: str, host: str = "localhost") -> str:
        return f"https://{host}:{self.port}{path}"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Source]:
    made = Source(tmp_path_factory.mktemp("source"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(made.certificate))
        yield made
    made.server.shutdown()
    made.server.server_close()


def test_a_source_in_a_network_that_is_allowed_is_fetched(source: Source) -> None:
    found = Egress(["localhost"], LOOPBACK).get(source.url("/a/photo.png?size=1"), 100)
    assert found == (PICTURE, "photo.png")
    path, headers = source.asked[-1]
    assert path == "/a/photo.png?size=1"
    assert headers["Host"] == f"localhost:{source.port}"
    assert not {"cookie", "authorization"} & {name.lower() for name in headers}


def test_the_same_source_is_not_reached_without_that_network(source: Source) -> None:
    asked = len(source.asked)
    with pytest.raises(ForbiddenUrlError):
        Egress(["*"]).get(source.url("/photo.png"), 100)
    assert len(source.asked) == asked


def test_the_proxy_of_the_environment_is_not_asked(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    assert Egress(["localhost"], LOOPBACK).get(source.url("/photo.png"), 100)[0] == PICTURE


@pytest.mark.parametrize(
    "to",
    [
        "https://127.0.0.1/",
        "//169.254.169.254/latest",
        "https://evil.test/",
        "file:///etc/passwd",
        "gopher://localhost/",
        "https://localhost@10.0.0.1/",
        "https://[::1]/",
    ],
)
def test_a_redirect_is_checked_like_any_url(source: Source, to: str) -> None:
    with pytest.raises(ForbiddenUrlError):
        Egress(["localhost"], LOOPBACK).get(source.url(f"/to/{to}"), 100)


def test_a_redirect_to_where_one_may_go_is_followed_and_a_circle_is_not(source: Source) -> None:
    egress = Egress(["localhost"], LOOPBACK)
    assert egress.get(source.url("/to//there.png"), 100) == (PICTURE, "there.png")
    with pytest.raises(SourceError, match="too often"):
        egress.get(source.url("/loop"), 100)


def test_a_name_that_changes_its_address_is_connected_to_where_it_was_checked(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name server tells an allowed address first and another one ever after: it is asked once."""
    told = iter(["127.0.0.1"])
    answers: list[str] = []

    def resolve(host: str, port: int, *_: object, **__: object) -> list[object]:
        answers.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(told), port))]

    monkeypatch.setattr("app.jobs.egress.socket.getaddrinfo", resolve)
    egress = Egress(["rebound.test"], LOOPBACK)
    # The connection itself is made to a literal address, for which the system's resolver asks nobody.
    monkeypatch.setattr(
        "httpcore._backends.sync.socket.create_connection",
        lambda address, *a, **k: connect_literally(address),
    )
    assert egress.get(source.url("/photo.png", "rebound.test"), 100)[0] == PICTURE
    assert answers == ["rebound.test"]


def connect_literally(address: tuple[str, int]) -> socket.socket:
    host, port = address
    assert ipaddress.ip_address(host).is_loopback
    made = socket.socket()
    made.connect((host, port))
    return made


def test_a_name_with_one_private_address_among_public_ones_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(host: str, port: int, *_: object, **__: object) -> list[object]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in ("8.8.8.8", "10.0.0.1")]

    monkeypatch.setattr("app.jobs.egress.socket.getaddrinfo", resolve)
    monkeypatch.setattr(socket.socket, "connect", pytest.fail)
    with pytest.raises(ForbiddenUrlError):
        Egress(["mixed.test"]).get("https://mixed.test/", 100)


def test_a_certificate_of_another_name_is_refused(source: Source) -> None:
    with pytest.raises(UnreachableError):
        Egress(["127.0.0.1"], LOOPBACK).get(source.url("/photo.png", "127.0.0.1"), 100)


def test_sizes_encodings_and_statuses_are_bounded(source: Source) -> None:
    egress = Egress(["localhost"], LOOPBACK)
    with pytest.raises(SourceError, match="too large"):
        egress.get(source.url("/photo.png"), len(PICTURE) - 1)
    with pytest.raises(SourceError, match="too large"):
        egress.get(source.url("/endless"), 10_000)
    with pytest.raises(SourceError, match="compressed"):
        egress.get(source.url("/compressed"), 100)
    for status, retryable in ((404, False), (403, False), (206, False), (503, True), (429, True)):
        with pytest.raises(SourceError) as refused:
            egress.get(source.url(f"/status/{status}"), 100)
        assert refused.value.retryable is retryable


def test_a_source_that_sends_a_byte_now_and_then_is_given_up(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.jobs.egress.TOTAL_SECONDS", 0.0)
    with pytest.raises(UnreachableError):
        Egress(["localhost"], LOOPBACK).get(source.url("/photo.png"), 100)
