"""What a study may change of a recipe, and between which values.

A table `[tune]` in the recipe's TOML file says it, a line a field: a range, or a list of values.

    [tune]
    learning_rate = { low = 5e-5, high = 1e-3, log = true }
    losses = [{ cosine_softmax = 1.0 }, { arcface = 1.0 }]
    keep = [0.0, 0.25, 0.5]
    unseen_share = 0.2

`keep` is always a list: each trained network is measured with every share in it, which costs no training.
`unseen_share` is the share of the products that the study keeps out of all its trainings, to measure how well
products are found that no network was fitted to. Without the table, `default_space` is searched.
"""

import json
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cloud.training.recipe import Recipe
from edge.errors import BadSetting

# Two trials that differ in these are not measured by the same photos, or are not the same training.
_FIXED = ("fit_splits", "fit_kinds", "leave_out", "seed", "products_per_batch", "photos_per_product")
_MOST_UNSEEN = 0.5


@dataclass(frozen=True, slots=True)
class Range:
    """Numbers from `low` to `high`: whole ones where the field has such, `log` drawn by their magnitude."""

    low: float
    high: float
    log: bool = False
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Choice:
    """Some values, each as JSON."""

    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SearchSpace:
    """What a study searches.

    Attributes:
        searched: a range or a choice for each field of the recipe that is searched.
        keep: shares of the beginning weights that each network is measured with; empty is the recipe's own.
        unseen_share: share 0..0.5 of the products that no trial is fitted to.
    """

    searched: Mapping[str, Range | Choice]
    keep: tuple[float, ...] = ()
    unseen_share: float = 0.2

    @classmethod
    def read(cls, path: Path | None) -> "SearchSpace | None":
        """Read the table `[tune]` of a recipe's TOML file; None where there is none.

        Raises:
            BadSetting: the file cannot be read or is no TOML, or the table names what cannot be searched.
        """
        if path is None:
            return None
        try:
            record = tomllib.loads(path.read_text(encoding="utf-8")).get("tune")
        except OSError as error:
            raise BadSetting(f"recipe {path} cannot be read ({error.strerror}): check the path") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise BadSetting(f"recipe {path} is not TOML ({error}): mend it") from error
        if record is None:
            return None
        if not isinstance(record, dict):
            raise BadSetting(f"tune = {record!r} is no table: write [tune] above what is to be searched")
        return cls.from_record(record)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "SearchSpace":
        """Make a space of the parsed table; fields that it leaves out are not searched.

        Raises:
            BadSetting: an unknown field, or values that a recipe cannot have.
        """
        fields = {name: value for name, value in record.items() if name not in ("keep", "unseen_share")}
        searched = {name: _read_field(name, value) for name, value in fields.items()}
        kept = record.get("keep", [])
        if not isinstance(kept, list):
            raise BadSetting(f"tune.keep is {kept!r}: list the shares to measure with, like [0.0, 0.25, 0.5]")
        if not searched and not kept:
            raise BadSetting("[tune] names nothing to search: name fields, or take the table out")
        keep = tuple(Recipe.from_record({"keep": each}).keep for each in kept)
        return cls(searched, keep, _read_unseen(record.get("unseen_share", cls({}).unseen_share)))

    def plain(self, drawn: Mapping[str, object]) -> dict[str, Any]:
        """Return the recipe's fields of what was drawn: choices are drawn as JSON."""
        return {
            name: json.loads(str(value)) if isinstance(self.searched[name], Choice) else value
            for name, value in drawn.items()
        }

    def drawn_of(self, base: Recipe) -> dict[str, object]:
        """Return what would have to be drawn for a recipe, as far as the space holds it."""
        record = base.to_record()
        found: dict[str, object] = {}
        for name, allowed in self.searched.items():
            own = record[name]
            if isinstance(allowed, Range):
                if allowed.low <= float(str(own)) <= allowed.high:
                    found[name] = own
            elif json.dumps(own) in allowed.values:
                found[name] = json.dumps(own)
        return found

    def to_record(self) -> dict[str, object]:
        """Return the space as plain values, to know it again."""
        searched = {name: asdict(allowed) for name, allowed in self.searched.items()}
        return {"searched": searched, "keep": self.keep, "unseen_share": self.unseen_share}


def default_space(base: Recipe, categories: Collection[str]) -> SearchSpace:
    """Return what is worth searching around a recipe, on a catalog with these categories.

    Fields that would change nothing are left out: the share of look-alikes where batches are a plain shuffle,
    the weight of the categories where not every product has one of several, and what is kept of random
    weights.
    """
    losses = ("cosine_softmax", "arcface", "sub_center_arcface", "proxy_anchor")
    searched: dict[str, Range | Choice] = {
        "learning_rate": Range(5e-5, 1e-3, log=True),
        "losses": Choice(tuple(json.dumps({name: 1.0}) for name in losses)),
        "softmax_scale": Range(8, 32, log=True),
        "label_smoothing": Range(0, 0.2),
        "crop_area": Range(0.15, 0.7),
        "dropout": Range(0, 0.4),
        "category_weight": Range(0, 0.5),
        "hard_share": Range(0, 0.5),
    }
    useless = set()
    if not base.products_per_batch:
        useless.add("hard_share")
    if len(categories) < 2 or "" in categories:
        useless.add("category_weight")
    kept = () if base.weights == "none" else (0.0, 0.25, 0.5, 0.75)
    return SearchSpace({name: each for name, each in searched.items() if name not in useless}, kept)


def _read_field(name: str, value: object) -> Range | Choice:
    default = getattr(Recipe(), name, None)
    if name in _FIXED or default is None:
        raise BadSetting(f"tune.{name} cannot be searched: name another field of the recipe")
    if isinstance(value, list) and value:
        choices = [Recipe.from_record({name: each}).to_record()[name] for each in value]
        return Choice(tuple(json.dumps(each) for each in choices))
    if isinstance(value, dict) and {"low", "high"} <= value.keys() <= {"low", "high", "log"}:
        return _read_range(name, value, whole=isinstance(default, int) and not isinstance(default, bool))
    raise BadSetting(
        f"tune.{name} is {value!r}: give a range, like {{ low = 0.1, high = 0.5, log = true }}, "
        "or a list of values"
    )


def _read_range(name: str, value: Mapping[str, Any], *, whole: bool) -> Range:
    ends: list[Any] = [Recipe.from_record({name: value[end]}).to_record()[name] for end in ("low", "high")]
    low, high, log = *ends, value.get("log", False)
    numbers = all(isinstance(end, int | float) and not isinstance(end, bool) for end in ends)
    if not numbers or not isinstance(log, bool) or not low < high or (log and low <= 0):
        raise BadSetting(
            f"tune.{name} is {value!r}: give numbers with low below high, and with log both above 0"
        )
    return Range(low, high, log, whole)


def _read_unseen(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _MOST_UNSEEN:
        raise BadSetting(f"tune.unseen_share is {value!r}: choose a number from 0 to {_MOST_UNSEEN}")
    return float(value)
