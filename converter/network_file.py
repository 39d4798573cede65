"""What lies beside a float network: how its input is normalized, and which embedding space it makes."""

import json
from dataclasses import dataclass
from pathlib import Path

from edge.errors import BadNetwork


@dataclass(frozen=True, slots=True)
class NetworkNote:
    """The contents of `network.json`: the network takes `raw * input_scale + input_offset`, raw in 0..255.

    `license` is what a person wrote there; empty where nobody did.
    """

    backbone: str
    space: str
    input_size: int
    dimension: int
    input_scale: float
    input_offset: float
    license: str = ""


def read_note(network: Path) -> NetworkNote:
    """Read the `network.json` beside the file `network`.

    Raises:
        BadNetwork: it is missing, cannot be read, or has no such fields.
    """
    path = network.parent / "network.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return NetworkNote(
            str(record["backbone"]),
            str(record["space"]),
            int(record["input_size"]),
            int(record["dimension"]),
            float(record["input_scale"]),
            float(record["input_offset"]),
            str(record.get("license", "")),
        )
    except OSError as error:
        raise BadNetwork(
            f"{path} cannot be read ({error.strerror}): it lies beside the network that `train` wrote"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise BadNetwork(f"{path} does not describe a network ({error!r}): train again") from error
