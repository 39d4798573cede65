"""Brings the events of an outbox to the server: in their order, each until it is taken, none in the way."""

from collections.abc import Sequence

from devices.line import Line
from edge.errors import ServerUnreachable, TryLater
from edge.events import Event
from edge.outbox import KEPT_KINDS, Outbox
from edge.transport import Transport

BATCH = 500
"""Events in one request, at most."""

MOST_REFUSED = 3
"""Events that one visit passes over: where a server refuses more, it is the server that is at fault."""

_ABOUT_THE_EVENTS = frozenset({400, 413, 422, 500})  # other refusals are about the device or the moment


def deliver(outbox: Outbox, transport: Transport, path: str, line: Line) -> int:
    """Send what waits in `outbox` to `path`, batch after batch; give the number that the server took.

    A batch that is refused is halved until the one event is found that the server cannot take: it is given up
    and counted, or, where the server broke over it or a person said it, put behind all others.

    Raises:
        TryLater, AccessDenied: Not now; what was not taken is kept.
        NoSpace, StorageUnusable: The outbox cannot be used.
    """
    delivered, limit = 0, BATCH
    passed: list[str] = []
    while (batch := outbox.batch(limit)) and batch[0].id not in passed:
        try:
            accepted, refused = _send(transport, path, batch, line)
        except TryLater as error:
            if error.status not in _ABOUT_THE_EVENTS or len(passed) == MOST_REFUSED:
                raise
            if len(batch) == 1:
                _pass_over(outbox, batch[0], broke=error.status == 500)
                passed.append(batch[0].id)
            limit = max(1, len(batch) // 2)
            continue
        # What the server refuses now it refuses for ever: keeping it would block those behind it.
        outbox.acknowledge(accepted | refused)
        delivered += len(accepted)
        if not accepted | refused:
            raise ServerUnreachable(f"{transport.base_url} took none of {len(batch)} events: look at its log")
        limit = min(BATCH, limit * 2)
    return delivered


def _send(transport: Transport, path: str, batch: Sequence[Event], line: Line) -> tuple[set[str], set[str]]:
    """Send one batch; give the ids that the server took, and those that it will never take."""
    body: dict[str, object] = {"events": [event.to_record() for event in batch]}
    try:
        answer = transport.post_json(path, body, packed=line.packs)
    except TryLater as error:
        # 415 says that it does not unpack; one from before events were packed finds no JSON in them (400).
        if not line.packs or error.status not in (400, 415):
            raise
        answer = transport.post_json(path, body)
        line.packs = False
    return _settled(answer, {event.id for event in batch})


def _pass_over(outbox: Outbox, event: Event, *, broke: bool) -> None:
    if broke or event.kind in KEPT_KINDS:
        outbox.postpone(event.id)
    else:
        outbox.give_up(event.id)


def _settled(answer: object, sent: set[str]) -> tuple[set[str], set[str]]:
    """Read which of the events that were `sent` the server took, and which it will never take."""
    if not isinstance(answer, dict):
        return set(), set()
    refused = answer.get("refused")
    records = refused if isinstance(refused, list) else []
    never = [record.get("id") for record in records if isinstance(record, dict)]
    return sent & _texts(answer.get("accepted")), sent & _texts(never)


def _texts(values: object) -> set[str]:
    return {value for value in values if isinstance(value, str)} if isinstance(values, list) else set()
