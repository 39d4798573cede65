"""Flat artwork: what a printer would get for the front of a package, one function per way to lay it out."""

import math
from collections.abc import Callable, Mapping

from PIL import Image, ImageDraw

from cloud.sample.designs import Design
from cloud.sample.ink import (
    WHITE,
    Color,
    darker,
    glow,
    lighter,
    luminance,
    mix,
    readable_on,
    vertical_gradient,
)
from cloud.sample.patterns import print_pattern
from cloud.sample.sheet import Sheet


def _curve(sheet: Sheet, level: float, bow: float, color: Color, *, below: bool = True) -> None:
    """Fill the sheet below (or above) a bowed line at `level` of its height."""
    width, height = sheet.image.size
    points = [(x / 40 * width, (level + bow * (1 - (x / 20 - 1) ** 2)) * height) for x in range(41)]
    edge = height if below else 0
    ImageDraw.Draw(sheet.image).polygon([*points, (width, edge), (0, edge)], fill=color)


def hero(sheet: Sheet) -> None:
    """Print a glow of the flavor's color around a large picture, the brand on a paper wave above."""
    design, (width, height) = sheet.design, sheet.image.size
    color = design.flavor.color
    center = (0.8, 0.5) if sheet.wide else (0.5, 0.68)
    sheet.image.paste(glow((width, height), lighter(color, 0.72), darker(color, 0.12), center))
    if sheet.wide:
        ImageDraw.Draw(sheet.image).polygon(
            [(0, 0), (width * 0.66, 0), (width * 0.56, height), (0, height)], fill=design.brand.paper
        )
    else:
        _curve(sheet, 0.36, 0.07, darker(color, 0.3), below=False)
        _curve(sheet, 0.345, 0.07, design.brand.paper, below=False)
    sheet.brand(design.brand.ink)
    sheet.name(
        darker(color, 0.35) if luminance(color) < 0.75 else design.brand.ink,
        box=sheet.place((0.1, 0.25, 0.9, 0.38), (0.06, 0.55, 0.55, 0.78)),
    )
    sheet.picture(fill=1.04)
    sheet.foot(readable_on(darker(color, 0.12)) if not sheet.wide else design.brand.ink)


def badge(sheet: Sheet) -> None:
    """Print a pattern in the flavor's color with an oval plate for the brand, the picture under it."""
    design, (width, height) = sheet.design, sheet.image.size
    color = design.flavor.color
    sheet.image.paste(color, (0, 0, width, height))
    print_pattern(sheet.image, design.brand.pattern, lighter(color, 0.3), unit=sheet.unit * 0.13)
    pen = ImageDraw.Draw(sheet.image)
    left, top, right, bottom = sheet.place((0.04, 0.05, 0.96, 0.47), (0.03, 0.08, 0.62, 0.92))
    for inset, tone in (
        (0.0, design.brand.ink),
        (0.012, design.brand.paper),
        (0.03, design.brand.ink),
        (0.036, design.brand.paper),
    ):
        gap = inset * sheet.unit
        pen.ellipse((left + gap, top + gap, right - gap, bottom - gap), fill=tone)
    span = bottom - top
    sheet.brand(
        design.brand.ink,
        arch=0.35,
        box=(left + 0.1 * width, top + span * 0.12, right - 0.1 * width, top + span * 0.62),
    )
    sheet.name(
        darker(color, 0.3),
        box=(left + 0.14 * width, top + span * 0.58, right - 0.14 * width, top + span * 0.9),
    )
    box = sheet.place((0.12, 0.5, 0.88, 0.9), (0.64, 0.08, 0.97, 0.92))
    size = min(box[2] - box[0], box[3] - box[1]) * 0.56
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    pen.ellipse((x - size, y - size, x + size, y + size), fill=lighter(design.brand.paper, 0.4))
    sheet.picture(box=box, fill=0.92)
    sheet.foot(readable_on(color))


def split(sheet: Sheet) -> None:
    """Print quiet paper above and the flavor's color below a curve, the picture on the border."""
    design, (width, height) = sheet.design, sheet.image.size
    color = design.flavor.color
    sheet.image.paste(design.brand.paper, (0, 0, width, height))
    if sheet.wide:
        ImageDraw.Draw(sheet.image).polygon(
            [(width * 0.7, 0), (width, 0), (width, height), (width * 0.6, height)], fill=color
        )
    else:
        _curve(sheet, 0.62, -0.09, color)
        lower = sheet.image.crop((0, round(height * 0.72), width, height))
        print_pattern(lower, design.brand.pattern, darker(color, 0.14), unit=sheet.unit * 0.09)
        sheet.image.paste(lower, (0, round(height * 0.72)))
    sheet.brand(design.brand.ink)
    sheet.name(darker(color, 0.2) if luminance(color) < 0.7 else design.brand.ink)
    sheet.picture(fill=0.98)
    sheet.foot(readable_on(color) if not sheet.wide else design.brand.ink)


def minimal(sheet: Sheet) -> None:
    """Print calm paper, a disc of the flavor's color with the picture, and much room."""
    design, (width, height) = sheet.design, sheet.image.size
    color, ink = design.flavor.color, design.brand.ink
    sheet.image.paste(
        vertical_gradient(
            (width, height), lighter(design.brand.paper, 0.06), darker(design.brand.paper, 0.05)
        )
    )
    box = sheet.place((0.1, 0.42, 0.9, 0.86), (0.62, 0.08, 0.96, 0.92))
    size = min(box[2] - box[0], box[3] - box[1]) / 2
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    pen = ImageDraw.Draw(sheet.image)
    pen.ellipse(
        (x - size, y - size, x + size, y + size),
        fill=lighter(color, 0.62) if luminance(color) < 0.55 else darker(color, 0.45),
    )
    sheet.picture(box=box, fill=0.78)
    sheet.brand(ink)
    left, _, right, bottom = sheet.brand_box
    pen.line(
        (left + (right - left) * 0.3, bottom + 4, right - (right - left) * 0.3, bottom + 4),
        fill=color,
        width=max(3, round(sheet.unit * 0.014)),
    )
    sheet.name(mix(color, WHITE, 0.25) if luminance(design.brand.paper) < 0.4 else darker(color, 0.25))
    pen.rectangle((0, height * 0.975, width, height), fill=color)
    sheet.foot(ink)


def vintage(sheet: Sheet) -> None:
    """Print a framed label with an arched brand and a ribbon for the flavor."""
    design, (width, height) = sheet.design, sheet.image.size
    color, ink = design.flavor.color, design.brand.ink
    sheet.image.paste(color, (0, 0, width, height))
    print_pattern(sheet.image, design.brand.pattern, darker(color, 0.25), unit=sheet.unit * 0.1)
    pen = ImageDraw.Draw(sheet.image)
    for inset, tone in ((0.045, ink), (0.055, design.brand.paper), (0.085, ink), (0.09, design.brand.paper)):
        gap = inset * sheet.unit
        pen.rounded_rectangle((gap, gap, width - gap, height - gap), radius=sheet.unit * 0.07, fill=tone)
    corner = sheet.unit * 0.13
    for x in (corner, width - corner):
        for y in (corner, height - corner):
            pen.regular_polygon((x, y, sheet.unit * 0.025), 4, fill=color)
    sheet.brand(ink, arch=0.5, box=sheet.place((0.14, 0.1, 0.86, 0.3), (0.08, 0.14, 0.6, 0.48)))
    sheet.picture(box=sheet.place((0.1, 0.32, 0.9, 0.7), (0.62, 0.14, 0.92, 0.86)))
    left, top, right, bottom = sheet.place((0.1, 0.72, 0.9, 0.88), (0.08, 0.54, 0.6, 0.84))
    notch = sheet.unit * 0.03
    pen.polygon(
        [
            (left, top),
            (right, top),
            (right - notch, (top + bottom) / 2),
            (right, bottom),
            (left, bottom),
            (left + notch, (top + bottom) / 2),
        ],
        fill=darker(color, 0.1),
    )
    sheet.name(
        readable_on(darker(color, 0.1)),
        box=(left + notch * 2, top + notch * 0.4, right - notch * 2, bottom - notch * 0.4),
    )


def stripes(sheet: Sheet) -> None:
    """Print upright stripes with a plate for the words."""
    design, (width, height) = sheet.design, sheet.image.size
    color = design.flavor.color
    pen = ImageDraw.Draw(sheet.image)
    count = 9 if not sheet.wide else 15
    for step in range(count):
        tone = color if step % 2 == 0 else design.brand.paper
        pen.rectangle((step * width / count, 0, (step + 1) * width / count, height), fill=tone)
    left, top, right, bottom = sheet.place((0.07, 0.07, 0.93, 0.46), (0.04, 0.12, 0.62, 0.88))
    pen.rounded_rectangle((left, top, right, bottom), radius=sheet.unit * 0.05, fill=design.brand.ink)
    gap = sheet.unit * 0.015
    pen.rounded_rectangle(
        (left + gap, top + gap, right - gap, bottom - gap),
        radius=sheet.unit * 0.04,
        outline=design.brand.paper,
        width=3,
    )
    sheet.brand(design.brand.paper, box=(left + 3 * gap, top, right - 3 * gap, top + (bottom - top) * 0.58))
    sheet.name(
        lighter(color, 0.5), box=(left + 3 * gap, top + (bottom - top) * 0.56, right - 3 * gap, bottom - gap)
    )
    box = sheet.place((0.07, 0.49, 0.93, 0.91), (0.64, 0.06, 0.98, 0.94))
    size = min(box[2] - box[0], box[3] - box[1]) * 0.52
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    pen.ellipse(
        (x - size, y - size, x + size, y + size), fill=design.brand.paper, outline=design.brand.ink, width=4
    )
    sheet.picture(box=box, fill=0.84)
    sheet.foot(design.brand.ink)


def diagonal(sheet: Sheet) -> None:
    """Print a dark ground crossed by a slanted band, with loud lettering."""
    design, (width, height) = sheet.design, sheet.image.size
    color, ink = design.flavor.color, design.brand.ink
    sheet.image.paste(vertical_gradient((width, height), color, darker(color, 0.35)))
    print_pattern(
        sheet.image, design.brand.pattern, lighter(color, 0.25), unit=sheet.unit * 0.16, strength=0.55
    )
    pen = ImageDraw.Draw(sheet.image)
    if sheet.wide:
        pen.polygon([(0, 0), (width * 0.62, 0), (width * 0.48, height), (0, height)], fill=ink)
        pen.polygon(
            [(width * 0.62, 0), (width * 0.65, 0), (width * 0.51, height), (width * 0.48, height)],
            fill=lighter(color, 0.6),
        )
    else:
        for low, high, tone in ((0.08, 0.42, lighter(color, 0.6)), (0.10, 0.40, ink)):
            pen.polygon(
                [
                    (0, (low + 0.05) * height),
                    (width, (low - 0.04) * height),
                    (width, (high - 0.04) * height),
                    (0, (high + 0.05) * height),
                ],
                fill=tone,
            )
    sheet.brand(design.brand.paper, box=sheet.place((0.07, 0.115, 0.93, 0.285), (0.04, 0.14, 0.54, 0.5)))
    sheet.name(lighter(color, 0.55), box=sheet.place((0.1, 0.29, 0.9, 0.40), (0.05, 0.52, 0.5, 0.8)))
    box = sheet.place((0.06, 0.43, 0.94, 0.9), (0.6, 0.06, 0.98, 0.94))
    size = min(box[2] - box[0], box[3] - box[1]) * 0.5
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    pen.ellipse((x - size, y - size, x + size, y + size), fill=lighter(color, 0.75))
    sheet.picture(box=box, fill=0.86)
    sheet.foot(readable_on(darker(color, 0.3)))


def rays(sheet: Sheet) -> None:
    """Print a burst of rays behind the picture, the brand on a banner."""
    design, (width, height) = sheet.design, sheet.image.size
    color, brand = design.flavor.color, design.brand
    box = sheet.picture_box
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    sheet.image.paste(color, (0, 0, width, height))
    pen = ImageDraw.Draw(sheet.image)
    reach = math.hypot(width, height)
    for step in range(16):
        ends = [
            (x + reach * math.cos(a), y + reach * math.sin(a))
            for a in (step * math.pi / 8, (step + 0.5) * math.pi / 8)
        ]
        pen.polygon([(x, y), *ends], fill=mix(color, brand.paper, 0.55))
    left, top, right, bottom = sheet.place((0.0, 0.10, 1.0, 0.28), (0.0, 0.14, 0.64, 0.5))
    sag = (bottom - top) * 0.14
    pen.polygon(
        [
            (left, top + sag),
            ((left + right) / 2, top - sag),
            (right, top + sag),
            (right, bottom + sag),
            ((left + right) / 2, bottom - sag),
            (left, bottom + sag),
        ],
        fill=brand.ink,
    )
    sheet.brand(
        WHITE,
        outline=darker(brand.ink, 0.4),
        arch=0.1,
        box=(left + 0.06 * width, top, right - 0.06 * width, bottom),
    )
    plate = sheet.place((0.16, 0.315, 0.84, 0.43), (0.08, 0.58, 0.58, 0.84))
    pen.rounded_rectangle(plate, radius=(plate[3] - plate[1]) / 2, fill=brand.paper)
    sheet.name(
        darker(color, 0.4),
        box=(plate[0] + 0.06 * width, plate[1], plate[2] - 0.06 * width, plate[3]),
        weight=0.06,
    )
    size = min(box[2] - box[0], box[3] - box[1]) * 0.52
    pen.ellipse((x - size, y - size, x + size, y + size), fill=lighter(brand.paper, 0.55))
    sheet.picture(fill=0.92)
    if not sheet.wide:
        sheet.seal((0.84, 0.47), brand.ink)
    sheet.foot(readable_on(mix(color, brand.paper, 0.3)))


def scene(sheet: Sheet) -> None:
    """Print a landscape under a sky of the flavor's color, the picture before it."""
    design, (width, height) = sheet.design, sheet.image.size
    color = design.flavor.color
    sheet.image.paste(vertical_gradient((width, height), darker(color, 0.15), lighter(color, 0.75)))
    pen = ImageDraw.Draw(sheet.image)
    for row, (level, share) in enumerate(((0.62, 0.5), (0.72, 0.25), (0.82, 0.0))):
        crest = [
            (
                x / 30 * width,
                (level + 0.045 * math.sin(x / 30 * 7 + row * 2.1) + 0.02 * math.sin(x * 0.9 + row)) * height,
            )
            for x in range(31)
        ]
        pen.polygon(
            [*crest, (width, height), (0, height)], fill=mix(design.brand.ink, lighter(color, 0.4), share)
        )
    sheet.picture(fill=1.0)
    top = darker(color, 0.15)
    sheet.brand(
        readable_on(top) if luminance(top) < 0.7 else design.brand.ink,
        outline=None if luminance(top) > 0.5 else darker(design.brand.ink, 0.2),
    )
    left, upper, right, lower = sheet.name_box
    pen.rounded_rectangle((left, upper, right, lower), radius=(lower - upper) * 0.25, fill=design.brand.paper)
    sheet.name(design.brand.ink, box=(left + 0.05 * width, upper, right - 0.05 * width, lower), weight=0.05)
    sheet.foot(WHITE)


LAYOUTS: Mapping[str, Callable[[Sheet], None]] = {
    "hero": hero, "badge": badge, "split": split, "minimal": minimal, "vintage": vintage, "stripes": stripes,
    "diagonal": diagonal, "rays": rays, "scene": scene,
}  # fmt: skip


def front(design: Design, width: int, height: int) -> Image.Image:
    """Print the front of a design's package, RGB, `width` by `height` pixels."""
    sheet = Sheet(Image.new("RGB", (width, height), design.brand.paper), design)
    LAYOUTS[design.brand.layout](sheet)
    return sheet.image


def ground(design: Design) -> Color:
    """Return the color that a package has where nothing is printed, so that sides and fronts agree."""
    if design.brand.layout in {"minimal", "split"}:
        return design.brand.paper
    return design.flavor.color
