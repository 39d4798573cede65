"""The line from a device to its server: one connection, kept open from visit to visit."""

from typing import TYPE_CHECKING

from devices.enrollment import Enrollment

if TYPE_CHECKING:
    from edge.transport import Transport


class Line:
    """Keep one connection, so that a poll is one round trip and no new greeting of TCP and TLS.

    `packs` is whether the server takes what is packed by gzip; that is believed until it refuses. Not to be
    used from two threads at once.
    """

    def __init__(self) -> None:
        """Remember nothing; `open` connects."""
        self.packs = True
        self._transport: Transport | None = None
        self._of: Enrollment | None = None

    @property
    def is_open(self) -> bool:
        """Whether an earlier visit has left a connection, which the server may have closed since."""
        return self._transport is not None

    def open(self, enrollment: Enrollment) -> "Transport":
        """Give the connection to the server of `enrollment`: the one that is open, if it is to that one.

        Raises:
            BadSetting: The address is not one of an HTTP server.
        """
        from edge.transport import Transport

        if self._transport is None or self._of != enrollment:
            self.close()
            self._transport = Transport(enrollment.url, token=enrollment.token)
            self._of = enrollment
            self.packs = True
        return self._transport

    def close(self) -> None:
        """Close the connection; the next `open` makes another."""
        if self._transport is not None:
            self._transport.close()
            self._transport = None
