"""Make the bundled models again, from photos to model folders, by the commands that a user has.

    python benchmarks/make_models.py ../shared OUT

One recipe is trained twice: without the validation photos, which then choose and calibrate, and with them, by
the decision of the first (`--calibrated-by`). Each training gives `grocery` and, with more of the beginning
weights kept, `general`. The twin is made in the same two steps without twenty of the products, so that it can
be asked about products it never saw. It takes an hour on two cores; a run that was stopped goes on when the
same command is given again. OUT becomes a `--data` folder; afterwards

    shelfsight-cloud --data OUT evaluate --all --report report.html --out evaluation.json
    python benchmarks/certify_model.py OUT OUT/runs/grocery OUT/models/NAME CERTIFIED/NAME
    python benchmarks/bundle_model.py CERTIFIED/NAME cloud/models (and OUT/models/twin benchmarks)
"""

import subprocess
import sys
from pathlib import Path

_RECIPES = Path(__file__).parent / "recipes"
_WEIGHTS = "weights/mobilenet_v2_1.0_224_imagenet1001.weights.h5"
_GENERAL = ("--keep", "0.87", "--dimension", "448")


def make_models(shared: Path, out: Path) -> None:
    """Import the photos and train both networks into `out`."""
    if not (out / "shelfsight.db").exists():
        _run(out, "init")
        _run(out, "catalog", "import", str(shared / "data" / "grocery-store"))
    recipe = ("--recipe", str(_RECIPES / "grocery.toml"), "--weights", str(shared / _WEIGHTS))
    left_out = ("--leave-out", f"@{_RECIPES / 'left-out.txt'}")
    _run(out, "train", "--name", "grocery-held", *recipe)
    _run(out, "train", "--resume", "grocery-held", "--as", "general-held", *_GENERAL)
    _run(out, "train", "--name", "twin-held", *recipe, *left_out)
    _run(out, "train", "--name", "grocery", *recipe, "--calibrated-by", "grocery-held")
    general = (*_GENERAL, "--calibrated-by", "general-held")
    _run(out, "train", "--resume", "grocery", "--as", "general", *general)
    _run(out, "train", "--name", "twin", *recipe, *left_out, "--calibrated-by", "twin-held")


def _run(out: Path, *arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "cloud.commands", *arguments, "--data", str(out)], check=True)


if __name__ == "__main__":
    make_models(*(Path(argument) for argument in sys.argv[1:3]))
