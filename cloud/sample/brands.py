"""The invented brands of the sample shop: each one design, printed in several flavors that look alike."""

from dataclasses import dataclass

from cloud.sample.ink import Color, color_of


@dataclass(frozen=True, slots=True)
class Flavor:
    """One variant of a brand's design: its name, what is pictured, and its leading color."""

    name: str
    motif: str
    color: Color


@dataclass(frozen=True, slots=True)
class Brand:
    """One design: who makes what, in which package, printed how.

    `slant`, `weight` and `squeeze` are the brand's lettering, as `ink.lettering` takes them.
    """

    name: str
    thing: str
    category: str
    form: str
    layout: str
    pattern: str
    paper: Color
    ink: Color
    content: str
    cents: int
    claim: str
    flavors: tuple[Flavor, ...]
    slant: float
    weight: float
    squeeze: float


def _brand(facts: str, look: str, flavors: str, style: tuple[float, float, float]) -> Brand:
    """Read one entry of the tables below.

    `facts` are "name | thing | category | form | content | cents | claim", `look` "layout pattern paper ink",
    each flavor "name:motif:color".
    """
    name, thing, category, form, content, cents, claim = facts.split(" | ")
    layout, pattern, paper, ink = look.split()
    parsed = [flavor.split(":") for flavor in flavors.split(", ")]
    return Brand(
        name=name,
        thing=thing,
        category=category,
        form=form,
        layout=layout,
        pattern=pattern,
        paper=color_of(paper),
        ink=color_of(ink),
        content=content,
        cents=int(cents),
        claim=claim,
        flavors=tuple(Flavor(label, motif, color_of(color)) for label, motif, color in parsed),
        slant=style[0],
        weight=style[1],
        squeeze=style[2],
    )


BRANDS: tuple[Brand, ...] = (
    _brand(
        "Quillmere | Juice | Juice | carton | 1 l | 249 | 100 % pressed",
        "hero none fffdf4 1f5c3a",
        "Orange:citrus:f58a1f, Apple:apple:9cbf3b, Blackcurrant:berries:5b2a6e, Cherry:cherries:b01c3c",
        (0.2, 0.032, 0.95),
    ),
    _brand(
        "Halvory | Oat Drink | Plant drinks | brick | 1 l | 219 | no added sugar",
        "split dots f6efe0 2b3a55",
        "Original:wheat:d9a441, Barista:beans:7a4a2b, Cocoa:chocolate:5a3422, Forest Berry:berries:6f4a8e",
        (0, 0.009, 1.0),
    ),
    _brand(
        "Tamberly | Tea | Tea | box | 20 bags | 329 | hand picked",
        "vintage scales f3ead2 3c2a1e",
        "Garden Mint:leaves:3f9a64, Chamomile:daisy:e2b23a, Black Breakfast:bowl:8a2f1f, "
        "Lavender Night:lavender:6d5aa8",
        (0, 0.0, 1.1),
    ),
    _brand(
        "Fennadel | Cereal | Breakfast | box | 375 g | 399 | whole grain",
        "rays none fff6d8 c8202f",
        "Honey Hoops:honeycomb:f2a51e, Cocoa Hoops:rings:6d3d22, Berry Hoops:strawberry:e0567a",
        (0.15, 0.054, 1.0),
    ),
    _brand(
        "Orvessa | Olive Oil | Oil | bottle | 500 ml | 899 | first pressing",
        "vintage none f1ead0 2f3d22",
        "Classic:olives:7d8f3a, Lemon:citrus:e6c42e, Chili:chili:c23a25",
        (0, 0.0, 1.05),
    ),
    _brand(
        "Zaspro | Soda | Soft drinks | can | 330 ml | 99 | served cold",
        "diagonal bubbles f4f6fa 14213d",
        "Cola:star:b3121f, Lemon:citrus:f0d028, Cherry:cherries:a1166b, "
        "Ginger:leaves:c98b2c, Mint:snowflake:2a9d9a",
        (0.25, 0.063, 0.9),
    ),
    _brand(
        "Lumbrik | Canned | Canned food | tin | 400 g | 129 | picked ripe",
        "badge gingham fbf5e4 7a1f1f",
        "Tomatoes:tomato:cf3326, Chickpeas:peas:d3a24c, Sweetcorn:corn:efc02e, Red Beans:peas:8c2a2a",
        (0, 0.041, 0.9),
    ),
    _brand(
        "Bramwick | Jam | Spreads | jar | 340 g | 289 | 60 % fruit",
        "vintage gingham fffaf0 5b2333",
        "Strawberry:strawberry:d2233c, Apricot:apple:ee9a3a, Blueberry:berries:3c3f8f, "
        "Sour Cherry:cherries:8f1230",
        (0.12, 0.009, 1.0),
    ),
    _brand(
        "Mossbeck | Sauce | Sauces | jar | 190 g | 349 | stone ground",
        "split stripes f7f3e6 22402f",
        "Basil:leaves:4f9a3c, Dried Tomato:tomato:b83a22, Hot Pepper:chili:d4501c",
        (0, 0.023, 0.85),
    ),
    _brand(
        "Nibblon | Crisps | Snacks | pouch | 150 g | 199 | kettle cooked",
        "rays none ffe9a8 1b1b2f",
        "Sea Salt:chips:2f6fb5, Paprika:chili:d6401f, Sour Onion:garlic:4b9b4a, Smoky:chips:5d3a55",
        (0.22, 0.068, 0.9),
    ),
    _brand(
        "Kaffora | Coffee | Coffee | bag | 250 g | 649 | whole bean",
        "minimal none 2a211d e9d6b4",
        "Espresso:beans:a3512b, Crema:bowl:caa15a, Decaf:beans:4f8a8b, Highland:mountains:6b8e4e",
        (0, 0.0, 1.15),
    ),
    _brand(
        "Velloo | Yogurt | Dairy | tub | 500 g | 179 | mild and creamy",
        "hero none ffffff 20539a",
        "Natural:splash:8fc4e8, Strawberry:strawberry:e8607c, Peach:apple:f3a565, Blueberry:berries:6a6fc0",
        (0.18, 0.045, 1.05),
    ),
    _brand(
        "Pelarra | Pasta | Pasta | pouch | 500 g | 159 | bronze drawn",
        "stripes none fdf6e0 1d3f72",
        "Spaghetti:strands:d9a12f, Penne:tubes:c4622d, Fusilli:spirals:3f8a57",
        (0, 0.032, 0.95),
    ),
    _brand(
        "Brisowave | Laundry | Household | jug | 1.5 l | 699 | 25 washes",
        "scene none f2f9ff 0f3d7a",
        "Alpine:mountains:2b86c9, Lavender:lavender:8a63c0, Citrus:citrus:f0b429, Sensitive:bubbles:57b8a6",
        (0.2, 0.045, 0.9),
    ),
    _brand(
        "Chocavel | Chocolate | Sweets | slab | 100 g | 169 | slow roasted",
        "diagonal scales f5e9d6 3a1d12",
        "Milk:splash:8a5a34, Dark 70:chocolate:2b1710, Hazelnut:nuts:b5793a, "
        "Orange:citrus:e07a1f, Mint:leaves:2f8f6b",
        (0.15, 0.036, 1.0),
    ),
    _brand(
        "Tinmaar | Sardines | Canned food | slab | 120 g | 229 | line caught",
        "scene none eef4f4 12355b",
        "Olive Oil:fish:4a7fa5, Tomato:tomato:c4412d, Lemon:citrus:d8bd2c",
        (0, 0.023, 1.0),
    ),
    _brand(
        "Aquarill | Water | Water | water | 750 ml | 79 | from the rock",
        "minimal none f4fbff 0b4f8a",
        "Still:drop:2f7fd0, Sparkling:bubbles:1fa3a3, Lemon:citrus:dcc22a",
        (0.18, 0.018, 1.1),
    ),
    _brand(
        "Hummelore | Honey | Spreads | jar | 500 g | 549 | raw",
        "badge honey fff3c9 5a3510",
        "Acacia:daisy:e8b93a, Forest:mountains:8a5520, Clover:honeycomb:d98a1e",
        (0, 0.009, 1.05),
    ),
    _brand(
        "Riselle | Rice | Rice & grains | bag | 1 kg | 279 | aged one year",
        "split chevron fbf8ef 7b1e3a",
        "Basmati:wheat:b8963a, Jasmine:daisy:5aa06a, Risotto:bowl:c4553a",
        (0.1, 0.018, 1.05),
    ),
    _brand(
        "Minzolin | Toothpaste | Care | slab | 75 ml | 189 | with fluoride",
        "hero none ffffff 0a4a6e",
        "Fresh Mint:leaves:28a58c, White:star:4a90d9, Kids Berry:strawberry:ef6f93",
        (0.22, 0.054, 1.0),
    ),
    _brand(
        "Gelumi | Ice Cream | Frozen | tub | 480 ml | 459 | stirred by hand",
        "rays dots fff4f0 8a1d4f",
        "Vanilla:scoops:efd27a, Chocolate:scoops:7a4528, Pistachio:scoops:9dbb62, Mango:scoops:f2a33c",
        (0.2, 0.027, 0.95),
    ),
    _brand(
        "Crumbeck | Crackers | Snacks | box | 200 g | 149 | oven baked",
        "stripes none fef9ee 264027",
        "Rosemary:leaves:5f8f4f, Sea Salt:waves:3a7ab0, Sesame:wheat:d4a24a",
        (0, 0.045, 0.88),
    ),
)
"""What the catalog holds."""

STRANGERS: tuple[Brand, ...] = (
    _brand(
        "Crunkel | Pretzels | Snacks | box | 250 g | 179 | twisted by hand",
        "diagonal chevron fff0d0 3a2414",
        "Classic:rings:b5651d",
        (0.2, 0.068, 0.9),
    ),
    _brand(
        "Umbrado | Ketchup | Sauces | bottle | 450 ml | 259 | vine ripened",
        "diagonal none fff3e0 7a0f14",
        "Mild:tomato:c81e1e",
        (0.1, 0.063, 0.85),
    ),
    _brand(
        "Pondelle | Cat Food | Pets | tin | 200 g | 109 | with real fish",
        "scene none f3f0ff 3b2a6b",
        "Tuna:fish:7b5fc0",
        (0, 0.054, 1.0),
    ),
    _brand(
        "Sunnimill | Muesli | Breakfast | bag | 600 g | 429 | slow toasted",
        "stripes dots fff8e6 355c2d",
        "Nut:nuts:a8682f",
        (0.12, 0.027, 1.0),
    ),
    _brand(
        "Wolkina | Tissues | Household | slab | 100 sheets | 139 | soft as air",
        "minimal none eaf3fb 35608c",
        "Classic:waves:9cc4e4",
        (0, 0.0, 1.2),
    ),
    _brand(
        "Pixadee | Gummies | Sweets | pouch | 200 g | 119 | fruit juice inside",
        "badge dots fff2fa 5a1a7a",
        "Stars:star:e53f9a",
        (0.1, 0.072, 0.95),
    ),
    _brand(
        "Gorsefield | Butter | Dairy | slab | 250 g | 269 | churned slowly",
        "vintage none fdf3cf 1f4d3a",
        "Salted:daisy:e9c44a",
        (0, 0.013, 1.0),
    ),
    _brand(
        "Lathero | Shower Gel | Care | jug | 400 ml | 299 | skin friendly",
        "hero none f7fff9 1c5a4a",
        "Aloe:leaves:58b368",
        (0, 0.0, 1.15),
    ),
)
"""What stands in the shop and is not in its catalog."""
