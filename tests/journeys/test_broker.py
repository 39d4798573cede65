"""A real Mosquitto with TLS and passwords between a real server and real devices: who hears, and who not."""

import getpass
import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from cloud.hints import Hint
from cloud.hints_mqtt import TOPIC, Broker, BrokerTeller
from devices.config import Settings
from devices.doctor.answers import _packed
from devices.hints_mqtt import mqtt_hints
from edge.errors import AccessDenied, ServerUnreachable, ShelfsightError
from tests.edge.tls_server import write_authority, write_certificate
from tests.journeys.shop import Shop
from tests.journeys.test_hints import BUSY_S, WITHIN_S, next_report, speaking
from tools.servers import mosquitto_program

PASSWORDS = {"server": "s3rver pass", "device": "d3vice=pass"}
RIGHTS = f"user server\ntopic readwrite {TOPIC}\n\nuser device\ntopic read {TOPIC}\n"


@dataclass(frozen=True)
class Guarded:
    """A broker that wants TLS and a password; `ca` signed its certificate, and `other_ca` did not."""

    port: int
    ca: Path
    other_ca: Path

    @property
    def place(self) -> dict[str, object]:
        return {"host": "127.0.0.1", "port": self.port, "topic": TOPIC, "tls": True}

    def settings(self, data: Path, **others: str) -> Settings:
        usual = Settings(
            data=data,
            hints="mqtt",
            mqtt_ca=str(self.ca),
            mqtt_user="device",
            mqtt_password=PASSWORDS["device"],
        )
        return replace(usual, **others)  # type: ignore[arg-type]

    def teller(self, ca: Path | None = None) -> BrokerTeller:
        where = f"127.0.0.1:{self.port}"
        return BrokerTeller(
            Broker.parse(where, ca=str(ca or self.ca), user="server", password=PASSWORDS["server"])
        )


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    program = mosquitto_program()
    if program is None:
        if os.environ.get("SHELFSIGHT_REQUIRE_SERVERS") == "1":
            pytest.fail("SHELFSIGHT_REQUIRE_SERVERS is set, and there is no Mosquitto")
        pytest.skip("there is no Mosquitto: apt-get install mosquitto")
    folder, other = tmp_path_factory.mktemp("broker"), tmp_path_factory.mktemp("other")
    authority = write_authority(folder)
    certificate = write_certificate(folder, days=9, authority=authority)
    passwords, rights = folder / "passwords", folder / "rights"
    passwords.write_text("".join(f"{name}:{password}\n" for name, password in PASSWORDS.items()))
    passwords.chmod(0o600)
    subprocess.run(["mosquitto_passwd", "-U", passwords], check=True)
    rights.write_text(RIGHTS)
    rights.chmod(0o600)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    configuration = folder / "mosquitto.conf"
    configuration.write_text(
        f"user {getpass.getuser()}\nlistener {port} 127.0.0.1\npersistence false\nallow_anonymous false\n"
        f"password_file {passwords}\nacl_file {rights}\ncertfile {certificate}\nkeyfile {certificate}\n"
    )
    command = [program, "-c", configuration]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            end = time.monotonic() + 10
            while not listens(port):
                assert process.poll() is None and time.monotonic() < end, "the broker did not start"
                time.sleep(0.02)
            yield Guarded(port, authority.certificate, write_authority(other).certificate)
        finally:
            process.terminate()


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Heard(threading.Thread):
    """Listens as a device does; `hints` grows, `error` is what ended it."""

    def __init__(self, broker: Guarded, settings: Settings) -> None:
        super().__init__(daemon=True)
        self._lines = (broker.place, settings)
        self.stood, self.closed = threading.Event(), threading.Event()
        self.hints: list[int | None] = []
        self.error: ShelfsightError | None = None

    def run(self) -> None:
        place, settings = self._lines
        try:
            for hint in mqtt_hints(place, settings, "d-1", self.stood.set, self.closed):
                self.hints.append(hint.version)
        except ShelfsightError as error:
            self.error = error

    def __enter__(self) -> "Heard":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closed.set()
        self.join(10)

    def wait_for(self, version: int) -> None:
        end = time.monotonic() + 10
        while version not in self.hints:
            assert time.monotonic() < end and self.error is None, (self.hints, self.error)
            time.sleep(0.02)


def test_a_release_is_known_at_once_through_a_broker_with_tls_and_passwords(
    broker: Guarded, tmp_path: Path
) -> None:
    shop = Shop(tmp_path)
    shop.open([1, 2])
    (shop.cloud_data / "cloud.toml").write_text(
        f'[serve]\nhints = false\nmqtt = "127.0.0.1:{broker.port}"\nmqtt-ca = "{broker.ca}"\n'
        f'mqtt-user = "server"\nmqtt-password = "{PASSWORDS["server"]}"\n'
    )
    with shop.server() as url:
        data = shop.enroll_another(url, 1)
        (data / "device.toml").write_text(
            f'mqtt_ca = "{broker.ca}"\nmqtt_user = "device"\nmqtt_password = "{PASSWORDS["device"]}"\n'
        )
        with speaking(["sync", "--json", "--data", data]) as device:
            report, _ = next_report(device)
            assert (report["installed"], report["next_poll_s"]) == (1, 60.0)
            assert report["hints"] == {"mqtt": broker.place}  # and no other way than to poll in a minute
            time.sleep(1)
            shop.add(9)
            release = shop.publish()["version"]
            published = (shop.cloud_data / "repository" / "metadata" / "timestamp.json").stat().st_mtime
            report, heard = next_report(device)
            assert report["installed"] == release
            assert heard - published < WITHIN_S + BUSY_S, report


def test_a_broker_whose_certificate_another_authority_signed_is_not_listened_to(
    broker: Guarded, tmp_path: Path
) -> None:
    with Heard(broker, broker.settings(tmp_path, mqtt_ca=str(broker.other_ca))) as deceived:
        deceived.join(10)
    assert isinstance(deceived.error, ServerUnreachable)
    assert "certificate verify failed" in str(deceived.error)
    assert (deceived.stood.is_set(), deceived.hints) == (False, [])


@pytest.mark.parametrize("wrong", [{"mqtt_password": "guessed"}, {"mqtt_user": ""}])
def test_who_has_no_password_hears_nothing_and_is_told_why(
    wrong: dict[str, str], broker: Guarded, tmp_path: Path
) -> None:
    with Heard(broker, broker.settings(tmp_path, **wrong)) as stranger:
        stranger.join(10)
    assert isinstance(stranger.error, AccessDenied)
    assert "set mqtt_user and mqtt_password" in str(stranger.error)
    assert not stranger.stood.is_set()


def test_a_device_may_listen_and_not_tell_others(broker: Guarded, tmp_path: Path) -> None:
    teller = broker.teller()
    teller.start()
    with Heard(broker, broker.settings(tmp_path)) as honest:
        assert honest.stood.wait(10)
        liar = Client(CallbackAPIVersion.VERSION2)
        liar.username_pw_set("device", PASSWORDS["device"])
        liar.tls_set(ca_certs=str(broker.ca))
        liar.connect("127.0.0.1", broker.port)
        liar.loop_start()
        liar.publish(TOPIC, json.dumps({"version": 666, "spread_s": 0}), qos=1).wait_for_publish(10)
        teller.tell(Hint(7, 0.0))
        honest.wait_for(7)
        liar.disconnect()
        liar.loop_stop()
    assert 666 not in honest.hints
    teller.stop()


def test_a_server_shows_its_password_to_no_other_broker_and_says_so_once(
    broker: Guarded, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    teller = broker.teller(ca=broker.other_ca)
    teller.tell(Hint(99, 0.0))
    teller.start()
    end = time.monotonic() + 10
    while "is not reached" not in caplog.text:
        assert time.monotonic() < end
        time.sleep(0.02)
    with Heard(broker, broker.settings(tmp_path)) as device:
        assert device.stood.wait(10)
        time.sleep(1.5)  # it tries again after a second
    teller.stop()
    assert 99 not in device.hints
    assert caplog.text.count("is not reached") == 1
    assert PASSWORDS["server"] not in caplog.text


def test_no_password_is_shown_to_whoever_looks_at_the_processes(broker: Guarded, tmp_path: Path) -> None:
    settings = broker.settings(tmp_path)
    assert PASSWORDS["device"] not in repr(settings)
    assert json.loads(_packed(settings))["mqtt_password"] == ""
