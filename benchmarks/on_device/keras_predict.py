"""TensorFlow's own way: Keras `predict` on a photo. Asked line by line: the path of a photo."""

import io
import json
import os
import sys
import time
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ.setdefault("OMP_NUM_THREADS", "1")

import keras
import numpy as np
from PIL import Image


def main() -> None:
    """Serve until the input ends; with a second argument, answer one photo among vectors and stop."""
    model = keras.models.load_model(sys.argv[1], compile=False)
    size = int(model.input_shape[1])

    def embed(photo: bytes) -> np.ndarray:
        image = Image.open(io.BytesIO(photo)).convert("RGB").resize((size, size))
        pixels = np.asarray(image, np.float32)[np.newaxis] / 127.5 - 1
        outputs = model.predict(pixels, verbose=0)
        return next(each for each in outputs.values() if each.ndim == 2)[0]

    if len(sys.argv) > 2:
        from annoy import AnnoyIndex

        photo, index_path = sys.argv[2:]
        vector = embed(Path(photo).read_bytes())
        index = AnnoyIndex(len(vector), "angular")
        index.load(index_path)
        index.get_nns_by_vector(vector, 5)
        status = Path("/proc/self/status").read_text()
        (kilobytes,) = (int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
        print(json.dumps({"rss_mb": kilobytes * 1024 / 1e6}))
        return
    print(json.dumps({"seconds": 0}), flush=True)
    for line in sys.stdin:
        photo_bytes = Path(line.strip()).read_bytes()
        began = time.perf_counter()
        embed(photo_bytes)
        print(json.dumps({"seconds": time.perf_counter() - began}), flush=True)


main()
