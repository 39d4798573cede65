"""Put a trained model where it is bundled: its int8 file, with what `evaluate --all` measured of it.

    python benchmarks/bundle_model.py MODEL_FOLDER cloud/models [EVALUATION_JSON]

The model card, README.md, is written by hand.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

from edge.disk import write_atomically
from edge.model import open_model, write_model


def bundle(folder: Path, models: Path, evaluation: Path | None = None) -> Path:
    """Copy the int8 file and write a model.json that tells what was measured; return the new folder."""
    model = open_model(folder)
    chosen = model.variant("int8")
    extra = dict(model.extra)
    if evaluation is not None:
        measured = json.loads(evaluation.read_text(encoding="utf-8"))["by_model"]
        if model.name not in measured:
            raise SystemExit(f"{evaluation} measured {', '.join(measured)}: measure {model.name} first")
        extra["scores"] = measured[model.name]
    target = models / model.name
    target.mkdir(parents=True, exist_ok=True)
    write_atomically(target / chosen.file, model.path(chosen).read_bytes())
    write_model(replace(model, variants=(chosen,), folder=target, extra=extra), target)
    return target


if __name__ == "__main__":
    print(bundle(*(Path(argument) for argument in sys.argv[1:4])))
