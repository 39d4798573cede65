"""Try in a process of its own what can kill one: compiled code made for another CPU, a runtime that fails.

Run as `python -m devices.probe annoy` or `python -m devices.probe release FOLDER VARIANT THREADS`; prints one
line of JSON. The doctor starts it, and reads the manner of its death.
"""

import hashlib
import json
import sys
import tempfile
from pathlib import Path

import numpy as np

from edge.errors import IndexBroken, ShelfsightError
from edge.index import IndexRecord, SearchIndex, build_annoy
from edge.matcher import Matcher, check_golden
from edge.products import Product
from edge.recipe import IndexRecipe
from edge.segments import Content, SegmentStack, encode_base, quantize_rows

ROWS, DIMENSION = 2000, 16


def probe_annoy() -> str:
    """Build a small index and find every hundredth of its rows again."""
    vectors = np.random.default_rng(7).normal(size=(ROWS, DIMENSION)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    skus = [f"{row:05}" for row in range(ROWS)]
    scale = 1 / 127
    content = Content(
        space="0" * 16,
        dimension=DIMENSION,
        scale=scale,
        products={sku: Product(sku) for sku in skus},
        rows={sku: quantize_rows(vectors[row : row + 1], scale) for row, sku in enumerate(skus)},
    )
    recipe = IndexRecipe(trees=10, search_k=1000)
    with tempfile.TemporaryDirectory(prefix="shelfsight-") as folder:
        segment, index = Path(folder) / "base", Path(folder) / "index.ann"
        data = encode_base(content)
        segment.write_bytes(data)
        stack = SegmentStack.open([(segment, hashlib.sha256(data).hexdigest())])
        record = IndexRecord(build_annoy(stack, index, recipe), method="annoy")
        search = SearchIndex.open(stack, index, record, recipe)
        for row in range(0, ROWS, 100):
            if search.search(vectors[row], 1)[0].sku != skus[row]:
                raise IndexBroken(f"annoy does not find row {row} of its own index: install annoy again")
    return f"built an index of {ROWS} vectors and found them again"


def probe_release(folder: Path, variant: str | None, threads: int) -> str:
    """Open a release and answer its golden photos."""
    matcher = Matcher.open(folder, variant=variant, threads=threads)
    check_golden(matcher, folder)
    count = len(matcher.release.golden)
    golden = "1 golden photo" if count == 1 else f"{count} golden photos"
    return f"release {matcher.release.version}: {golden} answered by {matcher.embedder.runtime}"


def main(arguments: list[str]) -> None:
    """Run the probe named by the first argument."""
    try:
        if arguments[0] == "annoy":
            found = probe_annoy()
        else:
            found = probe_release(Path(arguments[1]), arguments[2] or None, int(arguments[3]))
        answer = {"found": found}
    except ShelfsightError as error:
        answer = {"error": str(error), "code": error.code}
    sys.stdout.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
