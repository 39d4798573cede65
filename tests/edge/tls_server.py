"""A real TLS server on loopback, with a certificate made for the occasion."""

import datetime as dt
import ipaddress
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_SERVER = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Shelfsight test")])
_AUTHORITY = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Shelfsight test authority")])


@dataclass(frozen=True)
class Authority:
    """Who signs certificates: its own `certificate`, a file, and its key."""

    certificate: Path
    key: ec.EllipticCurvePrivateKey


def write_authority(folder: Path) -> Authority:
    """Make an authority; its certificate is written into `ca.pem`."""
    key = ec.generate_private_key(ec.SECP256R1())
    usage = x509.BasicConstraints(ca=True, path_length=0)
    made = (
        _certificate(_AUTHORITY, key, days=9).add_extension(usage, critical=True).sign(key, hashes.SHA256())
    )
    path = folder / "ca.pem"
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    return Authority(path, key)


def write_certificate(
    folder: Path, *, days: float, name: str = "127.0.0.1", authority: Authority | None = None
) -> Path:
    """Write key and certificate of the address `name`, which runs out in so many days, into one file.

    It is signed by `authority`, or by itself.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(name))])
    begun = _certificate(_SERVER, key, days=days, issuer=_AUTHORITY if authority else _SERVER)
    certificate = begun.add_extension(address, critical=False).sign(
        authority.key if authority else key, hashes.SHA256()
    )
    path = folder / "server.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return path


def _certificate(
    subject: x509.Name, key: ec.EllipticCurvePrivateKey, *, days: float, issuer: x509.Name | None = None
) -> x509.CertificateBuilder:
    end = dt.datetime.now(dt.UTC) + dt.timedelta(days=days)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer or subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(end - dt.timedelta(days=90))
        .not_valid_after(end)
    )


class _Well(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""


@contextmanager
def serve_tls(certificate: Path) -> Iterator[str]:
    """Serve `{}` to every request by TLS, and give the address."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Well)
    server.daemon_threads = True
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"https://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
