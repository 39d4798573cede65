"""A photo to measure with: a shelf of invented packs, with as much detail as a camera's JPEG has."""

import numpy as np
from numpy.typing import NDArray

from edge.image import Picture, encode_jpeg

WIDTH, HEIGHT = 1280, 720
_BOARDS = 3
_Canvas = NDArray[np.float32]


def draw_shelf_photo(seed: int, size: tuple[int, int] = (WIDTH, HEIGHT)) -> bytes:
    """Draw a shelf as a JPEG of about 200 kB a megapixel; the same seed and size give the same photo.

    `size` is width and height in pixels. A larger photo shows packs as many times larger, but their print,
    their patches and the sensor's noise stay as fine as its pixels: it is drawn, not enlarged, so that it
    takes as many bytes a pixel, and as long to decode, as a photo of a camera of that size.
    """
    random = np.random.default_rng(seed)
    width, height = size
    scale = height / HEIGHT
    thickness = round(14 * scale)
    canvas = _wall(random, size)
    for board in range(_BOARDS):
        floor = (board + 1) * height // _BOARDS
        left = int(random.integers(0, 30) * scale)
        while left < width - 60 * scale:
            sides = random.integers((70, 120), (150, 210)) * scale
            pack_width, pack_height = int(sides[0]), int(sides[1])
            _pack(canvas, random, (left, floor - thickness - pack_height), (pack_width, pack_height), scale)
            left += pack_width + int(random.integers(4, 26) * scale)
        canvas[floor - thickness : floor] = np.float32(70) + random.normal(0, 4, (thickness, width, 1))
    canvas *= np.linspace(1.05, 0.8, height, dtype=np.float32)[:, np.newaxis, np.newaxis]
    for row in range(height):  # one by one: the noise of a large photo at once would take a gigabyte
        canvas[row] += random.normal(0, 3.5, canvas[row].shape).astype(np.float32)
    picture: Picture = canvas.clip(0, 255).astype(np.uint8)
    return encode_jpeg(picture, quality=88)


def _wall(random: np.random.Generator, size: tuple[int, int]) -> _Canvas:
    width, height = size
    coarse = random.normal(150, 8, (-(-height // 40), -(-width // 40), 3)).astype(np.float32)
    wall: _Canvas = np.kron(coarse, np.ones((40, 40, 1), np.float32))[:height, :width]
    return wall


def _pack(
    canvas: _Canvas,
    random: np.random.Generator,
    corner: tuple[int, int],
    size: tuple[int, int],
    scale: float,
) -> None:
    """Draw a box with a rounded light, a picture of patches and lines of print."""
    (left, top), (width, height) = corner, size
    face = canvas[top : top + height, left : left + width]  # the frame may cut it off on the right
    height, width = face.shape[:2]
    color, second = random.uniform(30, 235, 3), random.uniform(30, 235, 3)
    light = 1 - 0.35 * np.abs(np.linspace(-1, 1, width)) ** 3
    face[:] = color * light[:, np.newaxis]
    grid = max(8, round(8 * scale))
    patches = random.uniform(0, 1, (grid, grid, 1)) * (second - color) + color
    block = np.ones((max(1, height // (2 * grid)), max(1, width * 2 // (3 * grid)), 1))
    picture = np.kron(patches, block)[: height // 2, : width * 2 // 3]
    face[height // 3 : height // 3 + picture.shape[0], width // 6 : width // 6 + picture.shape[1]] = picture
    for line in range(8, height // 3 - 6, 11):
        glyphs = np.kron(random.random(width // 4) < 0.6, np.ones(4))[: width * 3 // 4] > 0
        face[line : line + 6, width // 8 : width // 8 + len(glyphs)][:, glyphs] = second
