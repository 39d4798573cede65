"""What a check found, and what a person may do about it."""

from dataclasses import dataclass

from edge.errors import FixSetup, ShelfsightError, StepBack, TryLater


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was checked. `level` is ok, warning or fault; `cure` is empty when it is ok."""

    name: str
    level: str
    found: str
    cure: str = ""


def cure_of(error: ShelfsightError) -> str:
    """Say what helps against a failure whose own sentence may not."""
    if isinstance(error, TryLater):
        return "check the network, the address and the server; the device answers without it"
    if isinstance(error, StepBack):
        return "shelfsight sync --once"
    if isinstance(error, FixSetup):
        return "mend that, then shelfsight doctor again"
    return "shelfsight sync --once brings another release"
