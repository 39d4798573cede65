"""A photo to measure with: a shelf of invented packs, with as much detail as a shop camera's JPEG has."""

import numpy as np
from numpy.typing import NDArray

from edge.image import Picture, encode_jpeg

WIDTH, HEIGHT = 1280, 720
_BOARDS = 3
_Canvas = NDArray[np.float32]


def draw_shelf_photo(seed: int) -> bytes:
    """Draw a shelf as a 1280 x 720 JPEG of about 190 kB; the same seed gives the same photo."""
    random = np.random.default_rng(seed)
    canvas = _wall(random)
    for board in range(_BOARDS):
        floor = (board + 1) * HEIGHT // _BOARDS
        left = int(random.integers(0, 30))
        while left < WIDTH - 60:
            width, height = (int(side) for side in random.integers((70, 120), (150, 210)))
            _pack(canvas, random, (left, floor - 14 - height), (width, height))
            left += width + int(random.integers(4, 26))
        canvas[floor - 14 : floor] = np.float32(70) + random.normal(0, 4, (14, WIDTH, 1))
    canvas *= np.linspace(1.05, 0.8, HEIGHT, dtype=np.float32)[:, np.newaxis, np.newaxis]
    canvas += random.normal(0, 3.5, canvas.shape).astype(np.float32)  # the sensor's noise
    picture: Picture = canvas.clip(0, 255).astype(np.uint8)
    return encode_jpeg(picture, quality=88)


def _wall(random: np.random.Generator) -> _Canvas:
    coarse = random.normal(150, 8, (HEIGHT // 40, WIDTH // 40, 3))
    wall: _Canvas = np.kron(coarse, np.ones((40, 40, 1))).astype(np.float32)
    return wall


def _pack(
    canvas: _Canvas, random: np.random.Generator, corner: tuple[int, int], size: tuple[int, int]
) -> None:
    """Draw a box with a rounded light, a picture of patches and lines of print."""
    (left, top), (width, height) = corner, size
    face = canvas[top : top + height, left : left + width]  # the frame may cut it off on the right
    height, width = face.shape[:2]
    color, second = random.uniform(30, 235, 3), random.uniform(30, 235, 3)
    light = 1 - 0.35 * np.abs(np.linspace(-1, 1, width)) ** 3
    face[:] = color * light[:, np.newaxis]
    patches = random.uniform(0, 1, (8, 8, 1)) * (second - color) + color
    picture = np.kron(patches, np.ones((height // 16, max(1, width // 12), 1)))[
        : height // 2, : width * 2 // 3
    ]
    face[height // 3 : height // 3 + picture.shape[0], width // 6 : width // 6 + picture.shape[1]] = picture
    for line in range(8, height // 3 - 6, 11):
        glyphs = np.kron(random.random(width // 4) < 0.6, np.ones(4))[: width * 3 // 4] > 0
        face[line : line + 6, width // 8 : width // 8 + len(glyphs)][:, glyphs] = second
