"""One attempt: TLS, the form of the answer, and what a process has imported and forked."""

from __future__ import annotations

import ssl
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.support.faults import Certificates, Fault, FaultServer
from tests.support.faults import wire as faults
from tests.support.faults.connection import Connection, response
from tests.support.faults.wire import CHUNKED
from tests.support.paths import ROOT
from upstash_state import AnswerTooLargeError, UnavailableError, UpstashRedis
from upstash_state.transport.deadline import MAX_ANSWER_BYTES


def acting(act: object) -> Fault:
    return replace(faults.never_answers, act=act)  # type: ignore[type-var]


class Authority:
    """Certificates that no usual authority issues any more."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _named("test authority")
        self._identifier = x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())
        authority = (
            self._builder(self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(self._identifier, critical=False)
            .add_extension(_usage(sign=True), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.bundle = folder / "authority.pem"
        self.bundle.write_bytes(authority.public_bytes(serialization.Encoding.PEM))

    def context(self, *, names: bool = True, authority_key: bool = True) -> ssl.SSLContext:
        """A server's certificate for localhost.

        Args:
            names: Whether it names its hosts as such, or as its common name only.
            authority_key: Whether it has an Authority Key Identifier.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(_named("localhost"), key.public_key())
        server = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
        builder = builder.add_extension(server, critical=False)
        if names:
            hosts = [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
            builder = builder.add_extension(x509.SubjectAlternativeName(hosts), critical=False)
        if authority_key:
            issuer = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier
            builder = builder.add_extension(issuer(self._identifier), critical=False)
        signed = builder.sign(self._key, hashes.SHA256())
        path = self._folder / "server.pem"
        path.write_bytes(
            signed.public_bytes(serialization.Encoding.PEM)
            + key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        return context

    def _builder(self, name: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        now = datetime.now(timezone.utc)
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
        )


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _usage(*, sign: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=sign,
        crl_sign=sign,
        encipher_only=False,
        decipher_only=False,
    )


class TestTLS:
    # What urllib3 1.26 says of the common name.
    @pytest.mark.filterwarnings("ignore:Certificate for localhost has no")
    @pytest.mark.parametrize(
        "odd", [{}, {"names": False}, {"authority_key": False}], ids=["good", "common name", "key"]
    )
    def test_every_connection_has_the_rules_of_requests(
        self,
        odd: dict[str, bool],
        certificates: Certificates,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        authority = Authority(tmp_path)
        monkeypatch.setattr(certificates, "right", authority.context(**odd))
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority.bundle))
        with FaultServer(certificates) as server:
            try:
                requests.post(server.url, timeout=20)
                accepted = True
            except requests.exceptions.SSLError:
                accepted = False
            assert accepted or odd
            redis = UpstashRedis(server.url, server.token, timeout=20)
            for _ in range(3):
                if accepted:
                    assert redis.ping()
                else:
                    with pytest.raises(UnavailableError, match="certificate was refused"):
                        redis.ping()
                redis.close()
                redis.retry_now()

    def test_a_host_may_be_an_ip_address(
        self, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificates.bundle))
        with FaultServer(certificates) as server:
            url = server.url.replace("localhost", "127.0.0.1")
            assert UpstashRedis(url, server.token, timeout=20).ping()

    def test_the_bundle_is_that_of_three_variables_in_their_order(
        self, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        nothing = "/no/such/bundle.pem"
        names = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")
        for name in names:
            monkeypatch.delenv(name, raising=False)
        with FaultServer(certificates) as server:
            for name in reversed(names):
                monkeypatch.setenv(name, str(certificates.bundle))
                redis = UpstashRedis(server.url, server.token, timeout=20)
                assert redis.ping()
                monkeypatch.setenv(name, nothing)
                # What is connected stays connected.
                assert redis.ping()
                with pytest.raises(UnavailableError, match="cannot be used: No such file"):
                    UpstashRedis(server.url, server.token, timeout=20).ping()

    def test_a_folder_of_certificates_is_a_bundle(
        self, certificates: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        command = ["openssl", "x509", "-hash", "-noout", "-in", str(certificates.bundle)]
        try:
            name = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        except FileNotFoundError:
            pytest.skip("openssl is not installed")
        (tmp_path / f"{name.strip()}.0").write_bytes(certificates.bundle.read_bytes())
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path))
        with FaultServer(certificates) as server:
            assert UpstashRedis(server.url, server.token, timeout=20).ping()


class TestChunks:
    def test_a_size_that_never_ends_is_given_up(self, server: FaultServer) -> None:
        sent = 0

        def endless(connection: Connection) -> None:
            nonlocal sent
            connection.read()
            connection.send(response(b"", headers=CHUNKED))
            # Of no more than a gigabyte, in case that nobody gives up.
            while sent < 2**30:
                connection.send(b"1" * 2**16)
                sent += 2**16

        server.plan(acting(endless), None)
        redis = UpstashRedis(server.url, server.token, timeout=20)
        tracemalloc.start()
        try:
            with pytest.raises((AnswerTooLargeError, UnavailableError)):
                redis.execute_command("INCR", "n")
            # Several copies of what came, at most.
            assert tracemalloc.get_traced_memory()[1] < 8 * MAX_ANSWER_BYTES
        finally:
            tracemalloc.stop()
        assert sent < 4 * MAX_ANSWER_BYTES

    @pytest.mark.parametrize("size", [b"-5", b"-1", b"-ffff", b"zz", b"", b"5 5"])
    def test_an_impossible_size_is_a_failure_of_the_endpoint(
        self, server: FaultServer, size: bytes
    ) -> None:
        def impossible(connection: Connection) -> None:
            connection.read()
            connection.send(response(size + b"\r\nhello\r\n0\r\n\r\n", headers=CHUNKED))
            connection.close()

        server.plan(acting(impossible), None)
        redis = UpstashRedis(server.url, server.token, timeout=20)
        for _ in range(3):
            with pytest.raises(UnavailableError) as caught:
                redis.execute_command("INCR", "n")
            # http.client reads as much as there is for a size of -1.
            assert caught.value.reason == ("closed" if size == b"-1" else "not-http")
            assert caught.value.may_have_executed
        with pytest.raises(UnavailableError, match="kept failing"):
            redis.execute_command("INCR", "n")


def test_a_thread_that_connects_imports_nothing(certificates: Certificates) -> None:
    # A fork meanwhile would give the child the lock of the module, held for good.
    code = """
import sys, threading
imported = []

def watch(event, args):
    if event == "import" and threading.current_thread().name == "upstash_state connecting":
        imported.append(args[0])

sys.addaudithook(watch)
from upstash_state import UpstashRedis
assert UpstashRedis.from_env(dict(zip(*[iter(sys.argv[1:])] * 2))).ping()
print(imported)
"""
    with FaultServer(certificates) as server:
        variables = ("UPSTASH_REDIS_REST_URL", server.url)
        variables += ("UPSTASH_REDIS_REST_TOKEN", server.token)
        done = subprocess.run(
            [sys.executable, "-c", code, *variables],
            env={"PYTHONPATH": str(ROOT), "REQUESTS_CA_BUNDLE": str(certificates.bundle)},
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.stdout == "[]\n", done.stderr


def test_another_thread_may_take_the_last_kept_connection(server: FaultServer) -> None:
    class Idle(list[Any]):
        """As if another thread took a channel right before each `pop`."""

        def pop(self, index: Any = -1) -> Any:
            while self:
                super().pop().close()
            return super().pop(index)

    redis = UpstashRedis(server.url, server.token, timeout=20)
    redis.ping()
    assert redis._http is not None
    redis._http._idle = Idle(redis._http._idle)
    assert redis.ping()
    redis.close()
    assert redis._http._idle == []
