"""What a request may need of the cloud's rooms, opened once per server and shared by its threads."""

from dataclasses import dataclass
from typing import Final, cast

from flask import Flask, current_app

from cloud.catalog import Catalog
from cloud.events import Events
from cloud.fleet import Fleet, WrongCodeBrake
from cloud.hints import Listeners
from cloud.hints_mqtt import Broker
from cloud.offers import Offers
from cloud.pace import Pace
from cloud.presence import Presence
from cloud.proposals import Proposals
from cloud.releases import Releases
from cloud.rollout_devices import RolloutDevices
from cloud.rollouts import Rollouts
from cloud.turns import Turns
from cloud.wave import Wave
from cloud.workspace import Workspace

_NAME: Final = "shelfsight"


@dataclass(frozen=True, slots=True)
class Rooms:
    """The rooms of one workspace; each call of theirs is a database session of its own."""

    workspace: Workspace
    catalog: Catalog
    releases: Releases
    rollouts: Rollouts
    offers: Offers
    rollout_devices: RolloutDevices
    wave: Wave
    fleet: Fleet
    presence: Presence
    listeners: Listeners
    pace: Pace
    turns: Turns
    broker: Broker | None
    events: Events
    proposals: Proposals
    brake: WrongCodeBrake
    people_anywhere: bool

    @classmethod
    def open(
        cls, workspace: Workspace, *, people_anywhere: bool = False, broker: Broker | None = None
    ) -> "Rooms":
        """Open the database and the rooms in it.

        Raises:
            StorageUnusable: the database cannot be opened.
        """
        sessions = workspace.sessions()
        fleet, offers, listeners = Fleet(sessions), Offers(sessions), Listeners()
        return cls(
            workspace=workspace,
            catalog=Catalog(sessions, workspace.photo_storage()),
            releases=Releases(sessions),
            rollouts=Rollouts(sessions),
            offers=offers,
            rollout_devices=RolloutDevices(sessions),
            wave=Wave(sessions),
            fleet=fleet,
            presence=Presence(fleet),
            listeners=listeners,
            pace=Pace(fleet, offers, listeners),
            turns=Turns(),
            broker=broker,
            events=Events(sessions),
            proposals=Proposals(sessions, workspace.proposed_photo_storage()),
            brake=WrongCodeBrake(),
            people_anywhere=people_anywhere,
        )

    def hints_of(self, device: str) -> dict[str, object]:
        """Return where a device hears of releases at once, as a heartbeat tells it."""
        places: dict[str, object] = {}
        if self.listeners.are_open:
            places["sse"] = f"/v1/devices/{device}/hints"
        if self.broker is not None:
            places["mqtt"] = self.broker.to_record()
        return places

    def attach(self, app: Flask) -> None:
        """Make these the rooms of an app."""
        app.extensions[_NAME] = self


def rooms() -> Rooms:
    """Return the rooms of the app that handles this request."""
    return rooms_of(current_app)


def rooms_of(app: Flask) -> Rooms:
    """Return the rooms of an app."""
    return cast(Rooms, app.extensions[_NAME])
