"""MediaPipe's `ImageEmbedder` with the same network. Asked line by line: the path of a photo.

It refuses a network with a second output, so it is given one without; what that computes is the same.
"""

import json
import sys
import time
from pathlib import Path

import mediapipe
import numpy as np
from mediapipe.tasks import python
from mediapipe.tasks.python import vision


def main() -> None:
    """Serve until the input ends."""
    options = vision.ImageEmbedderOptions(
        base_options=python.BaseOptions(model_asset_path=sys.argv[1]), l2_normalize=True
    )
    embedder = vision.ImageEmbedder.create_from_options(options)
    print(json.dumps({"seconds": 0}), flush=True)
    for line in sys.stdin:
        path = Path(line.strip())
        began = time.perf_counter()
        image = mediapipe.Image.create_from_file(str(path))
        found = np.array(embedder.embed(image).embeddings[0].embedding, np.float32)
        print(json.dumps({"seconds": time.perf_counter() - began, "length": len(found)}), flush=True)


main()
