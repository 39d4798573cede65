"""What the sample shop sells, product by product, with numbers and prices.

GTINs are valid and lie in the range that GS1 leaves to shops for their own use (prefixes 20 to 29,
"restricted circulation"), so none can be a real product's.
"""

import hashlib
from dataclasses import dataclass

from cloud.sample.brands import BRANDS, STRANGERS, Brand, Flavor


@dataclass(frozen=True, slots=True)
class Design:
    """One product to draw: a brand in one of its flavors."""

    brand: Brand
    flavor: Flavor

    @property
    def sku(self) -> str:
        """The key: brand and flavor, in lower case."""
        return (
            f"{self.brand.name} {self.flavor.name}".lower()
            .replace("'", "")
            .replace("&", "and")
            .replace(" ", "-")
        )

    @property
    def title(self) -> str:
        """What a shelf label would say."""
        return f"{self.brand.name} {self.flavor.name} {self.brand.thing} {self.brand.content}"

    @property
    def gtin(self) -> str:
        """A valid GTIN-13 that depends on the SKU alone."""
        return gtin_for(self.sku)

    @property
    def price(self) -> str:
        """A price in the manner of shops, as a decimal string."""
        cents = self.brand.cents + 10 * (len(self.flavor.name) % 3)
        return f"{cents // 100}.{cents % 100:02d}"


def gtin_for(sku: str) -> str:
    """Invent the in-store GTIN-13 of a SKU: prefix 20 to 29, nine digits of its hash, the check digit."""
    digits = "2" + f"{int(hashlib.sha256(sku.encode()).hexdigest(), 16) % 10**11:011d}"
    weighted = sum(int(digit) * (3 if place % 2 else 1) for place, digit in enumerate(digits))
    return digits + str(-weighted % 10)


def catalog_designs() -> tuple[Design, ...]:
    """Return what the sample catalog holds, brand by brand."""
    return tuple(Design(brand, flavor) for brand in BRANDS for flavor in brand.flavors)


def held_out_designs() -> tuple[Design, ...]:
    """Return products that are in the sample shop and not in its catalog."""
    return tuple(Design(brand, flavor) for brand in STRANGERS for flavor in brand.flavors)
