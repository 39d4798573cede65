"""The TLS of a client, made the same way on devices and on servers."""

import ssl


class _ClosingSocket(ssl.SSLSocket):
    """A socket that closes itself when nobody trusts whom it reached: paho-mqtt leaves it open."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except (OSError, ValueError):  # a certificate that is not trusted is both
            self.close()
            raise


def client_context(ca: str = "") -> ssl.SSLContext:
    """Make a context that trusts whom the file `ca` signed, or for "" whom the system trusts.

    Raises:
        OSError: The file cannot be read, or holds no certificate.
    """
    context = ssl.create_default_context(cafile=ca or None)
    context.sslsocket_class = _ClosingSocket
    return context
