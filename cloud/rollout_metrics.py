"""What Prometheus is told of the rollouts."""

from collections.abc import Iterable, Mapping, Sequence

from cloud.rollouts import Rollout

_STATES = ("active", "paused", "aborted")
_FARES = ("offered", "running", "failed", "silent")


def rollout_lines(rollouts: Sequence[Rollout], steps: Mapping[tuple[str, str], int]) -> list[str]:
    """Tell how far rollouts are, how the devices fare, what was found of the answers, and the steps."""
    return [
        *_metric(
            "percent",
            "gauge",
            "Share of the devices that a release is offered to.",
            ((f'release="{each.version}"', each.percent) for each in rollouts),
        ),
        *_metric(
            "state",
            "gauge",
            "Whether a rollout is in this state: 1 or 0.",
            (
                (f'release="{each.version}",state="{state}"', int(each.state == state))
                for each in rollouts
                for state in _STATES
            ),
        ),
        *_metric(
            "devices",
            "gauge",
            "Devices by how they fare with a release, at the last look.",
            (
                (f'release="{each.version}",how="{name}"', each.seen.get(name, 0))
                for each in rollouts
                for name in _FARES
            ),
        ),
        *_metric(
            "measure", "gauge", "Shares (0 to 1) or milliseconds measured of a release.", _measures(rollouts)
        ),
        *_metric(
            "steps_total",
            "counter",
            "Steps of rollouts, by what was done and by whom.",
            ((f'action="{action}",by="{by}"', count) for (action, by), count in sorted(steps.items())),
        ),
    ]


def _measures(rollouts: Sequence[Rollout]) -> Iterable[tuple[str, float]]:
    for rollout in rollouts:
        shadow = rollout.seen.get("shadow")
        if shadow:
            yield f'release="{rollout.version}",measure="agreement_in_shadow"', shadow["agreement"]
        for measure in rollout.seen.get("accuracy", ()):
            name = measure["measure"].replace(" ", "_") + ("_ms" if measure["unit"] else "")
            if measure["now"] is not None:
                yield f'release="{rollout.version}",measure="{name}"', measure["now"]


def _metric(name: str, kind: str, words: str, samples: Iterable[tuple[str, float]]) -> list[str]:
    full = f"shelfsight_rollout_{name}"
    return [
        f"# HELP {full} {words}",
        f"# TYPE {full} {kind}",
        *(f"{full}{{{labels}}} {value:.6g}" for labels, value in samples),
    ]
