"""What a device says when it comes by, and what the server answers: the forms of one heartbeat.

A device asks nothing else of a server that knows it; all the rest is files that any cache may carry.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from edge.errors import ServerUnreachable
from edge.fields import Fields
from edge.release import ASSORTMENT

LONGEST_POLL_S = 86_400.0


@dataclass(frozen=True, slots=True)
class HeartbeatAnswer:
    """What the server wants of a device.

    Attributes:
        offered: the release that it is to have, None to keep what it has.
        assortment: of which store the offered release's products are; empty is the whole catalog.
        shadow: whether the offered release only answers beside the one in use, and is not shown to anybody.
        next_poll_s: when to come again, in seconds, before the device's own jitter.
        server_time: the server's clock, RFC 3339; None where it said none.
        hints: where the server says at once that there is something new: `{"sse": ADDRESS}`, a path on this
            very server, `{"mqtt": {"host", "port", "topic", "tls"}}`, both or neither. Never the truth.
        settled: what became of the products that this device proposed, by the id of the `proposed` event.
    """

    offered: int | None
    assortment: str = ""
    shadow: bool = False
    next_poll_s: float = 60.0
    server_time: str | None = None
    hints: Mapping[str, object] = field(default_factory=dict)
    settled: Mapping[str, "Settled"] = field(default_factory=dict)

    def to_record(self) -> dict[str, object]:
        """Return the JSON object that travels."""
        record: dict[str, object] = {
            "offered_release": self.offered,
            "next_poll_s": self.next_poll_s,
            "server_time": self.server_time,
        }
        # What is usual is not said: ten thousand devices hear it every minute.
        record |= {"assortment": self.assortment} if self.assortment else {}
        record |= {"shadow": True} if self.shadow else {}
        record |= {"hints": dict(self.hints)} if self.hints else {}
        if self.settled:
            record["settled"] = {
                id_: {"state": each.state, "release": each.release} for id_, each in self.settled.items()
            }
        return record

    @classmethod
    def from_record(cls, record: object, *, usual_poll_s: float = 60.0) -> "HeartbeatAnswer":
        """Read what a server answered; what cannot be is as if it had not been said.

        Raises:
            ServerUnreachable: it is no answer to a heartbeat at all, or offers what cannot be.
        """
        fields = Fields("the answer to a heartbeat", record, ServerUnreachable)
        offered = fields.take("offered_release")
        rest = fields.rest()
        assortment, hints = rest.get("assortment", ""), rest.get("hints")
        said_time = rest.get("server_time")
        if not _is_offer(offered) or not _is_assortment(assortment):
            raise ServerUnreachable(
                f"a server answers a heartbeat with release {str(offered)[:40]!r} of assortment "
                f"{str(assortment)[:40]!r}: check that it is the sync server."
            )
        return cls(
            offered=offered if isinstance(offered, int) else None,
            assortment=str(assortment),
            shadow=rest.get("shadow") is True,
            next_poll_s=_poll_s(rest.get("next_poll_s"), usual_poll_s),
            server_time=said_time if isinstance(said_time, str) else None,
            hints=hints if isinstance(hints, dict) else {},
            settled=_read_settled(rest.get("settled")),
        )


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of a proposed product, and the first release that knows, if there is one.

    `state` is `accepted`, `merged` (it is another product that the catalog has) or `refused`.
    """

    state: str
    release: int | None


def _is_offer(value: object) -> bool:
    return value is None or (isinstance(value, int) and not isinstance(value, bool) and value > 0)


def _is_assortment(value: object) -> bool:
    return isinstance(value, str) and (value == "" or ASSORTMENT.fullmatch(value) is not None)


def _poll_s(value: object, usual: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        return usual
    return min(max(float(value), 1.0), LONGEST_POLL_S)


def _read_settled(value: object) -> dict[str, Settled]:
    settled = {}
    for id_, each in value.items() if isinstance(value, dict) else ():
        state, release = (each.get("state"), each.get("release")) if isinstance(each, dict) else (None, None)
        if state in ("accepted", "merged", "refused") and _is_offer(release):
            settled[str(id_)] = Settled(str(state), release)
    return settled
