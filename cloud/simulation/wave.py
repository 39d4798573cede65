"""What a simulation saw: when each device had the new release, what it cost, what went wrong."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cloud.simulation.link import Traffic

PLANNED: Final = ("line_down", "cut_short")
"""Errors that the simulated lines make, whatever the server does."""

KINDS: Final = ("heartbeat", "metadata", "manifest", "files", "hints")
"""What bytes are for."""

_SMOOTHED: Final = 4  # samples: the system counts processor time in hundredths of a second


@dataclass(frozen=True, slots=True)
class Figures:
    """What came of a simulation.

    Attributes:
        devices: how many virtual devices there were.
        installed: how many of them had the release when it ended.
        to_fleet_s: seconds from the offer until 50, 90, 99 and 100 percent of all devices had it, and all
            that `can` take it, since their clocks let them; None where that was not reached.
        rest: of the others, how many were how far when it ended.
        bytes_per_device: of a device that took the release, from the offer on, heads and bodies: received in
            all and by what they were for, and sent; median and 95th percentile.
        polls_per_s: heartbeats a second, mean and the most within one second.
        poll_ms: time of a heartbeat, lines included, median and 99th percentile, in milliseconds.
        errors: how many there were, by code; those in `PLANNED` are the simulated lines' own.
        real: of the real devices, seconds until each had it; None where it did not.
        clock_wrong: how many devices had a clock that is so wrong that they must refuse.
        listening: how many listened to hints.
        server_cpu: processor cores that the server used: mean before the offer and while 99 of 100 devices
            took it, and the most within a second; None where the system does not tell.
        simulator: processor cores that the simulation itself used after the offer, and how late its own
            clockwork was at the 99th percentile, in milliseconds: a late one makes the server look slow.
    """

    devices: int
    installed: int
    to_fleet_s: dict[str, float | None]
    rest: dict[str, int]
    bytes_per_device: dict[str, dict[str, float]]
    polls_per_s: dict[str, float]
    poll_ms: dict[str, float]
    errors: dict[str, int]
    real: list[float | None]
    clock_wrong: int
    listening: int
    server_cpu: dict[str, float] | None
    simulator: dict[str, float]


@dataclass(frozen=True, slots=True)
class Sample:
    """Processor seconds that were used until `at`, by the server (None: not told) and by the simulation."""

    at: float
    server: float | None
    own: float
    late_s: float


@dataclass(slots=True)
class Wave:
    """Take notes while the simulation runs; times are seconds of one monotonic clock."""

    devices: int
    began: float
    offered: float | None = None
    ended: float = 0.0
    polls: list[tuple[float, float]] = field(default_factory=list)
    installed: dict[str, float] = field(default_factory=dict)
    errors: list[tuple[float, str]] = field(default_factory=list)
    traffic: dict[str, Traffic] = field(default_factory=dict)
    settled: set[str] = field(default_factory=set)  # devices whose bytes are counted to the end
    bytes_at: list[tuple[float, int]] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    rest: Counter[str] = field(default_factory=Counter)
    real: list[float | None] = field(default_factory=list)
    clock_wrong: int = 0
    listening: int = 0

    @property
    def able(self) -> int:
        """How many devices can take the release, since their clocks let them."""
        return self.devices - self.clock_wrong

    def went(self, device: str, now: float, traffic: Traffic) -> None:
        """Note what went over a device's line; of its cost what comes after the offer until it is done."""
        self.bytes_at.append((now, traffic.received.total()))
        if self.offered is not None and device not in self.settled:
            cost = self.traffic.setdefault(device, Traffic())
            cost.received.update(traffic.received)
            cost.sent += traffic.sent
            self.settled |= {device} & self.installed.keys()

    def figures(self) -> Figures:
        """Sum up."""
        times = self.times()
        latencies = [1000 * seconds for _, seconds in self.polls]
        per_second = self.per_second([at for at, _ in self.polls])
        counts = {str(share): -(-self.devices * share // 100) for share in (50, 90, 99, 100)}
        return Figures(
            devices=self.devices,
            installed=len(times),
            to_fleet_s={
                name: _reached(times, count) for name, count in (counts | {"can": self.able}).items()
            },
            rest=dict(self.rest.most_common()),
            bytes_per_device=self._cost(),
            polls_per_s={
                "mean": round(float(per_second.mean()), 1) if len(per_second) else 0.0,
                "peak": float(per_second.max()) if len(per_second) else 0.0,
            },
            poll_ms={"p50": _percentile(latencies, 50), "p99": _percentile(latencies, 99)},
            errors=dict(Counter(code for _, code in self.errors).most_common()),
            real=self.real,
            clock_wrong=self.clock_wrong,
            listening=self.listening,
            server_cpu=self._server_cpu(),
            simulator=self._simulator(),
        )

    def times(self) -> list[float]:
        """Return when each device had the release, in seconds from the offer, sorted."""
        start = self.offered if self.offered is not None else self.began
        return sorted(at - start for at in self.installed.values())

    def per_second(self, times: list[float]) -> NDArray[np.int64]:
        """Count what happened in each second from the beginning to the end."""
        seconds = max(1, int(np.ceil(self.ended - self.began)))
        counts, _ = np.histogram(np.array(times) - self.began, bins=seconds, range=(0, seconds))
        return counts

    def server_load(self) -> list[tuple[float, float]]:
        """Return (when, processor cores that the server used since the one before) of each sample."""
        told = [(each.at, each.server) for each in self.samples[::_SMOOTHED] if each.server is not None]
        return [
            (here[0], (here[1] - before[1]) / (here[0] - before[0]))
            for before, here in pairwise(told)
            if here[0] > before[0]
        ]

    def _cost(self) -> dict[str, dict[str, float]]:
        costs = [self.traffic[id_] for id_ in self.installed if id_ in self.traffic]
        parts = {"received": [each.received.total() for each in costs], "sent": [each.sent for each in costs]}
        parts |= {kind: [each.received[kind] for each in costs] for kind in KINDS}
        return {
            name: {"p50": _percentile(counts, 50), "p95": _percentile(counts, 95)}
            for name, counts in parts.items()
        }

    def _server_cpu(self) -> dict[str, float] | None:
        load = self.server_load()
        if not load:
            return None
        offered = self.offered if self.offered is not None else self.ended
        times = self.times()
        most = times[max(0, -(-len(times) * 99 // 100) - 1)] if times else 0.0
        return {
            "before": _mean(cores for at, cores in load if at <= offered),
            "wave": _mean(cores for at, cores in load if offered < at <= offered + max(1.0, most)),
            "peak": round(max(cores for _, cores in load), 2),
        }

    def _simulator(self) -> dict[str, float]:
        after = [each for each in self.samples if self.offered is not None and each.at >= self.offered]
        passed = after[-1].at - after[0].at if after else 0.0
        cpu = (after[-1].own - after[0].own) / passed if passed else 0.0
        late = [1000 * each.late_s for each in self.samples]
        return {"cpu": round(cpu, 2), "late_ms_p99": _percentile(late, 99)}


def _reached(times: list[float], count: int) -> float | None:
    return round(times[count - 1], 1) if 0 < count <= len(times) else None


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return round(sum(listed) / len(listed), 2) if listed else 0.0


def _percentile(values: Iterable[float], share: float) -> float:
    listed = list(values)
    return round(float(np.percentile(listed, share)), 1) if listed else 0.0
