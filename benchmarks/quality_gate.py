"""Measure the quality gate: where answers become wrong, and what it stops of good pictures.

    python benchmarks/quality_gate.py GROCERY_FOLDER [--clothing FOLDER] [--model FOLDER] [--out FOLDER]

Validation photos of the Grocery Store Dataset are spoiled in grades (`spoil.py`) and answered by the device's
code from its training photos; test photos are not touched. For each measure of `edge.quality` the result says
where it stands when half of the answers are right, where it would stop one in 200 good photos, and what the
threshold in the code does. It ends with exit code 1 where a threshold stops more than that, or stands where
most answers are still right: measure again with every new model, and move the threshold.
"""

import argparse
import json
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray
from spoil import LADDERS, photograph

from cloud.bundled import bundled_model
from cloud.embed import open_embedder
from cloud.evaluation.bench import installed
from cloud.importers import PlannedPhoto, read_plan
from cloud.sample.write import write_sample
from edge import quality
from edge.disk import write_atomically
from edge.image import Picture, decode, decode_to_fit, load_photo
from edge.matcher import Matcher
from edge.model import Model, Variant, open_model
from edge.products import Product
from edge.reference import embed_reference
from edge.segments import Content, quantize_rows

MOST_GOOD_STOPPED = 0.005
VALIDATION = "grocery validation photos"
_WINDOW = 150  # photos whose answers are averaged: small against a ladder, large against chance
_CLOTHES = 400


@dataclass(frozen=True)
class Gate:
    """One threshold: which measure it is of, on which side the picture is stopped, and what spoils it."""

    problem: str
    measure: str
    threshold: float
    stops_below: bool
    ladders: tuple[str, ...]

    def badness(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Turn values of the measure so that more is worse."""
        return -values if self.stops_below else values


GATES = (
    Gate("too_dark", "highlight", quality.DARKEST_HIGHLIGHT, True, ("dark",)),
    Gate("too_bright", "shadow", quality.LIGHTEST_SHADOW, False, ("fog",)),
    Gate("glare", "glare", quality.MOST_GLARE, False, ("glare", "bright")),
    Gate("blurred", "sharpness", quality.LEAST_SHARPNESS, True, ("defocus", "motion")),
    Gate("too_far", "extent", quality.LEAST_EXTENT, True, ("far",)),
)
MEASURES = tuple(gate.measure for gate in GATES)


@dataclass(frozen=True)
class Seen:
    """What the gate makes of one picture, and what the model would have answered without it."""

    problem: str | None
    measures: tuple[float, ...]
    right: bool = False
    match: bool = False


def look(picture: Picture) -> Seen:
    """Measure a picture that was brought to the model's size."""
    shadow, highlight, _ = quality.light(picture)
    extent = quality.extent(picture, highlight - shadow)
    found = (highlight, shadow, quality.glare(picture), quality.sharpness(picture), extent)
    return Seen(quality.quality_problem(picture), found)


def answer(matcher: Matcher, photo: bytes, sku: str) -> Seen:
    """Answer a photo as if there were no gate, and look at it."""
    seen = look(decode_to_fit(photo, matcher.release.input_size))
    best = matcher.match_photo(photo, top=1).candidates[0]
    verdict = matcher.variant.decision.verdict(best.score, best.confidence)
    return Seen(seen.problem, seen.measures, best.product.sku == sku, verdict == "match")


def spoiled(matcher: Matcher, photos: Sequence[PlannedPhoto]) -> Iterator[tuple[str, float, list[Seen]]]:
    """Answer every photo at every step of every ladder."""
    pictures = [decode(load_photo(photo.path)) for photo in photos]
    for name, (spoil, steps) in LADDERS.items():
        for step in steps:
            seen = []
            for number, (photo, picture) in enumerate(zip(photos, pictures, strict=True)):
                rng = np.random.default_rng((7, number))
                seen.append(answer(matcher, photograph(spoil(picture, step, rng), rng), photo.sku))
            print(f"{name} {step:g}: {share(each.right for each in seen):.3f} right", flush=True)
            yield name, step, seen


def good_pictures(
    size: int, plan: Sequence[PlannedPhoto], clothing: Path | None
) -> Iterator[tuple[str, list[Seen]]]:
    """Look at good pictures of several kinds, none of which should be stopped."""

    def looked_at(paths: Sequence[Path]) -> list[Seen]:
        return [look(decode_to_fit(load_photo(path), size)) for path in paths]

    yield "grocery training photos", looked_at([each.path for each in plan if each.split == "train"])
    yield "grocery packshots", looked_at([each.path for each in plan if each.kind == "packshot"])
    if clothing is not None:
        clothes = sorted((clothing / "validation").rglob("*.jpg"))
        yield "clothing validation photos", looked_at(clothes[:: max(1, len(clothes) // _CLOTHES)])
    with TemporaryDirectory() as folder:
        sample = write_sample(Path(folder), products=80, photos=80, labeled=80)
        shop = sorted(each.path for each in (*sample.photos, *sample.labeled))
        yield "drawn shop, photos", looked_at(shop)
        packshots = sorted(set(Path(folder).rglob("*.jpg")) - set(shop))
        yield "drawn shop, packshots", looked_at(packshots)


def embed_references(
    model: Model, variant: Variant, photos: Sequence[PlannedPhoto], products: Sequence[Product]
) -> Content:
    """Embed the training photos as a catalog."""
    embedder = open_embedder(model, variant)
    rows: dict[str, list[NDArray[np.float32]]] = {}
    for photo in photos:
        fitted = decode_to_fit(load_photo(photo.path), model.input_size)
        rows.setdefault(photo.sku, []).append(embed_reference(embedder, fitted))
    return Content(
        space=model.space,
        dimension=model.dimension,
        scale=model.row_scale,
        products={product.sku: product for product in products},
        rows={sku: quantize_rows(np.stack(vectors), model.row_scale) for sku, vectors in rows.items()},
    )


def describe_stopped(seen: Sequence[Seen]) -> dict[str, object]:
    """Say of pictures which were stopped, and why."""
    return {
        "photos": len(seen),
        "stopped": share(each.problem is not None for each in seen),
        "reasons": dict(Counter(each.problem for each in seen if each.problem)),
    }


def describe(seen: Sequence[Seen]) -> dict[str, object]:
    """Say of pictures which were stopped, and of those that were answered how many were right."""
    stopped = [each for each in seen if each.problem is not None]
    passed = [each for each in seen if each.problem is None]
    return {
        **describe_stopped(seen),
        "right": share(each.right for each in seen),
        "right_of_stopped": share(each.right for each in stopped),
        "right_of_passed": share(each.right for each in passed),
        "wrong_of_matches": share(not each.right for each in seen if each.match),
        "wrong_of_matches_passed": share(not each.right for each in passed if each.match),
    }


def values(gate: Gate, seen: Sequence[Seen]) -> NDArray[np.float64]:
    """Return the gate's measure of each picture."""
    place = MEASURES.index(gate.measure)
    return np.array([each.measures[place] for each in seen])


def curve(gate: Gate, seen: Sequence[Seen]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Average the answers of neighboring pictures, from the worst by this measure to the best: (n,), (n,)."""
    found = values(gate, seen)
    order = np.argsort(-gate.badness(found), kind="stable")
    right = np.array([each.right for each in seen], float)[order]
    window = np.ones(_WINDOW) / _WINDOW
    middle = found[order][_WINDOW // 2 : len(order) - (_WINDOW - 1) // 2]
    return middle, np.convolve(right, window, "valid")


def judge(gate: Gate, spoiled_photos: Sequence[Seen], good: dict[str, list[Seen]]) -> dict[str, object]:
    """Find how loose a threshold may be, and whether the one in the code is no looser."""
    measure, right = curve(gate, spoiled_photos)
    still_right = np.flatnonzero(right > 0.5)
    crossing = float(measure[still_right[0]]) if len(still_right) else float(measure[-1])
    limits = {"half right": crossing}
    for name, seen in good.items():
        worst = np.sort(-gate.badness(values(gate, seen)))
        least = -worst[int(MOST_GOOD_STOPPED * len(worst))]
        limits[name] = float(-least if gate.stops_below else least)
    loosest = (min if gate.stops_below else max)(limits.values())
    strict = gate.badness(np.array([gate.threshold])) >= gate.badness(np.array([loosest]))
    return {
        "measure": gate.measure,
        "stops": "below" if gate.stops_below else "above",
        "threshold": gate.threshold,
        "loosest": round(loosest, 4),
        "limits": {name: round(limit, 4) for name, limit in limits.items()},
        "strict_enough": bool(strict[0]),
    }


def cost(size: int, embed: Callable[[Picture], object], photos: Sequence[Path]) -> dict[str, float]:
    """Time the gate beside one run of the network, in this process: milliseconds, medians."""
    pictures = [decode_to_fit(load_photo(path), size) for path in photos[:50]]

    def timed(verb: Callable[[Picture], object]) -> float:
        taken = []
        for picture in pictures * 4:
            start = time.perf_counter()
            verb(picture)
            taken.append(time.perf_counter() - start)
        return 1000 * statistics.median(taken)

    gate_ms, embed_ms = timed(quality.quality_problem), timed(embed)
    return {
        "gate_ms": round(gate_ms, 3),
        "embed_ms": round(embed_ms, 3),
        "ratio": round(gate_ms / embed_ms, 3),
    }


def share(holds: Iterator[bool]) -> float | None:
    """Return the share of those that hold, None of none."""
    every = list(holds)
    return round(sum(every) / len(every), 4) if every else None


def draw(result: dict[str, Sequence[Seen]], good: dict[str, list[Seen]], path: Path) -> None:
    """Draw for each measure how many answers are right as it gets worse, and where good photos lie."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 3, figsize=(13, 7.5), layout="constrained")
    for gate, axis in zip(GATES, axes.flat, strict=False):
        measure, right = curve(gate, [each for name in gate.ladders for each in result[name]])
        axis.plot(
            measure, right, color="#c24d00", linewidth=2, label="spoiled photos: answers that are right"
        )
        axis.axhline(0.5, color="#999", linewidth=0.8)
        axis.axvline(gate.threshold, color="black", linestyle="--", label="the threshold")
        for name, seen in good.items():
            found = np.sort(values(gate, seen))
            axis.plot(found, np.linspace(0, 1, len(found)), linewidth=1, label=f"{name}: how many are below")
        side = "below" if gate.stops_below else "above"
        axis.set_title(f"{gate.problem}: {side} {gate.threshold:g}")
        axis.set_xlabel(f"{gate.measure} (spoiled by {' and '.join(gate.ladders)})")
        axis.set_ylim(0, 1)
        if gate.measure == "sharpness":
            axis.set_xlim(0.01, 0.12)
    axes.flat[-1].axis("off")
    axes.flat[-1].legend(*axes.flat[0].get_legend_handles_labels(), loc="center", frameon=False)
    figure.savefig(path, dpi=90)
    plt.close(figure)


def main(arguments: Sequence[str]) -> int:
    """Measure, write, draw; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("grocery", type=Path, help="the folder of the Grocery Store Dataset")
    parser.add_argument("--clothing", type=Path, help="a folder with validation/KIND/*.jpg of clothes")
    parser.add_argument("--model", type=Path, help="a model folder (default: the bundled one)")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/quality-gate"))
    given = parser.parse_args(arguments)
    model = open_model(given.model or bundled_model())
    variant = model.variant()
    plan = read_plan(given.grocery)
    photos = [each for each in plan.photos if each.split == "validation"]
    references = [each for each in plan.photos if each.split == "train"]
    content = embed_references(model, variant, references, plan.products)
    with installed(model, variant, content) as matcher:
        good = {VALIDATION: [answer(matcher, load_photo(each.path), each.sku) for each in photos]}
        good.update(good_pictures(model.input_size, plan.photos, given.clothing))
        ladders: dict[str, list[Seen]] = {}
        steps: list[dict[str, object]] = []
        for name, step, seen in spoiled(matcher, photos):
            ladders.setdefault(name, []).extend(seen)
            steps.append({"spoiled_by": name, "step": step, **describe(seen)})
        taken = cost(model.input_size, matcher.embedder.embed, [each.path for each in photos])
    gates = {
        gate.problem: judge(gate, [s for name in gate.ladders for s in ladders[name]], good) for gate in GATES
    }
    everything = [each for seen in ladders.values() for each in seen]
    record = {
        "model": model.name,
        "variant": variant.name,
        "gates": gates,
        "good": {
            name: describe(seen) if name == VALIDATION else describe_stopped(seen)
            for name, seen in good.items()
        },
        "all_spoiled": describe(everything),
        "cost": taken,
        "steps": steps,
    }
    given.out.mkdir(parents=True, exist_ok=True)
    write_atomically(given.out / "result.json", (json.dumps(record, indent=1) + "\n").encode())
    draw(ladders, good, given.out / "gates.png")
    print(json.dumps({"gates": gates, "good": record["good"], "cost": taken}, indent=1))
    stopped_too_many = [
        name
        for name, seen in good.items()
        if (share(s.problem is not None for s in seen) or 0) > MOST_GOOD_STOPPED
    ]
    return 1 if stopped_too_many or not all(gate["strict_enough"] for gate in gates.values()) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
