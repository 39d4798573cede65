"""How well a device is taught: the warnings of `shelfsight add`, and what is answered afterwards.

    python benchmarks/enrollment.py DATA [--json OUT]

DATA is a `--data` folder with the grocery photos. The network is the twin, which was trained without twenty
of the products: these are taught, from photos of the split `test`, on top of a release that knows the others
by their training photos. Nothing here is fitted, and the rule was not chosen with this network. What is drawn
is drawn five times; the figures are the mean of the draws, with the least and the most.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click
import numpy as np
from numpy.typing import NDArray

from cloud.assembly import embed_catalog
from cloud.catalog import Catalog
from cloud.embeddings import EmbeddingCache
from cloud.evaluation.bench import installed
from cloud.evaluation.newcomers import left_out_of
from cloud.workspace import Workspace
from edge.image import decode_to_fit
from edge.matcher import Matcher
from edge.model import Model, open_model
from edge.newcomer import Look, find_concerns, take_look
from edge.products import Product
from edge.segments import Content, quantize_rows

TWIN: Final = Path(__file__).parent / "twin"
DRAWS: Final = 5
TAUGHT_BY: Final = 4
SHOTS: Final = (1, 3, 5)
FURTHER: Final = 3
WARNS: Final = ("look_alike", "close")

Rng = np.random.Generator
Looks = Mapping[str, Sequence[Look]]


@dataclass(frozen=True, slots=True)
class Bench:
    """A release without the newcomers, and how its network sees every test photo."""

    model: Model
    content: Content
    looks: Looks
    newcomers: tuple[str, ...]
    products: Mapping[str, Product]

    @property
    def known(self) -> tuple[str, ...]:
        """Products of the release that have enough test photos to be drawn from."""
        return tuple(sku for sku in self.content.rows if len(self.looks.get(sku, ())) > TAUGHT_BY)

    def with_rows(self, taught: Mapping[str, Sequence[Look]]) -> Content:
        """Return the release's content with the photos of each product beside those that it has."""
        rows = dict(self.content.rows)
        for sku, looks in taught.items():
            new = quantize_rows(np.array([look.reference for look in looks]), self.content.scale)
            rows[sku] = np.concatenate([rows[sku], new]) if sku in rows else new
        products = {**self.content.products, **{sku: self.products[sku] for sku in taught}}
        return Content(
            self.content.space,
            self.content.dimension,
            self.content.scale,
            products,
            dict(sorted(rows.items())),
        )


@click.command()
@click.argument("data", type=click.Path(path_type=Path, exists=True))
@click.option("--json", "out", type=click.Path(path_type=Path), help="Write the figures there.")
def main(*, data: Path, out: Path | None) -> None:
    """Measure, and print one line a figure."""
    bench = prepare(data)
    figures: dict[str, Any] = {
        "newcomers": len(bench.newcomers),
        "known": len(bench.known),
        "draws": DRAWS,
        "warnings": spread([warnings(bench, np.random.default_rng((7, draw))) for draw in range(DRAWS)]),
        "taught": {
            str(shots): spread(
                [taught(bench, shots, np.random.default_rng((8, draw))) for draw in range(DRAWS)]
            )
            for shots in SHOTS
        },
        "further": spread([further(bench, np.random.default_rng((9, draw))) for draw in range(DRAWS)]),
    }
    text = json.dumps(figures, indent=1)
    print(text)
    if out is not None:
        out.write_text(text + "\n")


def prepare(data: Path) -> Bench:
    """Embed the known products' training photos, and look at every test photo."""
    workspace = Workspace.open(data)
    catalog = Catalog(workspace.sessions(), workspace.photo_storage())
    model = open_model(TWIN)
    left_out = set(left_out_of(model))
    references = [
        photo
        for photo in catalog.reference_photos()
        if photo.kind == "in-store" and photo.split == "train" and photo.sku not in left_out
    ]
    with EmbeddingCache(workspace.cache) as cache, click.progressbar(length=len(references)) as bar:
        content = embed_catalog(
            model,
            model.variant(),
            products=catalog.products(),
            references=references,
            photos=catalog.photos,
            cache=cache,
            progress=lambda done, _total: bar.update(done - bar.pos),
        ).content
    photos = [photo for photo in catalog.test_photos() if photo.kind == "in-store"]
    looks: dict[str, list[Look]] = {}
    with (
        installed(model, model.variant(), content) as matcher,
        click.progressbar(photos, label="Looking") as shown,
    ):
        for photo in shown:
            picture = decode_to_fit(catalog.photos.read(photo.sha256), matcher.release.input_size)
            looks.setdefault(photo.sku, []).append(take_look(matcher, photo.sha256[:12], picture))
    newcomers = tuple(sku for sku in sorted(left_out) if len(looks.get(sku, ())) > max(SHOTS))
    return Bench(model, content, looks, newcomers, {each.sku: each for each in catalog.products()})


def warnings(bench: Bench, rng: Rng) -> dict[str, float]:
    """Count who is warned of: new products, known ones renamed, one wrong photo among right ones."""
    with installed(bench.model, bench.model.variant(), bench.content) as matcher:
        new = [concerned(matcher, "new", draw(rng, bench.looks[sku])) for sku in bench.newcomers]
        renamed = [
            any(name == sku for _, _, name in concerned(matcher, "new", draw(rng, bench.looks[sku])))
            for sku in bench.known
        ]
        strays = [stray_found(matcher, bench, sku, rng) for sku in bench.newcomers]
    warned = [any(kind in WARNS for kind, _, _ in found) for found in new]
    return {
        "new_products_warned_of": float(np.mean(warned)),
        "new_products_with_an_odd_photo": float(
            np.mean([any(kind == "odd" for kind, _, _ in found) for found in new])
        ),
        "known_products_found": float(np.mean(renamed)),
        "strays_found": float(np.mean(strays)),
    }


def stray_found(matcher: Matcher, bench: Bench, sku: str, rng: Rng) -> bool:
    """Put a photo of another new product among a new product's, and say whether it is spoken against."""
    other = str(rng.choice([each for each in bench.newcomers if each != sku]))
    (stray,) = draw(rng, bench.looks[other], 1)
    right = [look for look in draw(rng, bench.looks[sku], TAUGHT_BY - 1) if look.name != stray.name]
    return any(photo == stray.name for _, photo, _ in concerned(matcher, "new", [*right, stray]))


def taught(bench: Bench, shots: int, rng: Rng) -> dict[str, float]:
    """Teach all new products, and ask their other photos and those of the known ones."""
    drawn = {sku: draw(rng, bench.looks[sku], shots) for sku in bench.newcomers}
    others = {
        sku: [look for look in bench.looks[sku] if look.name not in {each.name for each in drawn[sku]}]
        for sku in bench.newcomers
    }
    known = {sku: bench.looks[sku] for sku in bench.known}
    before = answered(bench, bench.content, known)
    content = bench.with_rows(drawn)
    after, new = answered(bench, content, known), answered(bench, content, others)
    return {f"new_{key}": value for key, value in shares(new).items()} | harm(before, after)


def further(bench: Bench, rng: Rng) -> dict[str, float]:
    """Teach every known product three further photos, and ask its others, before and after."""
    drawn = {sku: draw(rng, bench.looks[sku], FURTHER) for sku in bench.known}
    others = {
        sku: [look for look in bench.looks[sku] if look.name not in {each.name for each in drawn[sku]}]
        for sku in bench.known
    }
    before, after = answered(bench, bench.content, others), answered(bench, bench.with_rows(drawn), others)
    return (
        {f"before_{key}": value for key, value in shares(before).items()}
        | {f"after_{key}": value for key, value in shares(after).items()}
        | harm(before, after)
    )


def answered(bench: Bench, content: Content, asked: Looks) -> NDArray[np.str_]:
    """Answer each look as a device does: `right`, `wrong`, `unsure` or `unknown`."""
    said = []
    with installed(bench.model, bench.model.variant(), content) as matcher:
        decision = matcher.variant.decision
        for sku in sorted(asked):
            for look in asked[sku]:
                hits = matcher.index.search(look.query.vector, 5, decision.score)
                verdict = decision.verdict(
                    hits[0].score, decision.confidences([hit.score for hit in hits])[0]
                )
                is_right = hits[0].sku == sku
                said.append(verdict if verdict != "match" else "right" if is_right else "wrong")
    return np.array(said)


def shares(said: NDArray[np.str_]) -> dict[str, float]:
    """Return how often each was said, 0..1."""
    return {each: float(np.mean(said == each)) for each in ("right", "wrong", "unsure", "unknown")}


def harm(before: NDArray[np.str_], after: NDArray[np.str_]) -> dict[str, float]:
    """Return which share of all the known products' photos was right and is wrong or no more sure, 0..1."""
    was = before == "right"
    return {
        "known_right_before": float(np.mean(was)),
        "known_right_after": float(np.mean(after == "right")),
        "known_right_to_wrong": float(np.mean(was & (after == "wrong"))),
        "known_right_to_unsure": float(np.mean(was & (after == "unsure"))),
    }


def concerned(matcher: Matcher, sku: str, looks: Sequence[Look]) -> list[tuple[str, str, str | None]]:
    """Ask the rule; return kind, photo and the other product of each concern."""
    return [(each.kind, each.photo, each.sku) for each in find_concerns(matcher, sku, looks)]


def draw(rng: Rng, looks: Sequence[Look], count: int = TAUGHT_BY) -> list[Look]:
    """Draw photos, none twice."""
    return [looks[place] for place in rng.choice(len(looks), count, replace=False)]


def spread(draws: Sequence[Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Return mean, least and most of each figure."""
    return {
        key: {
            "mean": round(float(np.mean([each[key] for each in draws])), 4),
            "least": round(min(each[key] for each in draws), 4),
            "most": round(max(each[key] for each in draws), 4),
        }
        for key in draws[0]
    }


if __name__ == "__main__":
    main()
