"""A catalog of given vectors as a device holds it: one base segment on the disk, one product a row.

One product a row lets the rows that a search names be compared with the true nearest rows one by one.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.products import Product
from edge.segments import Content, SegmentStack, encode_base, quantize_rows


def write_catalog(rows: NDArray[np.float32], folder: Path) -> SegmentStack:
    """Write the rows, float32 (n, D) of unit length, as a base segment into `folder`, and open it.

    Rows that become equal int8 rows of one product would be one: a product a row keeps their number.
    """
    scale = 1.1 * float(np.abs(rows).max()) / 127
    names = [f"{number:08}" for number in range(len(rows))]
    content = Content(
        space="0" * 16,
        dimension=rows.shape[1],
        scale=scale,
        products={name: Product(name) for name in names},
        rows={name: quantize_rows(rows[n : n + 1], scale) for n, name in enumerate(names)},
    )
    data = encode_base(content)
    sha256 = hashlib.sha256(data).hexdigest()
    (folder / "base").write_bytes(data)
    (folder / "base.json").write_text(json.dumps(sha256))
    return open_catalog(folder)


def prepare_folder(rows: NDArray[np.float32], queries: NDArray[np.float32], folder: Path) -> None:
    """Write into `folder` what `vector_search.py` wants: the rows as a release has them, and the truth."""
    (folder / "shelfsight").mkdir(parents=True, exist_ok=True)
    stack = write_catalog(rows, folder / "shelfsight")
    held = stack.vectors(np.arange(stack.row_count))
    truth = [_nearest(queries[start : start + 50] @ held.T) for start in range(0, len(queries), 50)]
    np.save(folder / "rows.npy", held)
    np.save(folder / "queries.npy", queries)
    np.save(folder / "truth.npy", np.concatenate(truth))


def _nearest(similarities: NDArray[np.float32]) -> NDArray[np.intp]:
    """Name the ten most similar rows of each query, the most similar first."""
    some = np.argpartition(similarities, -10, axis=1)[:, -10:]
    order = np.argsort(-np.take_along_axis(similarities, some, axis=1), axis=1)
    return np.take_along_axis(some, order, axis=1)


def open_catalog(folder: Path) -> SegmentStack:
    """Open what `write_catalog` wrote."""
    sha256: str = json.loads((folder / "base.json").read_text())
    return SegmentStack.open([(folder / "base", sha256)])
