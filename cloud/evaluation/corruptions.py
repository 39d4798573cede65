"""Spoils pictures in eight ways and three strengths, as ImageNet-C does, to see what an embedder bears.

The definitions and their severities 1, 3 and 5 are those of D. Hendrycks and T. Dietterich: Benchmarking
Neural Network Robustness to Common Corruptions and Perturbations, ICLR 2019. Theirs are for pictures of
224 x 224; where one counts in pixels, it is scaled to the size of the picture. Two are not theirs: `dark` is
their `brightness` with the sign turned, `occlusion` covers a rectangle of even gray (T. DeVries, G. Taylor:
Improved Regularization of Convolutional Neural Networks with Cutout, 2017).
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edge.errors import BadSetting
from edge.image import Picture, decode, encode_jpeg

STRENGTHS: Final = (1, 3, 5)
"""The severities of ImageNet-C that are used."""

VERSION: Final = 1
"""Counts up when a corruption comes to spoil in another way: what was embedded before is void."""

_SIZE: Final = 224  # the side of the pictures that ImageNet-C counts its pixels in
_GRAY: Final = (124, 116, 104)  # ImageNet's mean color

Plane = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Corruption:
    """A way to spoil a picture: its name, what it is like, and what it does at a severity of 1, 3 or 5."""

    name: str
    like: str
    _apply: Callable[[Picture, int, np.random.Generator], Picture]

    def __call__(self, picture: Picture, strength: int, seed: int) -> Picture:
        """Return a spoiled copy of a square picture, `uint8` (S, S, 3); the same seed gives the same one.

        Raises:
            BadSetting: a strength that is not one of `STRENGTHS`, or a picture that is not square.
        """
        if strength not in STRENGTHS:
            raise BadSetting(f"{self.name} has no strength {strength}: take one of {STRENGTHS}")
        if picture.shape[0] != picture.shape[1]:
            raise BadSetting(f"a picture of {picture.shape} is not square: bring it to its size by `fit`")
        return self._apply(picture, strength, np.random.default_rng((seed, strength)))


def _defocus(picture: Picture, strength: int, _: np.random.Generator) -> Picture:
    radius, alias_blur = {1: (3, 0.1), 3: (6, 0.5), 5: (10, 0.5)}[strength]
    return _convolved(picture, _disk(radius * len(picture) / _SIZE, alias_blur))


def _motion(picture: Picture, strength: int, rng: np.random.Generator) -> Picture:
    radius, sigma = {1: (10, 3), 3: (15, 8), 5: (20, 15)}[strength]
    scale = len(picture) / _SIZE
    return _convolved(picture, _trail(radius * scale, sigma * scale, rng.uniform(-45, 45)))


def _noise(picture: Picture, strength: int, rng: np.random.Generator) -> Picture:
    sigma = {1: 0.08, 3: 0.18, 5: 0.38}[strength]
    return _pixels(picture + rng.standard_normal(picture.shape, np.float32) * (255 * sigma))


def _jpeg(picture: Picture, strength: int, _: np.random.Generator) -> Picture:
    quality = {1: 25, 3: 15, 5: 7}[strength]
    return decode(encode_jpeg(picture, quality))


def _bright(picture: Picture, strength: int, _: np.random.Generator) -> Picture:
    return _shifted(picture, {1: 0.1, 3: 0.3, 5: 0.5}[strength])


def _dark(picture: Picture, strength: int, _: np.random.Generator) -> Picture:
    return _shifted(picture, {1: -0.1, 3: -0.3, 5: -0.5}[strength])


def _low_resolution(picture: Picture, strength: int, _: np.random.Generator) -> Picture:
    size = len(picture)
    small = max(1, int(size * {1: 0.6, 3: 0.4, 5: 0.25}[strength]))
    image = Image.fromarray(picture).resize((small, small), Image.Resampling.BOX)
    return np.asarray(image.resize((size, size), Image.Resampling.BOX))


def _occlusion(picture: Picture, strength: int, rng: np.random.Generator) -> Picture:
    size, share = len(picture), {1: 0.10, 3: 0.25, 5: 0.40}[strength]
    stretch = math.exp(rng.uniform(-math.log(2), math.log(2)))  # height over width, from 1/2 to 2
    height = min(size, round(size * math.sqrt(share * stretch)))
    width = min(size, round(size * math.sqrt(share / stretch)))
    top, left = rng.integers(0, size - height + 1), rng.integers(0, size - width + 1)
    covered = picture.copy()
    covered[top : top + height, left : left + width] = _GRAY
    return covered


CORRUPTIONS: Final[Mapping[str, Corruption]] = {
    each.name: each
    for each in (
        Corruption("defocus", "out of focus", _defocus),
        Corruption("motion", "moved while it was taken", _motion),
        Corruption("noise", "too little light for the sensor", _noise),
        Corruption("jpeg", "compressed too hard", _jpeg),
        Corruption("dark", "underexposed", _dark),
        Corruption("bright", "overexposed", _bright),
        Corruption("low_resolution", "few pixels", _low_resolution),
        Corruption("occlusion", "partly covered", _occlusion),
    )
}
"""The eight by name, in the order in which they are told of."""


def _shifted(picture: Picture, step: float) -> Picture:
    """Add `step` to the value of HSV (0..1), hue and saturation kept: all three channels scale alike."""
    value = picture.max(axis=2).astype(np.float32)
    wanted = np.clip(value + 255 * step, 0, 255)
    scale = np.divide(wanted, value, out=np.zeros_like(value), where=value > 0)
    shifted = picture * scale[:, :, np.newaxis]
    shifted[value == 0] = wanted[value == 0][:, np.newaxis]
    return _pixels(shifted)


def _pixels(levels: NDArray[np.floating]) -> Picture:
    pixels: Picture = np.clip(levels + 0.5, 0, 255).astype(np.uint8)
    return pixels


def _convolved(picture: Picture, kernel: Plane) -> Picture:
    """Convolve every channel with a kernel of odd sides, the picture mirrored beyond its edges."""
    size, half = len(picture), len(kernel) // 2
    padded = np.pad(picture.astype(np.float32), ((half, half), (half, half), (0, 0)), mode="reflect")
    side = _quick(len(padded))
    spectrum = np.fft.rfft2(padded, s=(side, side), axes=(0, 1))
    spectrum *= np.fft.rfft2(kernel, s=(side, side))[:, :, np.newaxis]
    found = np.fft.irfft2(spectrum, s=(side, side), axes=(0, 1))
    return _pixels(found[2 * half : 2 * half + size, 2 * half : 2 * half + size])


def _quick(least: int) -> int:
    """Return the next number that has no other factors than 2, 3 and 5: the FFT is quick there."""
    number = least
    while True:
        rest = number
        for factor in (2, 3, 5):
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return number
        number += 1


@lru_cache(maxsize=16)
def _disk(radius: float, alias_blur: float) -> Plane:
    """Make the aperture of a lens: an even disk, its edge softened by a small Gaussian of that deviation."""
    soft_reach = 1 if radius <= 8 else 2
    reach = math.ceil(radius) + soft_reach
    steps = np.arange(-reach, reach + 1)
    disk = (steps[:, None] ** 2 + steps[None, :] ** 2 <= radius**2).astype(np.float32)
    disk /= disk.sum()
    soft = np.exp(-(np.arange(-soft_reach, soft_reach + 1) ** 2) / (2 * alias_blur**2))
    soft /= soft.sum()
    for axis in (0, 1):
        disk = np.apply_along_axis(np.convolve, axis, disk, soft, mode="same")
    return disk.astype(np.float32)


def _trail(radius: float, sigma: float, angle: float) -> Plane:
    """Make the trail of a camera that moved in one direction: half a bell, as ImageMagick's motion blur."""
    length = 2 * math.ceil(radius) + 1
    weights = np.exp(-(np.arange(length) ** 2) / (2 * sigma**2))
    weights /= weights.sum()
    turn = math.radians(angle)
    kernel = np.zeros((2 * length - 1, 2 * length - 1), np.float32)
    for step, weight in enumerate(weights):
        row = length - 1 + round(step * math.sin(turn))
        column = length - 1 + round(step * math.cos(turn))
        kernel[row, column] += weight
    return kernel
