"""What a simulation saw: when each device had the new release, what it cost, what went wrong."""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Figures:
    """What came of a simulation.

    Attributes:
        devices: how many virtual devices there were.
        installed: how many of them had the release when it ended.
        to_fleet_s: seconds from the offer until 50, 90, 99 and 100 percent of all devices had it; None where
            that was not reached.
        bytes_per_device: received by a device that took the release, from the offer on, heads and bodies,
            median and 99th percentile.
        polls_per_s: heartbeats a second, mean and the most within one second.
        poll_ms: time of a heartbeat, median and 99th percentile, in milliseconds.
        errors: how many there were, by code, lost lines included.
        real: of the real devices, seconds until each had it; None where it did not.
        clock_wrong: how many devices had a clock that is so wrong that they must refuse.
    """

    devices: int
    installed: int
    to_fleet_s: dict[str, float | None]
    bytes_per_device: dict[str, float]
    polls_per_s: dict[str, float]
    poll_ms: dict[str, float]
    errors: dict[str, int]
    real: list[float | None]
    clock_wrong: int


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
    received: Counter[str] = field(default_factory=Counter)
    settled: set[str] = field(default_factory=set)  # devices whose bytes are counted to the end
    bytes_at: list[tuple[float, int]] = field(default_factory=list)
    real: list[float | None] = field(default_factory=list)
    clock_wrong: int = 0

    def share_installed(self) -> float:
        """Return the share of the devices that have the release, 0..1."""
        return len(self.installed) / self.devices

    def figures(self) -> Figures:
        """Sum up."""
        start = self.offered if self.offered is not None else self.began
        times = sorted(at - start for at in self.installed.values())
        cost = np.array([self.received[id_] for id_ in self.installed], dtype=float)
        latencies = np.array([1000 * seconds for _, seconds in self.polls], dtype=float)
        per_second = self.per_second([at for at, _ in self.polls])
        return Figures(
            devices=self.devices,
            installed=len(times),
            to_fleet_s={str(share): self._reached(times, share) for share in (50, 90, 99, 100)},
            bytes_per_device={"p50": _percentile(cost, 50), "p99": _percentile(cost, 99)},
            polls_per_s={
                "mean": round(float(per_second.mean()), 1) if len(per_second) else 0.0,
                "most": float(per_second.max()) if len(per_second) else 0.0,
            },
            poll_ms={"p50": _percentile(latencies, 50), "p99": _percentile(latencies, 99)},
            errors=dict(Counter(code for _, code in self.errors).most_common()),
            real=self.real,
            clock_wrong=self.clock_wrong,
        )

    def per_second(self, times: list[float]) -> NDArray[np.int64]:
        """Count what happened in each second from the beginning to the end."""
        seconds = max(1, int(np.ceil(self.ended - self.began)))
        counts, _ = np.histogram(np.array(times) - self.began, bins=seconds, range=(0, seconds))
        return counts

    def _reached(self, times: list[float], share: int) -> float | None:
        wanted = -(-self.devices * share // 100)
        return round(times[wanted - 1], 1) if 0 < wanted <= len(times) else None


def _percentile(values: NDArray[np.floating], share: float) -> float:
    return round(float(np.percentile(values, share)), 1) if len(values) else 0.0
