"""Bars of an EAN-13, as GS1 General Specifications 5.2.1 lays them out."""

from PIL import Image, ImageDraw

_LEFT_ODD = (
    "0001101",
    "0011001",
    "0010011",
    "0111101",
    "0100011",
    "0110001",
    "0101111",
    "0111011",
    "0110111",
    "0001011",
)
_PARITY = ("OOOOOO", "OOEOEE", "OOEEOE", "OOEEEO", "OEOOEE", "OEEOOE", "OEEEOO", "OEOEOE", "OEOEEO", "OEEOEO")


def modules(gtin: str) -> str:
    """Return the 95 modules of a GTIN-13, "1" for a bar."""
    right = ["".join("1" if bit == "0" else "0" for bit in code) for code in _LEFT_ODD]
    even = [code[::-1] for code in right]
    parity = _PARITY[int(gtin[0])]
    left = "".join(
        (_LEFT_ODD if way == "O" else even)[int(d)] for way, d in zip(parity, gtin[1:7], strict=True)
    )
    return "101" + left + "01010" + "".join(right[int(d)] for d in gtin[7:]) + "101"


def barcode(gtin: str, width: int, height: int) -> Image.Image:
    """Draw a GTIN-13 as an RGB image of about `width` by `height` pixels, quiet zones included."""
    bars = modules(gtin)
    unit = max(1, width // (len(bars) + 18))
    image = Image.new("RGB", (unit * (len(bars) + 18), height), (255, 255, 255))
    pen = ImageDraw.Draw(image)
    for place, bit in enumerate(bars):
        if bit == "1":
            left = (place + 11) * unit
            pen.rectangle((left, unit * 3, left + unit - 1, height - unit * 4), fill=(20, 20, 20))
    return image
