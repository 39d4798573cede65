"""Views in a shop with one package as the subject: on a shelf, in a hand, on a counter."""

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter

from cloud.sample.barcode import barcode
from cloud.sample.designs import Design
from cloud.sample.hand import TONES, Capsule, draw_capsules, grip
from cloud.sample.ink import Color, darker, fitted, lighter, paste, vertical_gradient
from cloud.sample.lens import Random
from cloud.sample.light import Light
from cloud.sample.packages import HEIGHTS, draw_package, footprint

VIEW = (1090, 818)  # pixels: a 960 by 720 frame with room to aim


@lru_cache(maxsize=200)
def _prop(design: Design) -> Image.Image:
    """Draw a package that is not the subject, once for all scenes."""
    yaw = int(design.gtin[-3:-1]) % 31 - 15
    return draw_package(design, _prop_height(design), yaw=yaw, light=Light(-0.5, 0.7, 0.98))


@lru_cache(maxsize=200)
def _far_prop(design: Design) -> Image.Image:
    """Draw a package as it stands far behind the subject, once for all scenes."""
    return _scaled(_prop(design), HEIGHTS[design.brand.form] * 2.6)


def _prop_height(design: Design) -> int:
    return 190 if design.brand.form == "slab" else 330


def _scaled(image: Image.Image, height: float) -> Image.Image:
    tall = max(2, round(height))
    return image.resize(
        (max(2, round(image.width * tall / image.height)), tall),
        Image.Resampling.BOX if tall < image.height / 2 else Image.Resampling.BICUBIC,
    )


def _stand(view: Image.Image, image: Image.Image, foot: tuple[float, float], shadow: float = 0.55) -> None:
    """Place an RGBA package on its foot's middle, with the shadow where it touches the ground."""
    spread = Image.new("L", (round(image.width * 1.5), max(8, round(image.width * 0.34))))
    pen = ImageDraw.Draw(spread)
    pen.ellipse(
        (spread.width * 0.12, spread.height * 0.25, spread.width * 0.88, spread.height * 0.75),
        fill=round(255 * shadow),
    )
    spread = spread.filter(ImageFilter.GaussianBlur(max(2, spread.height * 0.13)))
    view.paste(
        (12, 10, 10), (round(foot[0] - spread.width / 2), round(foot[1] - spread.height * 0.55)), spread
    )
    view.paste(image, (round(foot[0] - image.width / 2), round(foot[1] - image.height)), image)


def _subject_scale(design: Design, rng: Random) -> float:
    """Return pixels per centimeter that let the subject fill the frame as a person would frame it."""
    share = rng.uniform(0.66, 0.82)
    return float(
        min(share * VIEW[1] / HEIGHTS[design.brand.form], share * 0.82 * VIEW[0] / footprint(design))
    )


def shelf(subject: Design, others: Sequence[Design], rng: Random) -> Image.Image:
    """Draw the subject on a shelf among its neighbors, with a price rail below and the next board above."""
    width, height = VIEW
    scale, light = _subject_scale(subject, rng), Light(float(rng.uniform(-0.8, 0.8)), 0.62, 1.0)
    back: Color = [(92, 88, 84), (196, 194, 188), (58, 60, 66), (150, 128, 104)][int(rng.integers(4))]
    view = vertical_gradient(VIEW, darker(back, 0.55), darker(back, 0.25))
    tall = HEIGHTS[subject.brand.form] * scale
    floor = height * 0.5 + tall * 0.5 + height * float(rng.uniform(-0.02, 0.05))
    board: Color = [(226, 224, 220), (176, 150, 118), (120, 122, 126)][int(rng.integers(3))]
    ImageDraw.Draw(view).rectangle((0, floor - scale * 1.6, width, floor + 14), fill=darker(board, 0.28))
    subject_yaw = float(rng.uniform(-24, 24))
    hero = draw_package(subject, round(tall), yaw=subject_yaw, light=light)
    middle = width / 2 + float(rng.uniform(-0.05, 0.05)) * width
    gap = scale * float(rng.uniform(0.3, 1.1))
    for way in (-1, 1):
        x, design = middle + way * (hero.width / 2 + gap), subject
        while -0.1 * width < x < 1.1 * width:
            if design is not subject or rng.random() < 0.35:
                design = others[int(rng.integers(len(others)))]
            prop = _prop(design)
            prop = _scaled(prop, HEIGHTS[design.brand.form] * scale * prop.height / _prop_height(design))
            foot = (x + way * prop.width / 2, floor - scale * float(rng.uniform(0.0, 0.8)))
            _stand(view, prop, foot)
            x += way * (prop.width + gap)
    _stand(
        view,
        ImageEnhance.Brightness(_scaled(hero, hero.height * 0.95)).enhance(0.4),
        (middle + scale * 0.5, floor - scale),
        0.3,
    )
    _stand(view, hero, (middle, floor))
    _rail(view, floor + 8, board, subject, rng)
    _board_above(view, floor - tall - scale * float(rng.uniform(2.0, 5.0)), board)
    return view


def _rail(view: Image.Image, top: float, board: Color, subject: Design, rng: Random) -> None:
    """Draw the shelf's front with its price cards, and the dark below it."""
    width, height = view.size
    tall = height * 0.085
    rail: Color = [(240, 240, 238), (196, 30, 40), (38, 92, 64), (232, 196, 48), (70, 74, 82)][
        int(rng.integers(5))
    ]
    pen = ImageDraw.Draw(view)
    view.paste(
        vertical_gradient((width, round(tall)), lighter(rail, 0.12), darker(rail, 0.18)), (0, round(top))
    )
    pen.line((0, top, width, top), fill=lighter(board, 0.4), width=3)
    pen.rectangle((0, top + tall, width, max(height, top + tall)), fill=(24, 22, 22))
    view.paste(vertical_gradient((width, 60), (6, 6, 6), (34, 32, 32)), (0, round(top + tall)))
    x = float(rng.uniform(-100, 40))
    while x < width:
        card = (x, top + tall * 0.1, x + 150, top + tall * 0.9)
        pen.rounded_rectangle(card, radius=4, fill=(250, 248, 236), outline=(120, 120, 116))
        near = abs(x + 75 - width / 2) < 110
        price = subject.price if near else f"{int(rng.integers(0, 8))}.{int(rng.integers(1, 10))}9"
        paste(view, fitted(price, tall * 0.42, (24, 24, 26), 70, weight=0.05), (x + 106, top + tall * 0.5))
        code = barcode(subject.gtin, 113, round(tall * 0.3)).resize(
            (52, round(tall * 0.36)), Image.Resampling.BOX
        )
        view.paste(code, (round(x + 8), round(top + tall * 0.45)))
        paste(view, fitted("per 100 g  0.49", tall * 0.12, (60, 60, 60), 52), (x + 36, top + tall * 0.27))
        x += float(rng.uniform(190, 420))


def _board_above(view: Image.Image, edge: float, board: Color) -> None:
    """Draw the underside of the next shelf, and the shadow that it throws."""
    if edge < 20:
        return
    shadow = Image.new("L", (1, 64))
    for row in range(64):
        shadow.putpixel((0, row), round(150 * (1 - row / 63) ** 1.5))
    deep = round(view.height * 0.16)
    view.paste((0, 0, 0), (0, round(edge)), shadow.resize((view.width, deep)))
    view.paste(vertical_gradient((view.width, round(edge)), darker(board, 0.1), darker(board, 0.35)), (0, 0))
    ImageDraw.Draw(view).line((0, edge, view.width, edge), fill=darker(board, 0.6), width=4)


def hand(subject: Design, others: Sequence[Design], rng: Random) -> Image.Image:
    """Draw the subject held up before a blurred aisle."""
    width, height = VIEW
    view = _aisle(others, rng)
    scale = _subject_scale(subject, rng) * 1.02
    tall = HEIGHTS[subject.brand.form] * scale
    pack = draw_package(
        subject,
        round(tall),
        yaw=float(rng.uniform(-20, 20)),
        pitch=4,
        light=Light(float(rng.uniform(-0.7, 0.7)), 0.64, 1.0),
    )
    layer = Image.new("RGBA", VIEW)
    left, top = (width - pack.width) / 2, (height - pack.height) / 2 - height * 0.05
    box = (left, top, left + pack.width, top + pack.height)
    behind, front, thumb = grip(box, scale, rng)
    tone = TONES[int(rng.integers(len(TONES)))]
    layer.alpha_composite(draw_capsules(VIEW, behind, darker(tone, 0.18)))
    layer.alpha_composite(pack, (max(0, round(left)), max(0, round(top))))
    fingers = draw_capsules(VIEW, front, tone)
    shade = Image.new("RGBA", VIEW, (0, 0, 0, 0))
    shade.putalpha(
        fingers.getchannel("A").filter(ImageFilter.GaussianBlur(9)).point(lambda alpha: round(alpha * 0.5))
    )
    layer.alpha_composite(shade, (6, 10))
    layer.alpha_composite(fingers)
    _paint_nail(layer, thumb, lighter(tone, 0.3))
    layer = layer.rotate(
        float(rng.uniform(-14, 14)), Image.Resampling.BICUBIC, center=(width / 2, height / 2)
    )
    view.paste(layer, (0, 0), layer)
    return view


def _paint_nail(layer: Image.Image, thumb: Capsule, color: Color) -> None:
    """Paint the nail at a thumb's end, along the thumb."""
    x0, y0, x1, y1, radius = thumb
    turn = math.degrees(math.atan2(y1 - y0, x1 - x0))
    side = round(radius * 2)
    nail = Image.new("RGBA", (side * 2, side * 2), (*color, 0))
    box = (side * 0.55, side * 0.62, side * 1.45, side * 1.38)
    ImageDraw.Draw(nail).rounded_rectangle(box, radius=side * 0.36, fill=(*color, 210))
    nail = nail.reduce(2).rotate(-turn, Image.Resampling.BICUBIC)
    share = 0.12 * radius / max(1.0, math.hypot(x1 - x0, y1 - y0))
    corner = (x1 + share * (x1 - x0) - side / 2, y1 + share * (y1 - y0) - side / 2)
    layer.alpha_composite(nail, (max(0, round(corner[0])), max(0, round(corner[1]))))


def _aisle(others: Sequence[Design], rng: Random) -> Image.Image:
    """Draw shelves far out of focus, with the lamps above them."""
    small = (VIEW[0] // 3, VIEW[1] // 3)
    tone: Color = [(120, 112, 102), (86, 94, 106), (170, 166, 158)][int(rng.integers(3))]
    view = vertical_gradient(small, lighter(tone, 0.35), darker(tone, 0.45))
    far = others[::2]  # so blurred, nobody sees that some are missing, and each has to be drawn
    row = float(rng.uniform(40, 80))
    while row < small[1] + 60:
        ImageDraw.Draw(view).rectangle((0, row, small[0], row + 7), fill=lighter(tone, 0.4))
        x = float(rng.uniform(-20, 10))
        while x < small[0]:
            prop = _far_prop(far[int(rng.integers(len(far)))])
            for _ in range(int(rng.integers(1, 4))):
                view.paste(prop, (round(x), round(row - prop.height)), prop)
                x += prop.width + 2
        row += 76
    blurred = view.filter(ImageFilter.GaussianBlur(float(rng.uniform(2.4, 5)))).resize(
        VIEW, Image.Resampling.BICUBIC
    )
    return ImageEnhance.Brightness(blurred).enhance(float(rng.uniform(0.65, 1.0)))


def counter(subject: Design, others: Sequence[Design], rng: Random) -> Image.Image:
    """Draw the subject on a counter or belt, other shopping beside it."""
    width, height = VIEW
    scale = _subject_scale(subject, rng)
    tall = HEIGHTS[subject.brand.form] * scale
    floor = height * 0.5 + tall * 0.5
    view = _aisle(others, rng)
    top: Color = [(52, 52, 56), (182, 142, 100), (206, 204, 198), (110, 82, 60)][int(rng.integers(4))]
    far = round(floor - tall * float(rng.uniform(0.25, 0.45)))
    view.paste(_grain((width, height - far), top, rng), (0, far))
    for way in (-1, 1):
        if rng.random() < 0.8:
            design = others[int(rng.integers(len(others)))]
            prop = _prop(design)
            prop = _scaled(prop, HEIGHTS[design.brand.form] * scale * 0.9).filter(
                ImageFilter.GaussianBlur(2.2)
            )
            x = width / 2 + way * (
                footprint(subject) * scale * 0.5 + prop.width * float(rng.uniform(0.35, 0.7))
            )
            _stand(view, prop, (x, far + (floor - far) * float(rng.uniform(0.2, 0.6))))
    pack = draw_package(
        subject,
        round(tall),
        yaw=float(rng.uniform(-26, 26)),
        pitch=float(rng.uniform(9, 17)),
        light=Light(float(rng.uniform(-0.8, 0.8)), 0.58, 1.0),
    )
    _stand(view, pack, (width / 2 + float(rng.uniform(-0.06, 0.06)) * width, floor), 0.75)
    return view


def _grain(size: tuple[int, int], color: Color, rng: Random) -> Image.Image:
    """Draw a worktop: streaks along it, brighter toward the viewer."""
    streaks = rng.standard_normal((size[1], 14)).astype(np.float32) * 9
    plane = np.asarray(Image.fromarray(streaks).resize(size, Image.Resampling.BICUBIC), np.float32)
    rise = np.linspace(0.78, 1.08, size[1], dtype=np.float32)[:, None]
    pixels = (np.asarray(color, np.float32) + plane[..., None]) * rise[..., None]
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
