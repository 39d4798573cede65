"""Finds the model to work with where none is named."""

from pathlib import Path

from cloud.workspace import Workspace
from edge.errors import BadModel

_BUNDLED = Path(__file__).parent / "models"


def bundled_model() -> Path:
    """Return the folder of the model that comes with Shelfsight.

    Raises:
        BadModel: this installation has none.
    """
    found = _newest(_BUNDLED)
    if found is None:
        raise BadModel(f"no model came with this installation (none in {_BUNDLED}): name one with --model")
    return found


def default_model(workspace: Workspace) -> Path:
    """Return the workspace's newest model of its own, or else the one that comes with Shelfsight.

    Raises:
        BadModel: there is neither.
    """
    return _newest(workspace.models) or bundled_model()


def _newest(folder: Path) -> Path | None:
    try:
        manifests = [(path.stat().st_mtime, path) for path in folder.glob("*/model.json")]
    except OSError:
        return None
    return max(manifests)[1].parent if manifests else None
