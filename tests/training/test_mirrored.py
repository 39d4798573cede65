"""Training mirrored over several devices; two logical CPUs stand where a machine has two GPUs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.training.conftest import TOY, ToyCatalog

pytestmark = pytest.mark.training

ROOT = Path(__file__).resolve().parents[2]
# A process of its own: TensorFlow divides a CPU only before it is first used, and would stay divided.
SCRIPT = """
import sys
from pathlib import Path
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from cloud.training.runtime import prepare
from tests.training.conftest import TOY
prepare(TOY.seed)
from cloud.training.data import LabeledPhoto, choose_examples
from cloud.training.loop import train_network
from cloud.training.run import RunFolder
from cloud.training.runtime import Machine
photos = [LabeledPhoto(Path(row[0]), *row[1:]) for row in __import__("json").loads(sys.argv[2])]
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
assert strategy.num_replicas_in_sync == 2
machine = Machine(("CPU:0", "CPU:1"), "mixed_bfloat16", strategy)
trained = train_network(
    choose_examples(photos, TOY), TOY, RunFolder(Path(sys.argv[1])), machine, lambda *_: None
)
weights = trained.network.embedder.get_weights()
assert all(weight.dtype == "float32" for weight in weights), "a finished network is float32"
"""


def test_a_mirrored_training_in_mixed_precision_runs_to_its_end_with_a_finite_loss(
    toy_catalog: ToyCatalog, tmp_path: Path
) -> None:
    photos = [
        (str(photo.path), photo.sku, photo.category, photo.kind, photo.split) for photo in toy_catalog.photos
    ]
    finished = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "run"), json.dumps(photos)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"},
    )
    assert finished.returncode == 0, finished.stderr[-2000:]
    metrics = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert len(metrics) == TOY.epochs
    assert all(np.isfinite(line["loss"]) for line in metrics)
