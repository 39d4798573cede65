"""Takes the sample shop's pictures: packshots on white, and photos in the shop, as JPEG bytes."""

import hashlib
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from cloud.sample.designs import Design
from cloud.sample.lens import random_shot, take
from cloud.sample.light import Light
from cloud.sample.packages import draw_package
from cloud.sample.scenes import counter, hand, shelf

PACKSHOT = 384  # pixels, each side
FRAME = (960, 720)
VIEWS: tuple[tuple[str, float, Light], ...] = (
    ("front", 0.0, Light(-0.5)),
    ("turned", 21.0, Light(-0.7, 0.6)),
    ("evening", -14.0, Light(0.75, 0.52, 0.94)),
)
"""The packshots of every product: a name, the package's yaw in degrees, the lamp."""


def random_for(seed: int, *words: str) -> np.random.Generator:
    """Return a generator of the seed and the words alone, so that any order of drawing will do."""
    digest = hashlib.sha256("|".join((str(seed), *words)).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))


def packshot(design: Design, view: str, *, seed: int = 7) -> bytes:
    """Draw one of a product's VIEWS on white, with the shadow under it."""
    yaw, light = next((yaw, light) for name, yaw, light in VIEWS if name == view)
    yaw += float(random_for(seed, design.sku, view).uniform(-4, 4))
    side = PACKSHOT
    pack = draw_package(
        design, round(side * (0.42 if design.brand.form == "slab" else 0.86)), yaw=yaw, light=light
    )
    pack.thumbnail((round(side * 0.92), round(side * 0.92)), Image.Resampling.LANCZOS)
    image = Image.new("RGB", (side, side), (255, 255, 255))
    foot = (side + pack.height) / 2
    half = pack.width * 0.5
    small = Image.new("L", (side // 4, side // 4))  # a shadow is soft: it needs few pixels
    spread = (side / 2 - half, foot - half * 0.16, side / 2 + half * 1.06, foot + half * 0.1)
    ImageDraw.Draw(small).ellipse([value / 4 for value in spread], fill=120)
    shade = small.filter(ImageFilter.GaussianBlur(1.8)).resize((side, side), Image.Resampling.BILINEAR)
    image.paste((70, 70, 76), (0, 0), shade)
    image.paste(pack, ((side - pack.width) // 2, round(foot - pack.height)), pack)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=86)
    return out.getvalue()


def in_store_photo(subject: Design, others: Sequence[Design], name: str, *, seed: int = 7) -> bytes:
    """Photograph a product in the shop; `name` and `seed` decide where and how, `others` stand around it."""
    rng = random_for(seed, subject.sku, name)
    scene = (shelf, hand, counter)[int(rng.choice(3, p=(0.5, 0.28, 0.22)))]
    return take(scene(subject, others, rng), random_shot(rng), FRAME, rng)
