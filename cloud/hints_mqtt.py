"""Passes hints on to an MQTT broker, where devices listen: the only door to paho-mqtt in the cloud."""

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from cloud.hints import Hint
from edge.errors import BadSetting
from edge.tls import client_context

if TYPE_CHECKING:
    from paho.mqtt.client import Client

TOPIC: Final = "shelfsight/stable/releases"
_KEEP_ALIVE_S: Final = 30
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Broker:
    """A broker, as devices and server reach it; the rest is how this server alone shows itself there.

    `ca` is the file of the certificate that the broker's is signed by, "" for those of the system. Devices
    have a user and a password of their own, who may read and not write.
    """

    host: str
    port: int
    tls: bool = False
    ca: str = ""
    user: str = ""
    password: str = field(default="", repr=False)

    @classmethod
    def parse(
        cls, text: str, *, tls: bool = False, ca: str = "", user: str = "", password: str = ""
    ) -> "Broker":
        """Read `HOST:PORT`; a `ca` means TLS.

        Raises:
            BadSetting: it is none.
        """
        host, _, port = text.rpartition(":")
        if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
            raise BadSetting(f"{text!r} is no broker: give HOST:PORT, like broker.example:1883")
        if password and not user:
            raise BadSetting("a password for the broker needs a name with it: give --mqtt-user")
        return cls(host.strip("[]"), int(port), tls or bool(ca), ca, user, password)

    def to_record(self) -> dict[str, object]:
        """Return how a device is told where to listen."""
        return {"host": self.host, "port": self.port, "topic": TOPIC, "tls": self.tls}


class BrokerTeller:
    """Publishes each hint, retained, so that whoever comes back hears the last one at once.

    A broker that is not there now is tried again in the background, for as long as the server runs; what was
    to be told meanwhile is told when it is back, the newest alone.
    """

    def __init__(self, broker: Broker) -> None:
        """Prepare; `start` connects.

        Raises:
            BadSetting: the extra `mqtt` is not installed, or the file of a certificate is none.
        """
        self._broker = broker
        self._last: Hint | None = None
        self._client = _client(broker)
        self._client.on_connect = self._connected
        self._client.on_disconnect = self._disconnected
        self._client.on_connect_fail = self._not_reached
        self._is_reached = True  # as far as the log knows

    def start(self) -> None:
        """Begin to connect, in a thread of its own."""
        self._client.connect_async(self._broker.host, self._broker.port, keepalive=_KEEP_ALIVE_S)
        self._client.loop_start()

    def stop(self) -> None:
        """Say goodbye."""
        self._client.disconnect()
        self._client.loop_stop()

    def tell(self, hint: Hint) -> None:
        """Publish a hint, or keep it until the broker is back."""
        self._last = hint
        if self._client.is_connected():
            self._publish(hint)

    def _publish(self, hint: Hint) -> None:
        self._client.publish(TOPIC, hint.to_json(), qos=1, retain=True)

    def _connected(self, _client: "Client", _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            _log.error("the broker %s refuses the server: %s", self._broker.host, reason)
            return
        self._is_reached = True
        if self._last is not None:
            self._publish(self._last)

    def _not_reached(self, _client: "Client", _data: Any) -> None:
        if self._is_reached:
            cure = "look at it, and at its certificate" if self._broker.tls else "look at it"
            _log.error(
                "the broker %s:%d is not reached (devices poll meanwhile): %s",
                self._broker.host,
                self._broker.port,
                cure,
            )
        self._is_reached = False

    def _disconnected(
        self, _client: "Client", _data: Any, _flags: Any, reason: Any, _properties: Any
    ) -> None:
        if reason.is_failure:
            _log.error("the broker %s is gone (%s): devices poll meanwhile", self._broker.host, reason)


def _client(broker: Broker) -> "Client":
    try:
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion
    except ImportError as error:
        raise BadSetting("--mqtt needs paho-mqtt: pip install 'shelfsight[mqtt]'") from error
    client = Client(CallbackAPIVersion.VERSION2)
    if broker.user:
        client.username_pw_set(broker.user, broker.password or None)
    if broker.tls:
        try:
            client.tls_set_context(client_context(broker.ca))
        except OSError as error:
            raise BadSetting(f"--mqtt-ca is {broker.ca!r}, which cannot be read ({error})") from error
    return client
