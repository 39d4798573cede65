"""The only door to paho-mqtt on a device: hints from a broker."""

import queue
import threading
import uuid
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from devices.config import Settings
from devices.hint import Hint
from edge.errors import AccessDenied, BadSetting, ServerUnreachable
from edge.tls import client_context

if TYPE_CHECKING:
    from paho.mqtt.client import Client

KEEP_ALIVE_S = 30
"""The broker hears from the device that often, and is heard from: a line that is dead is noticed."""

_MOST_WAITING = 100


def mqtt_hints(
    place: object, settings: Settings, device: str, stands: Callable[[], None], closed: threading.Event
) -> Iterator[Hint]:
    """Give the hints of the topic at `place`, `{"host", "port", "topic", "tls"}` as a heartbeat named it.

    `stands` is called when the broker has agreed to send them. It ends when `closed` is set.

    Raises:
        BadSetting: It is no such place, or the extra `mqtt` is not installed.
        AccessDenied: The broker does not know this device.
        ServerUnreachable: No line, or it broke.
    """
    host, port, topic, tls = _read_place(place)
    heard: queue.Queue[Hint] = queue.Queue(_MOST_WAITING)
    refused: list[str] = []
    client = _client(device, settings, tls=tls)

    def connected(client: "Client", _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            refused.append(str(reason))
        else:
            client.subscribe(topic, qos=1)

    def agreed(_client: "Client", _data: Any, _id: int, reasons: Any, _properties: Any) -> None:
        if any(reason.is_failure for reason in reasons):
            refused.append(f"nothing of {topic} is for this device")
        else:
            stands()

    def told(_client: "Client", _data: Any, message: Any) -> None:
        if not heard.full():  # then there are more than enough to ring for
            heard.put(Hint.read(message.payload[:4096]))

    client.on_connect, client.on_subscribe, client.on_message = connected, agreed, told
    try:
        client.connect(host, port, keepalive=KEEP_ALIVE_S)
        while not closed.is_set():
            code = client.loop(timeout=1.0)
            while not heard.empty():
                yield heard.get()
            if refused:
                raise AccessDenied(
                    f"the broker {host}:{port} does not let this device in ({refused[0]}): "
                    "set mqtt_user and mqtt_password."
                )
            if code != 0:
                raise ServerUnreachable(f"the broker {host}:{port} is gone ({code}): it is tried again.")
    except (OSError, ValueError) as error:  # a certificate that is not trusted is an OSError too
        raise ServerUnreachable(f"no broker answers at {host}:{port} ({error}): look at it.") from error
    finally:
        client.disconnect()


def _client(device: str, settings: Settings, *, tls: bool) -> "Client":
    try:
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion
    except ImportError as error:
        raise BadSetting(
            "hints by MQTT need paho-mqtt, which is not installed: pip install 'shelfsight[mqtt]'"
        ) from error
    # Two programs of one device may listen; a broker puts out the first of two that have the same name.
    client = Client(CallbackAPIVersion.VERSION2, client_id=f"{device}-{uuid.uuid4().hex[:8]}")
    if settings.mqtt_user:
        client.username_pw_set(settings.mqtt_user, settings.mqtt_password or None)
    if tls:
        try:
            client.tls_set_context(client_context(settings.mqtt_ca))
        except OSError as error:
            raise BadSetting(f"mqtt_ca is {settings.mqtt_ca!r}, which cannot be read ({error})") from error
    return client


def _read_place(place: object) -> tuple[str, int, str, bool]:
    fields = place if isinstance(place, dict) else {}
    host, port, topic, tls = (fields.get(name) for name in ("host", "port", "topic", "tls"))
    if not (isinstance(host, str) and isinstance(topic, str) and isinstance(port, int)):
        raise BadSetting(f"hints from {str(place)[:80]!r}: that is no broker with a topic")
    if not host or not 0 < port < 65536 or not topic or len(topic) > 256 or "\0" in topic:
        raise BadSetting(f"hints from {str(place)[:80]!r}: that is no broker with a topic")
    return host, port, topic, tls is True
