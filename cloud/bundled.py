"""Finds the model to work with: a bundled one by its name, one of the user's own, or the default.

Two models come with Shelfsight: `general`, the default of every new shop, and `grocery`, the example of one
that was tuned to its shop.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from cloud.workspace import Workspace
from edge.errors import BadModel

BUNDLED_NAMES: Final = ("general", "grocery")
_BUNDLED = Path(__file__).parent / "models"


def bundled_model(name: str | None = None) -> Path:
    """Return the folder of the bundled model of this name; without a name that of `general`.

    Where an installation has one model only, whatever its name, that one stands in for both.

    Raises:
        BadModel: this installation has none, or several and none of this name.
    """
    found = _models(_BUNDLED)
    if not found:
        raise BadModel(f"no model came with this installation (none in {_BUNDLED}): name one with --model")
    named = [folder for folder in found if folder.name == (name or BUNDLED_NAMES[0])]
    if named:
        return named[0]
    if name is None or len(found) == 1:
        return found[0]
    known = ", ".join(sorted(folder.name for folder in found))
    raise BadModel(f"no model named {name} came with this installation ({known} did): name one of these")


def find_model(given: Path | None, workspace: Workspace | None = None) -> Path:
    """Return the model folder that a person means by `--model general|grocery|NAME|PATH`, or by nothing.

    A bare name is a bundled model, or a model of the workspace's own; anything else is the path of a folder
    (a folder here that is called like a bundled model is meant by its absolute path). Nothing means the
    default.

    Raises:
        BadModel: there is no model at all, or no bundled one of that name.
    """
    if given is None:
        return default_model(workspace) if workspace is not None else bundled_model()
    name = str(given)
    if name in BUNDLED_NAMES:
        return bundled_model(name)
    own = workspace.models / name if workspace is not None and given.name == name else None
    return own if own is not None and (own / "model.json").is_file() else given


def default_model(workspace: Workspace) -> Path:
    """Return the workspace's newest model of its own, or else the default one that comes with Shelfsight.

    Raises:
        BadModel: there is neither.
    """
    own = _models(workspace.models)
    return own[0] if own else bundled_model()


def _models(folder: Path) -> Sequence[Path]:
    """List the model folders in a folder, newest first."""
    try:
        manifests = [(path.stat().st_mtime, path) for path in folder.glob("*/model.json")]
    except OSError:
        return ()
    return [path.parent for _, path in sorted(manifests, reverse=True)]
