"""Puts a design on its package: the forms of the sample shop, and how each is printed and drawn."""

from collections.abc import Mapping
from functools import lru_cache

from PIL import Image, ImageDraw

from cloud.sample.barcode import barcode
from cloud.sample.designs import Design
from cloud.sample.filled import Sack, draw_filled
from cloud.sample.folded import draw_folded, gable_carton, upright_box
from cloud.sample.ink import Color, darker, fitted, lighter, mix, paste, readable_on
from cloud.sample.labels import front, ground
from cloud.sample.light import Light
from cloud.sample.turned import Body, Zone, blank_wrap, draw_turned, wrap_size

ART = 560  # pixels: the height of a package's flat artwork

HEIGHTS: Mapping[str, float] = {
    "carton": 23.0, "brick": 19.5, "box": 21.0, "bottle": 27.0, "can": 14.5, "tin": 11.0, "jar": 12.0,
    "water": 25.0, "jug": 25.0, "tub": 11.0, "slab": 9.0, "pouch": 25.0, "bag": 22.0,
}  # fmt: skip
"""How tall each form stands, in centimeters."""

_BOARD: Mapping[str, tuple[float, float]] = {  # width and depth in heights
    "carton": (0.36, 0.36), "brick": (0.42, 0.30), "box": (0.70, 0.26), "slab": (2.05, 0.30),
}  # fmt: skip
_SACKS: Mapping[str, tuple[Sack, float]] = {  # and width in heights
    "pouch": (
        Sack(bulge=0.30, crinkle=0.09, gloss=0.5, top_seam=0.055, bottom_seam=0.055, waist=0.035),
        0.72,
    ),
    "bag": (Sack(bulge=0.24, crinkle=0.06, gloss=0.22, top_seam=0.06, bottom_seam=0.0, waist=0.012), 0.60),
}
_PROFILES: Mapping[str, tuple[str, float]] = {  # "height:radius …", and the height in largest diameters
    "can": ("0:.80 .02:.84 .075:.98 .1:1 .93:1 .975:.9 1:.78", 2.3),
    "tin": ("0:1 .025:1 .035:.965 .96:.965 .972:1 1:1", 1.45),
    "jar": ("0:.88 .17:.88 .175:.80 .22:.84 .3:1 .94:1 1:.9", 1.45),
    "bottle": ("0:.36 .09:.36 .095:.31 .24:.33 .40:.92 .46:1 .96:1 1:.92", 3.5),
    "water": (
        "0:.40 .07:.40 .075:.35 .12:.4 .33:.96 .38:1 .42:.97 .72:.97 .76:1 .80:.96 .84:1 .88:.96 .92:1 1:.86",
        3.2,
    ),
    "jug": ("0:.34 .11:.38 .115:.46 .16:.5 .27:.92 .36:1 .95:1 1:.93", 2.15),
    "tub": ("0:1 .12:1 .125:.93 1:.74", 0.95),
}


def draw_package(
    design: Design, height: int, *, yaw: float = 0.0, pitch: float = 7.0, light: Light | None = None
) -> Image.Image:
    """Render a design's package as an RGBA image cropped to it, about `height` pixels tall.

    `yaw` (degrees, within ±40) turns it to show its right side when positive; `pitch` (0..25) is how far the
    camera looks down on it.
    """
    light = light or Light()
    form = design.brand.form
    if form in _SACKS:
        image = _draw_sack(design, height, yaw, light)
    elif form in _BOARD:
        image = _draw_board(design, height, yaw, pitch, light)
    else:
        body = _body(design)
        wrap = _reduced(_wrap(design), height)
        image = draw_turned(body, wrap, height, turn=yaw, pitch=pitch, light=light)
    return image.crop(image.getchannel("A").getbbox() or (0, 0, 1, 1))


def _reduced(art: Image.Image, height: int) -> Image.Image:
    """Return artwork no finer than what is drawn from it, so that small packages do not shimmer."""
    wanted = max(24, round(height * 1.2))
    if art.height <= wanted:
        return art
    return art.resize((max(1, round(art.width * wanted / art.height)), wanted), Image.Resampling.BOX)


def _draw_sack(design: Design, height: int, yaw: float, light: Light) -> Image.Image:
    sack, slim = _SACKS[design.brand.form]
    art = _front_art(design).resize((max(8, round(height * slim)), height), Image.Resampling.LANCZOS)
    return draw_filled(sack, art, yaw=yaw, light=light, seed=int(design.gtin[-7:-1]))


def _draw_board(design: Design, height: int, yaw: float, pitch: float, light: Light) -> Image.Image:
    width, depth = _BOARD[design.brand.form]
    art, side = _front_art(design), _side_art(design)
    if height < ART:  # no finer than what is drawn from it, so that small packages do not shimmer
        art, side = (_reduced(image, image.height * height // ART) for image in (art, side))
    color = ground(design)
    if design.brand.form == "carton":
        faces = gable_carton(art, side, _roof_art(design), color, width)
    else:
        faces = upright_box(art, side, darker(color, 0.08), width, depth)
    return draw_folded(faces, height, yaw=yaw, pitch=pitch, light=light)


@lru_cache(maxsize=128)
def _front_art(design: Design) -> Image.Image:
    form = design.brand.form
    if form in _SACKS:
        return front(design, round(ART * _SACKS[form][1]), ART)
    if form == "slab":
        return front(design, round(ART * 0.6 * _BOARD[form][0]), round(ART * 0.6))
    return front(design, round(ART * _BOARD[form][0]), ART if form != "carton" else round(ART * 0.78))


@lru_cache(maxsize=128)
def _side_art(design: Design) -> Image.Image:
    """Print the side of a box: the brand upright, a table of facts, the barcode."""
    depth = _BOARD[design.brand.form][1]
    tall = _front_art(design).height
    image = Image.new(
        "RGB",
        (max(40, round(tall * depth / (0.78 if design.brand.form == "carton" else 1))), tall),
        ground(design),
    )
    ink = readable_on(ground(design), design.brand.ink)
    name = fitted(design.brand.name, image.width * 0.3, ink, tall * 0.34, weight=0.03).rotate(90, expand=True)
    paste(image, name, (image.width / 2, tall * 0.25))
    _print_facts(image, design, (image.width * 0.1, tall * 0.50, image.width * 0.9, tall * 0.76))
    _print_barcode(image, design, (image.width * 0.1, tall * 0.80, image.width * 0.9, tall * 0.95))
    return image


def _roof_art(design: Design) -> Image.Image:
    """Print the sloping front of a gable top, with its screw cap."""
    size = round(ART * 0.36)
    color = design.brand.paper
    image = Image.new("RGB", (size, round(size * 0.7)), color)
    pen = ImageDraw.Draw(image)
    x, y, cap = size * 0.5, size * 0.33, size * 0.2
    for share, tone in (
        (1.1, darker(color, 0.25)),
        (1.0, darker(design.brand.ink, 0.1)),
        (0.8, lighter(design.brand.ink, 0.15)),
    ):
        pen.ellipse((x - cap * share, y - cap * share, x + cap * share, y + cap * share * 0.9), fill=tone)
    return image


def _print_facts(image: Image.Image, design: Design, box: tuple[float, float, float, float]) -> None:
    left, top, right, bottom = (round(value) for value in box)
    pen = ImageDraw.Draw(image)
    pen.rectangle((left, top, right, bottom), fill=(252, 252, 250), outline=(60, 60, 60))
    for row in range(7):
        y = top + (bottom - top) * (row + 0.5) / 7
        length = (0.45, 0.3, 0.5, 0.38, 0.42, 0.28, 0.5)[(row + len(design.sku)) % 7]
        pen.line((left + 4, y, left + 4 + (right - left) * length, y), fill=(70, 70, 70), width=2)
        pen.line((right - 4 - (right - left) * 0.18, y, right - 4, y), fill=(70, 70, 70), width=2)


def _print_barcode(image: Image.Image, design: Design, box: tuple[float, float, float, float]) -> None:
    left, top, right, bottom = (round(value) for value in box)
    code = barcode(design.gtin, max(1, right - left), max(8, bottom - top))
    image.paste(code.resize((max(1, right - left), max(1, bottom - top)), Image.Resampling.BOX), (left, top))


def _body(design: Design) -> Body:
    """Return the turned body of a design with the colors of its parts."""
    form, color, ink = design.brand.form, design.flavor.color, design.brand.ink
    outline, slimness = _PROFILES[form]
    knots = [knot.split(":") for knot in outline.split()]
    profile = tuple((float(level), float(radius)) for level, radius in knots)
    steel: Color = (206, 208, 212)
    zones: Mapping[str, tuple[Zone, ...]] = {
        "can": (
            Zone(0, 0.055, "metal", steel),
            Zone(0.055, 0.955, "print", color, 0.75),
            Zone(0.955, 1, "metal", steel),
        ),
        "tin": (
            Zone(0, 0.045, "metal", steel),
            Zone(0.045, 0.955, "print", color, 0.3),
            Zone(0.955, 1, "metal", steel),
        ),
        "jar": (
            Zone(0, 0.175, "metal", mix(ink, (210, 190, 140), 0.35), 0.4),
            Zone(0.175, 1, "glass", _filling(design), 0.85),
        ),
        "bottle": (
            Zone(0, 0.095, "plastic", darker(ink, 0.15), 0.4),
            Zone(0.095, 1, "glass", _filling(design), 0.9),
        ),
        "water": (Zone(0, 0.075, "plastic", color, 0.4), Zone(0.075, 1, "glass", (206, 226, 236), 0.9)),
        "jug": (
            Zone(0, 0.115, "plastic", color, 0.5),
            Zone(0.115, 1, "plastic", mix(design.brand.paper, color, 0.12), 0.55),
        ),
        "tub": (
            Zone(0, 0.125, "plastic", mix(design.brand.paper, color, 0.85), 0.5),
            Zone(0.125, 1, "print", design.brand.paper, 0.4),
        ),
    }
    return Body(profile, zones[form], slimness)


def _filling(design: Design) -> Color:
    """Return what shows through the glass."""
    if design.brand.category == "Oil":
        return mix((150, 150, 40), design.flavor.color, 0.25)
    return darker(design.flavor.color, 0.18)


_LABELS: Mapping[str, tuple[float, float, float]] = {  # top and bottom in heights, and degrees around
    "can": (0.06, 0.95, 122), "tin": (0.045, 0.955, 126), "jar": (0.36, 0.90, 128),
    "bottle": (0.47, 0.93, 122), "water": (0.42, 0.72, 122), "jug": (0.38, 0.93, 122),
    "tub": (0.14, 0.985, 132),
}  # fmt: skip


@lru_cache(maxsize=128)
def _wrap(design: Design) -> Image.Image:
    """Print what lies around a turned body: its parts' colors, the label, facts and barcode beside it."""
    body = _body(design)
    wrap = blank_wrap(body, ART)
    top, bottom, degrees = _LABELS[design.brand.form]
    size = wrap_size(body, ART, top, bottom, degrees)
    left, upper = (wrap.width - size[0]) // 2, round(top * ART)
    if design.brand.form not in {"jug"}:  # the label runs all around; a jug's is a sticker
        wrap.paste(ground(design), (0, upper, wrap.width, upper + size[1]))
    wrap.paste(front(design, *size), (left, upper))
    beside = left + size[0]
    room = wrap.width - beside
    _print_facts(
        wrap,
        design,
        (beside + room * 0.12, upper + size[1] * 0.12, beside + room * 0.75, upper + size[1] * 0.55),
    )
    _print_barcode(
        wrap, design, (left - room * 0.78, upper + size[1] * 0.5, left - room * 0.12, upper + size[1] * 0.85)
    )
    return wrap


def footprint(design: Design) -> float:
    """Return how wide a design stands on a shelf, in centimeters."""
    form = design.brand.form
    if form in _SACKS:
        return HEIGHTS[form] * _SACKS[form][1]
    if form in _BOARD:
        return HEIGHTS[form] * _BOARD[form][0]
    return HEIGHTS[form] / _PROFILES[form][1]
