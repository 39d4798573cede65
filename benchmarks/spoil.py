"""Spoils a photo in grades, as a hurried hand, a poor lens or a bad light would, for `quality_gate.py`.

Unlike the corruptions of `cloud.evaluation`, which are those of a published benchmark, these go in fine steps
from nothing to hopeless: a threshold has to be found between them. All lengths are shares of the photo's
shorter side. What comes out went through a sensor (noise of 2.5 levels) and a JPEG encoder (quality 85).
"""

import math
from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edge.image import Picture, encode_jpeg

Floats = NDArray[np.float32]
Random = np.random.Generator

_GAMMA = 2.2


def photograph(levels: Floats, rng: Random) -> bytes:
    """Take a picture of float levels (height, width, 3), 0 to 255, with a sensor's noise, as JPEG bytes."""
    noisy = levels + rng.normal(0, 2.5, levels.shape)
    return encode_jpeg(np.clip(noisy + 0.5, 0, 255).astype(np.uint8), 85)


def defocus(picture: Picture, radius: float, _: Random) -> Floats:
    """Put the picture out of focus: every point becomes a disk."""
    pixels = radius * min(picture.shape[:2])
    reach = math.ceil(pixels)
    down, across = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    return _convolved(picture, np.clip(pixels + 0.5 - np.hypot(across, down), 0, 1).astype(np.float32))


def motion(picture: Picture, way: float, rng: Random) -> Floats:
    """Move the camera straight while the shutter is open, in any direction."""
    pixels, angle = way * min(picture.shape[:2]), rng.uniform(0, np.pi)
    reach = math.ceil(pixels / 2) + 1
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1), np.float32)
    for step in np.linspace(-pixels / 2, pixels / 2, int(8 * pixels) + 1):
        down, across = reach + step * math.sin(angle), reach + step * math.cos(angle)
        top, left = int(down), int(across)
        for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):
            weight = (1 - abs(down - top - row)) * (1 - abs(across - left - column))
            kernel[top + row, left + column] += weight
    return _convolved(picture, kernel)


def exposure(picture: Picture, stops: float, _: Random) -> Floats:
    """Take so many stops less light (or more, where negative); what is over the brightest level is lost."""
    return np.asarray(255 * ((picture / 255.0) ** _GAMMA * 2.0**-stops) ** (1 / _GAMMA), np.float32)


def brighter(picture: Picture, stops: float, rng: Random) -> Floats:
    """Take so many stops more light."""
    return exposure(picture, -stops, rng)


def glare(picture: Picture, radius: float, rng: Random) -> Floats:
    """Let a light shine on the thing: a spot in the middle parts of the picture that fades out softly."""
    height, width = picture.shape[:2]
    down, across = np.mgrid[0:height, 0:width].astype(np.float32)
    middle = rng.uniform(0.3, 0.7, 2) * (height, width)
    away = np.hypot(down - middle[0], across - middle[1]) / (radius * min(height, width))
    return np.asarray(picture + 330 * np.exp(-(away[:, :, np.newaxis] ** 2)) + 10, np.float32)


def fog(picture: Picture, share: float, _: Random) -> Floats:
    """Lay white over the whole picture, as a fogged lens or a light beside it does."""
    return np.asarray(picture * (1 - share) + 255 * share, np.float32)


def far(picture: Picture, share: float, rng: Random) -> Floats:
    """Show the photo so much smaller before a plain wall that is unevenly lit."""
    height, width = picture.shape[:2]
    color = rng.uniform(90, 230) * np.array([1, rng.uniform(0.93, 1), rng.uniform(0.85, 1)])
    down, across = np.mgrid[0:height, 0:width]
    angle = rng.uniform(0, 2 * np.pi)
    light = 1 + 0.12 * ((across / width - 0.5) * np.cos(angle) + (down / height - 0.5) * np.sin(angle))
    wall = (light[:, :, np.newaxis] * color).astype(np.float32)
    size = (max(8, int(width * share)), max(8, int(height * share)))
    top, left = (int(rng.uniform(0.25, 0.75) * room) for room in (height - size[1], width - size[0]))
    wall[top : top + size[1], left : left + size[0]] = Image.fromarray(picture).resize(
        size, Image.Resampling.LANCZOS
    )
    return wall


LADDERS: Final[Mapping[str, tuple[Callable[[Picture, float, Random], Floats], tuple[float, ...]]]] = {
    "defocus": (defocus, (0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.06, 0.1)),
    "motion": (motion, (0.02, 0.03, 0.04, 0.06, 0.08, 0.12, 0.18)),
    "dark": (exposure, (2, 3, 4, 5, 6, 7, 8)),
    "bright": (brighter, (1, 2, 2.5, 3, 4, 5)),
    "glare": (glare, (0.1, 0.2, 0.3, 0.35, 0.4, 0.5, 0.7)),
    "fog": (fog, (0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)),
    "far": (far, (0.6, 0.5, 0.45, 0.4, 0.35, 0.28, 0.2, 0.1)),
}
"""Each way to spoil a photo, with its steps from mild to hopeless."""


def _convolved(picture: Picture, kernel: Floats) -> Floats:
    """Convolve every channel with a kernel of odd sides, brought to sum 1; edges are repeated beyond."""
    reach = len(kernel) // 2
    padded = np.pad(picture.astype(np.float32), ((reach, reach), (reach, reach), (0, 0)), mode="edge")
    height, width = padded.shape[:2]
    spectrum = np.fft.rfft2(padded, axes=(0, 1))
    spectrum *= np.fft.rfft2(kernel / kernel.sum(), s=(height, width))[:, :, np.newaxis]
    found = np.fft.irfft2(spectrum, s=(height, width), axes=(0, 1))
    return np.asarray(found[2 * reach :, 2 * reach :], np.float32)
