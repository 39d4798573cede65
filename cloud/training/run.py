"""The folder of one training: what was asked for, how far it came, and the weights to go on from.

recipe.toml       what was asked for
config.json       what it ran on: products, photos, versions, devices
begun.npz         the weights it began with
checkpoint.npz    weights, what is learned beside them, and optimizer after the last whole epoch
metrics.jsonl     one line an epoch
curves.png        the same as a picture
views.png         what the network sees of some photos
network.keras     the finished float network, with network.json
model/            the finished model folder
as/NAME/          network.keras and model/ of the same training finished in another way
pictures/         decoded photos, until the model is finished
"""

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloud.training.recipe import Recipe
from edge.disk import storage_error, write_atomically
from edge.errors import BadSetting, StorageUnusable

Weights = list[NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Beginning:
    """What a training begins with: the network's weights, and the products' directions, float32 (D, K)."""

    network: Weights
    means: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state after `epoch` whole epochs.

    Attributes:
        epoch: how many epochs are done.
        network: the weights that are validated and finished, averaged where the recipe says so.
        learned: all variables that the training changes, as they are, in their order.
        optimizer: the optimizer's variables, in their order.
        prototypes: the products' directions, float32 (D, K).
    """

    epoch: int
    network: Weights
    learned: Weights
    optimizer: Weights
    prototypes: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The folder of one training; every file in it is whole or absent, whenever the training is killed."""

    folder: Path

    @property
    def pictures(self) -> Path:
        """Decoded photos."""
        return self.folder / "pictures"

    @property
    def model(self) -> Path:
        """The finished model folder."""
        return self.folder / "model"

    def finished_as(self, name: str) -> "RunFolder":
        """Return the folder for another finish of this training, under another name."""
        return RunFolder(self.folder / "as" / name)

    def begin(self, recipe: Recipe, config: Mapping[str, object]) -> None:
        """Write down what was asked for, or check that it is what this run was begun with.

        Raises:
            BadSetting: the run was begun with another recipe, or with other photos.
            StorageUnusable, NoSpace: the folder cannot be written.
        """
        path = self.folder / "recipe.toml"
        if path.exists():
            recipe.check_same_training(Recipe.read(path))
            self._check_same_catalog(config)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise storage_error(error, self.folder) from error
        write_atomically(path, recipe.to_toml().encode())
        if not (self.folder / "config.json").exists():  # where it is finished is not what it ran on
            write_atomically(self.folder / "config.json", (json.dumps(config, indent=1) + "\n").encode())

    def _check_same_catalog(self, config: Mapping[str, object]) -> None:
        try:
            begun = json.loads((self.folder / "config.json").read_bytes())
        except (OSError, ValueError):
            return  # killed between the two files, before anything was trained
        if begun.get("catalog") not in (None, config.get("catalog")):
            raise BadSetting(
                f"the catalog's photos have changed since {self.folder} was begun: choose another --name"
            )

    def recipe(self) -> Recipe:
        """Read the recipe that this run was begun with.

        Raises:
            BadSetting: there is none, or it is broken.
        """
        return Recipe.read(self.folder / "recipe.toml")

    def save_begun(self, begun: Beginning) -> None:
        """Keep what the training begins with."""
        write_atomically(
            self.folder / "begun.npz", _pack({"network": begun.network, "means": [begun.means]}, {})
        )

    def begun(self) -> Beginning | None:
        """Read what the training begins with; None before it began.

        Raises:
            StorageUnusable: the file is damaged, or of an older version.
        """
        groups, _ = _unpack(self.folder / "begun.npz", ("network", "means"))
        return Beginning(groups["network"], groups["means"][0]) if groups else None

    def save_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Keep the state after an epoch; a kill leaves this one or the one before."""
        groups = {
            "network": checkpoint.network,
            "learned": checkpoint.learned,
            "optimizer": checkpoint.optimizer,
            "prototypes": [checkpoint.prototypes],
        }
        write_atomically(self.folder / "checkpoint.npz", _pack(groups, {"epoch": checkpoint.epoch}))

    def checkpoint(self) -> Checkpoint | None:
        """Read the state after the last whole epoch; None before the first one ended.

        Raises:
            StorageUnusable: the file is damaged, or of an older version.
        """
        names = ("network", "learned", "optimizer", "prototypes")
        groups, numbers = _unpack(self.folder / "checkpoint.npz", names)
        if not groups:
            return None
        network, learned, optimizer, prototypes = (groups[name] for name in names)
        return Checkpoint(numbers["epoch"], network, learned, optimizer, prototypes[0])

    def save_metrics(self, metrics: Sequence[Mapping[str, object]]) -> None:
        """Write the metrics of all epochs so far."""
        lines = "".join(json.dumps(line) + "\n" for line in metrics)
        write_atomically(self.folder / "metrics.jsonl", lines.encode())

    def metrics(self, epochs: int) -> list[dict[str, Any]]:
        """Read the metrics of the first `epochs` epochs."""
        path = self.folder / "metrics.jsonl"
        if not path.exists():
            return []
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return [line for line in lines if line["epoch"] <= epochs]


def _pack(groups: Mapping[str, Weights], numbers: Mapping[str, int]) -> bytes:
    arrays: dict[str, Any] = {
        f"{group}.{index:05}": array
        for group, weights in groups.items()
        for index, array in enumerate(weights)
    }
    arrays |= {name: np.array(number) for name, number in numbers.items()}
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def _unpack(path: Path, wanted: Sequence[str]) -> tuple[dict[str, Weights], dict[str, int]]:
    """Read what `_pack` packed; nothing, where there is no such file."""
    if not path.exists():
        return {}, {}
    groups: dict[str, Weights] = {}
    numbers: dict[str, int] = {}
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as packed:
            for name in sorted(packed.files):
                group, dot, _ = name.partition(".")
                if dot:
                    groups.setdefault(group, []).append(packed[name])
                else:
                    numbers[name] = int(packed[name])
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise StorageUnusable(f"{path} is damaged ({error}): delete it, and train again") from error
    missing = [name for name in wanted if name not in groups]
    if missing:
        raise StorageUnusable(
            f"{path} has no {missing[0]!r}, as an older version wrote it: delete the run, and train again"
        )
    return groups, numbers
