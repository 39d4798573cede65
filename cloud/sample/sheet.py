"""The sheet that a label is printed on: where brand, flavor and picture go, and how they are set."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from PIL import Image, ImageDraw

from cloud.sample.designs import Design
from cloud.sample.ink import Color, arched, fitted, lettering, paste, readable_on
from cloud.sample.motifs import motif

NATURAL: Mapping[str, Color] = {
    "beans": (112, 66, 38), "wheat": (216, 166, 76), "daisy": (250, 250, 246), "honeycomb": (232, 158, 36),
    "chips": (232, 176, 72), "olives": (112, 128, 56), "corn": (246, 204, 60), "nuts": (164, 102, 54),
    "lavender": (132, 102, 194), "leaves": (78, 152, 78), "chili": (208, 34, 30), "tomato": (212, 50, 38),
    "tubes": (226, 180, 92), "spirals": (224, 176, 88), "strands": (230, 186, 98), "chocolate": (92, 54, 34),
}  # fmt: skip
Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels


@dataclass(slots=True)
class Sheet:
    """An RGB sheet to print on, with places for the brand, the flavor and the picture."""

    image: Image.Image
    design: Design

    @property
    def wide(self) -> bool:
        """Tell whether the sheet lies, so that text goes left and the picture right."""
        return self.image.width > 1.25 * self.image.height

    @property
    def unit(self) -> float:
        """The shorter side in pixels: the measure of every size on the sheet."""
        return min(self.image.width, self.image.height * 0.9)

    def place(self, upright: Box, lying: Box) -> Box:
        """Return a box in pixels from fractions of the sheet, by how the sheet stands."""
        left, top, right, bottom = lying if self.wide else upright
        width, height = self.image.size
        return left * width, top * height, right * width, bottom * height

    @property
    def brand_box(self) -> Box:
        """Where the brand's name goes."""
        return self.place((0.08, 0.09, 0.92, 0.27), (0.05, 0.14, 0.60, 0.48))

    @property
    def name_box(self) -> Box:
        """Where the flavor's name goes."""
        return self.place((0.10, 0.30, 0.90, 0.42), (0.06, 0.55, 0.58, 0.78))

    @property
    def picture_box(self) -> Box:
        """Where the illustration goes."""
        return self.place((0.08, 0.45, 0.92, 0.88), (0.62, 0.08, 0.97, 0.92))

    def brand(
        self, ink: Color, *, outline: Color | None = None, arch: float = 0.0, box: Box | None = None
    ) -> None:
        """Set the brand's name in its own lettering."""
        style = self.design.brand
        left, top, right, bottom = box or self.brand_box
        height = min((bottom - top) * 0.72, self.unit * 0.19)
        image = lettering(
            style.name,
            height,
            ink,
            weight=style.weight,
            slant=style.slant,
            squeeze=style.squeeze,
            outline=outline,
        )
        scale = min(1.0, (right - left) / image.width)
        image = image.resize(
            (max(1, round(image.width * scale)), max(1, round(image.height * scale))),
            Image.Resampling.LANCZOS,
        )
        if arch:
            image = arched(image, arch * image.height)
        paste(self.image, image, ((left + right) / 2, (top + bottom) / 2))

    def name(self, ink: Color, *, box: Box | None = None, weight: float = 0.03) -> None:
        """Set the flavor's name, and under it what the thing is."""
        left, top, right, bottom = box or self.name_box
        middle, width = (left + right) / 2, right - left
        size = min((bottom - top) * 0.42, self.unit * 0.085)
        paste(
            self.image,
            fitted(self.design.flavor.name, size, ink, width, weight=weight),
            (middle, top + (bottom - top) * 0.30),
        )
        thing = fitted(self.design.brand.thing.upper(), size * 0.55, ink, width * 0.8, tracking=0.35)
        paste(self.image, thing, (middle, top + (bottom - top) * 0.80))

    def picture(self, *, box: Box | None = None, fill: float = 1.0) -> None:
        """Set the flavor's illustration as large as its box allows, times `fill`."""
        left, top, right, bottom = box or self.picture_box
        size = min(right - left, bottom - top) * fill
        tile = motif(self.design.flavor.motif, self.subject, size)
        paste(self.image, tile, ((left + right) / 2, (top + bottom) / 2))

    @property
    def subject(self) -> Color:
        """The illustration's own color: nature's where it has one, else the flavor's."""
        return NATURAL.get(self.design.flavor.motif, self.design.flavor.color)

    def foot(self, ink: Color) -> None:
        """Set the content and the claim along the lower edge."""
        brand = self.design.brand
        width, height = self.image.size
        size = self.unit * 0.035
        content = fitted(brand.content, size * 1.15, ink, width * 0.3, weight=0.04)
        paste(self.image, content, (width * 0.95 - content.width / 2, height * 0.945))
        claim = fitted(brand.claim, size * 0.95, ink, width * 0.5)
        paste(self.image, claim, (width * 0.05 + claim.width / 2, height * 0.945))

    def seal(self, center: tuple[float, float], color: Color) -> None:
        """Print a round seal with the brand's claim."""
        size = self.unit * 0.2
        x, y = center[0] * self.image.width, center[1] * self.image.height
        pen = ImageDraw.Draw(self.image)
        points = [
            (
                x + size * (0.5 if k % 2 else 0.44) * math.cos(k * math.pi / 20),
                y + size * (0.5 if k % 2 else 0.44) * math.sin(k * math.pi / 20),
            )
            for k in range(40)
        ]
        pen.polygon(points, fill=color)
        pen.ellipse(
            (x - size * 0.38, y - size * 0.38, x + size * 0.38, y + size * 0.38),
            outline=readable_on(color),
            width=2,
        )
        words = self.design.brand.claim.split()
        lines = [" ".join(words[: (len(words) + 1) // 2]), " ".join(words[(len(words) + 1) // 2 :])]
        for row, line in enumerate(text for text in lines if text):
            paste(
                self.image,
                fitted(line, size * 0.13, readable_on(color), size * 0.66, weight=0.05),
                (x, y + (row - 0.5) * size * 0.25),
            )
