"""The script that a developer would write: Pillow, the runtime, Annoy with its defaults."""

import io
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from annoy import AnnoyIndex
from numpy.typing import NDArray
from PIL import Image

TREES = 10


class PlainScript:
    """JPEG bytes to the five nearest rows."""

    def __init__(self, model: Path, vectors: NDArray[np.float32]) -> None:
        self.interpreter = Interpreter(model_path=str(model), num_threads=1)
        self.interpreter.allocate_tensors()
        self.input = self.interpreter.get_input_details()[0]
        self.output = next(each for each in self.interpreter.get_output_details() if len(each["shape"]) == 2)
        self.side = int(self.input["shape"][1])
        self.index = AnnoyIndex(vectors.shape[1], "angular")
        for row, vector in enumerate(vectors):
            self.index.add_item(row, vector)
        self.index.build(TREES)

    def answer(self, photo: bytes) -> list[int]:
        """Answer a photo."""
        image = Image.open(io.BytesIO(photo)).convert("RGB").resize((self.side, self.side))
        self.interpreter.set_tensor(self.input["index"], np.asarray(image)[np.newaxis])
        self.interpreter.invoke()
        vector = self.interpreter.get_tensor(self.output["index"])[0]
        found: list[int] = self.index.get_nns_by_vector(vector, 5)
        return found
