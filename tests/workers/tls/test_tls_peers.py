"""OpenSSL's own server and client, through a relay that writes down both sides: the facts are what they were told."""

from __future__ import annotations

import hashlib
import re
import shutil
import socket
import ssl
import subprocess
import threading

import pytest
from eventually import PATIENCE_S, eventually, join, read_lines

from workers.tls.certificate import Certificates
from workers.tls.context import TlsContext
from workers.tls.handshake import Handshake

pytestmark = [
    pytest.mark.peer,
    pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl here"),
]

CIPHERS_1_2 = {
    "ECDHE-RSA-AES128-GCM-SHA256": "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "ECDHE-RSA-CHACHA20-POLY1305": "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
    "DHE-RSA-AES256-SHA": "TLS_DHE_RSA_WITH_AES_256_CBC_SHA",
    "AES128-SHA": "TLS_RSA_WITH_AES_128_CBC_SHA",
    "AES256-CCM8": "TLS_RSA_WITH_AES_256_CCM_8",
    "ADH-AES128-SHA": "TLS_DH_anon_WITH_AES_128_CBC_SHA",
    "AECDH-AES256-SHA": "TLS_ECDH_anon_WITH_AES_256_CBC_SHA",
}
CIPHERS_1_3 = [
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
    "TLS_AES_128_CCM_SHA256",
]
ANY = ("-cipher", "ALL:@SECLEVEL=0")


@pytest.fixture(scope="module")
def identity(tmp_path_factory):
    """(certificate, key) files."""
    place = tmp_path_factory.mktemp("identity")
    files = place / "cert.pem", place / "key.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "9",
        "-subj",
        "/C=DE/O=Test/CN=a.example",
    ]
    command += [
        "-addext",
        "subjectAltName=DNS:a.example,DNS:b.example",
        "-out",
        str(files[0]),
        "-keyout",
        str(files[1]),
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE_S)
    return files


class Server:
    """A process of `openssl s_server`, and the port that it has."""

    def __init__(self, identity, *options):
        command = ["openssl", "s_server", "-accept", "127.0.0.1:0", "-cert", str(identity[0]), "-key", str(identity[1])]
        self.process = subprocess.Popen(
            [*command, *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        for line in read_lines(self.process.stdout):
            if found := re.match(r"ACCEPT 127\.0\.0\.1:(\d+)", line):
                self.port = int(found[1])
                break
        threading.Thread(target=self.process.stdout.read, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait(PATIENCE_S)
        self.process.stdin.close()
        self.process.stdout.close()


def relayed(server, *options, written=None):
    """[(side, bytes)] of one connection of `openssl s_client` with these options; it stays until a file is written."""
    log = []
    lock = threading.Lock()

    def copy(side, source, target):
        while data := source.recv(65536):
            with lock:
                log.append((side, data))
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        client = subprocess.Popen(
            ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        listener.settimeout(PATIENCE_S)
        near, _ = listener.accept()
        with near, socket.create_connection(("127.0.0.1", server.port)) as far:
            threads = [
                threading.Thread(target=_quietly, args=(copy, *each)) for each in ((0, near, far), (1, far, near))
            ]
            for thread in threads:
                thread.start()
            if written is not None:
                eventually(lambda: written.exists() and written.stat().st_size, "a session in its file")
            client.communicate(b"Q\n", timeout=PATIENCE_S)
            for thread in threads:
                join(thread)
    return log


def _quietly(copy, side, source, target):
    try:
        copy(side, source, target)
    except OSError:
        pass  # one side has hung up


def event(log):
    context = TlsContext(certificates=Certificates(), ja3=True)
    handshake = Handshake(context)
    for place, (side, data) in enumerate(log):
        handshake.feed(side, data, place)
    assert handshake.finish()
    assert context.buffered == 0
    return handshake.facts()


@pytest.mark.parametrize(
    ("option", "version"), [("-tls1", "1.0"), ("-tls1_1", "1.1"), ("-tls1_2", "1.2"), ("-tls1_3", "1.3")]
)
def test_every_version(identity, option, version):
    with Server(identity, *ANY, "-alpn", "h2,http/1.1") as server:
        facts = event(relayed(server, *ANY, option, "-servername", "a.example", "-alpn", "x,h2"))
    assert facts["tls"]["version"] == version
    assert facts["tls"]["established"] is True
    assert facts["tls"]["resumed"] is False
    assert facts["tls"]["client"]["server_name"] == "a.example"
    assert facts["appliance"]["tls"]["alpn_offered"] == ["x", "h2"]
    assert facts["appliance"]["tls"]["ja4"].startswith(f"t{version.replace('.', '')}d")
    assert facts["tls"].get("next_protocol") == (None if version == "1.3" else "h2")


@pytest.mark.parametrize("name", CIPHERS_1_2)
def test_ciphers_of_1_2(identity, name):
    with Server(identity, "-tls1_2", *ANY) as server:
        facts = event(relayed(server, "-cipher", f"{name}:@SECLEVEL=0"))
    assert facts["tls"]["cipher"] == CIPHERS_1_2[name]
    assert facts["tls"]["established"] is True
    assert ("curve" in facts["tls"]) == ("ECDH" in CIPHERS_1_2[name])
    assert ("server" in facts["tls"]) == ("anon" not in CIPHERS_1_2[name])


@pytest.mark.parametrize("name", CIPHERS_1_3)
def test_ciphers_of_1_3(identity, name):
    with Server(identity, "-ciphersuites", name) as server:
        facts = event(relayed(server, "-ciphersuites", name))
    assert (facts["tls"]["cipher"], facts["tls"]["established"]) == (name, True)


@pytest.mark.parametrize(
    ("group", "name"), [("X25519", "x25519"), ("P-256", "secp256r1"), ("P-521", "secp521r1"), ("X448", "x448")]
)
@pytest.mark.parametrize("option", ["-tls1_2", "-tls1_3"])
def test_groups(identity, group, name, option):
    with Server(identity, option) as server:
        assert event(relayed(server, "-groups", group))["tls"]["curve"] == name


def test_the_certificate(identity):
    der = ssl.PEM_cert_to_DER_cert(identity[0].read_text())
    with Server(identity, "-tls1_2") as server:
        facts = event(relayed(server))["tls"]["server"]
    assert facts["hash"]["sha256"] == hashlib.sha256(der).hexdigest().upper()
    assert facts["subject"] == "CN=a.example,O=Test,C=DE"
    assert facts["x509"]["alternative_names"] == ["a.example", "b.example"]


def test_a_hello_retry(identity):
    with Server(identity, "-groups", "P-384") as server:
        facts = event(relayed(server, "-groups", "X25519:P-384"))
    assert facts["appliance"]["tls"]["hello_retry"] is True
    assert (facts["tls"]["curve"], facts["tls"]["established"]) == ("secp384r1", True)


@pytest.mark.parametrize("option", [("-tls1_2",), ("-tls1_2", "-no_ticket"), ("-tls1_3",)])
def test_a_resumption(identity, option, tmp_path):
    kept = tmp_path / "session"
    with Server(identity, *option) as server:
        first = event(relayed(server, "-sess_out", str(kept), written=kept))
        second = event(relayed(server, "-sess_in", str(kept)))
    assert (first["tls"]["resumed"], first["tls"]["established"]) == (False, True)
    assert (second["tls"]["resumed"], second["tls"]["established"]) == (True, True)


def test_a_client_with_a_certificate(identity):
    with Server(identity, "-tls1_2", "-Verify", "1") as server:
        facts = event(relayed(server, "-cert", str(identity[0]), "-key", str(identity[1])))
    assert facts["tls"]["established"] is True


def test_no_common_version(identity):
    with Server(identity, "-tls1_3") as server:
        facts = event(relayed(server, "-tls1_2"))
    assert facts["appliance"]["tls"]["alert"] == {"level": "fatal", "description": "protocol_version", "by": "server"}
    assert facts["tls"]["established"] is False


def test_no_common_cipher(identity):
    with Server(identity, "-tls1_2", "-cipher", "AES128-SHA") as server:
        facts = event(relayed(server, "-cipher", "AES256-SHA"))
    assert facts["appliance"]["tls"]["alert"]["description"] == "handshake_failure"


def test_a_client_that_does_not_trust_the_server(identity):
    with Server(identity, "-tls1_2") as server:
        facts = event(relayed(server, "-verify_return_error", "-verify", "1"))
    assert facts["appliance"]["tls"]["alert"]["by"] == "client"
    assert facts["tls"]["established"] is False


def test_a_client_of_1_3_that_does_not_trust_the_server(identity):
    """Its alert is encrypted; that nothing longer follows is what tells."""
    with Server(identity, "-tls1_3") as server:
        facts = event(relayed(server, "-verify_return_error", "-verify", "1"))
    assert facts["tls"]["established"] is False
