"""Put a trained model where it is bundled: its files, their certificate, what `evaluate --all` measured.

    python benchmarks/bundle_model.py MODEL_FOLDER cloud/models [EVALUATION_JSON]

The float32 file stays behind: it is what the others were measured against. Without EVALUATION_JSON the scores
stay that were measured before, if the networks are the same. The model card, README.md, is written by hand.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

from edge.certificate import CERTIFICATE_FILE, read_certificate
from edge.disk import write_atomically
from edge.model import open_model, write_model


def bundle(folder: Path, models: Path, evaluation: Path | None = None) -> Path:
    """Copy the files and write a model.json that tells what was measured; return the new folder."""
    model, certificate = open_model(folder), read_certificate(folder)
    if certificate is None:
        raise SystemExit(f"{folder} has no certificate: certify it with benchmarks/certify_model.py")
    chosen = tuple(variant for variant in model.variants if variant.target != "float32")
    for variant in chosen:
        certificate.check(variant.file, variant.sha256)
    target = models / model.name
    extra = {**model.extra, **_scores(model.name, target, model.space, evaluation)}
    target.mkdir(parents=True, exist_ok=True)
    for variant in chosen:
        write_atomically(target / variant.file, model.path(variant).read_bytes())
    shipped = tuple(file for variant in chosen for file in certificate.of_file(variant.sha256))
    write_atomically(target / CERTIFICATE_FILE, replace(certificate, files=shipped).to_bytes())
    write_model(replace(model, variants=chosen, folder=target, extra=extra), target)
    return target


def _scores(name: str, target: Path, space: str, evaluation: Path | None) -> dict[str, object]:
    """Return what was measured of the model, as model.json has it: newly, or before of the same network."""
    if evaluation is not None:
        measured = json.loads(evaluation.read_text(encoding="utf-8"))["by_model"]
        if name not in measured:
            raise SystemExit(f"{evaluation} measured {', '.join(measured)}: measure {name} first")
        return {"scores": measured[name]}
    if not (target / "model.json").exists():
        return {}
    before = open_model(target)
    known = "scores" in before.extra and before.space == space
    return {"scores": before.extra["scores"]} if known else {}


if __name__ == "__main__":
    print(bundle(*(Path(argument) for argument in sys.argv[1:4])))
