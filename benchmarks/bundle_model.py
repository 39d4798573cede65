"""Put a trained model into the package as the bundled one: its int8 file, with the scores of `evaluate`.

    python benchmarks/bundle_model.py MODEL_FOLDER EVALUATION_JSON cloud/models

The model card, README.md, is written by hand.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

from edge.disk import write_atomically
from edge.model import open_model, write_model


def bundle(folder: Path, evaluation: Path, models: Path) -> Path:
    """Copy the int8 file and write a model.json that tells what was measured; return the new folder."""
    model = open_model(folder)
    chosen = model.variant("int8")
    scores = json.loads(evaluation.read_text(encoding="utf-8"))
    if (scores["model"], scores["variant"]) != (model.name, chosen.name):
        raise SystemExit(
            f"{evaluation} measured {scores['model']}, {scores['variant']}: measure {folder} first"
        )
    parity = {name: scores[name] for name in ("int8_minus_float", "mean_cosine", "photos")}
    names = ("fine_top1", "coarse_top1", "fine_top5", "packshot_fine_top1", "second_domain_top1")
    extra = {**model.extra, "parity": parity, "scores": {name: scores[name] for name in names}}
    target = models / model.name
    target.mkdir(parents=True, exist_ok=True)
    write_atomically(target / chosen.file, model.path(chosen).read_bytes())
    write_model(replace(model, variants=(chosen,), folder=target, extra=extra), target)
    return target


if __name__ == "__main__":
    print(bundle(*(Path(argument) for argument in sys.argv[1:4])))
