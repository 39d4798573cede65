"""What `evaluate --all` measures besides the catalog itself: a TOML file that names it.

    [models]
    grocery = "grocery"                    # a bundled model by its name, or a model folder
    second_domain = "general"
    [twin]
    model = "twin"                         # made by the recipe of `grocery`, with --leave-out
    [float]
    grocery = "../cloud/models/grocery/float16.tflite"
    [second_domain]
    folder = "../../shared/data/clothing-small"
    [cost]
    baseline = "../../shared/fixtures/tf2_mobilenet_v2_1.0_224_ptq.tflite"
    [robust]
    photos = 1200
    [targets]
    "grocery.fine_top1" = { at_least = 0.90, aim = 0.93 }

Every part may be left out. Paths are relative to the file.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cloud.bundled import BUNDLED_NAMES
from cloud.evaluation.robust import PHOTOS
from edge.errors import BadSetting, StorageUnusable
from edge.fields import Fields

DEFAULT_SUITE: Final = Path("benchmarks/suite.toml")
GROCERY, SECOND_DOMAIN = "grocery", "second_domain"
"""The two roles of models: of the catalog's own rows, and of the second domain's."""


@dataclass(frozen=True, slots=True)
class Target:
    """What a figure must be and what is aimed at: at least so much, or at most where `at_most` says so.

    `before` is what was reached before, for comparison.
    """

    must: float
    aim: float
    at_most: bool = False
    before: float | None = None

    def judge(self, value: float) -> str:
        """Say what a figure has reached: `aim`, `must` or `missed`."""
        sign = -1 if self.at_most else 1
        if sign * value >= sign * self.aim:
            return "aim"
        return "must" if sign * value >= sign * self.must else "missed"


@dataclass(frozen=True, slots=True)
class Suite:
    """What to measure, and with what; None and empty mean that there is no such thing here.

    Attributes:
        folder: Where the suite lies; results of trainings are looked for in its `results`.
        models: The model of each role, as a person names it (`cloud.bundled.find_model`).
        twin: A model that never saw some of the products, as a person names it.
        leave_out: SKUs of these; empty: the twin's recipe knows them.
        floats: The float file to compare each role's model with.
        second_domain: A folder with train/KIND/ and test/KIND/.
        baseline: The network file that an invocation is held against.
        robust_photos: How many test photos are spoiled; 0: all of them.
        targets: What the figures are to reach, by their key.
    """

    folder: Path | None = None
    models: Mapping[str, Path] = field(default_factory=dict)
    twin: Path | None = None
    leave_out: tuple[str, ...] = ()
    floats: Mapping[str, Path] = field(default_factory=dict)
    second_domain: Path | None = None
    baseline: Path | None = None
    robust_photos: int = PHOTOS
    targets: Mapping[str, Target] = field(default_factory=dict)


def read_suite(path: Path) -> Suite:
    """Read a suite; what it names is looked for when it is needed.

    Raises:
        StorageUnusable: the file cannot be read.
        BadSetting: it is no TOML, or says something that it cannot.
    """
    try:
        record = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise StorageUnusable(f"the suite {path} cannot be read ({reason}): name one with --suite") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadSetting(f"the suite {path} is not TOML ({error}): mend it") from error
    return _read(path.parent, Fields(f"the suite {path}", record, BadSetting))


def _read(folder: Path, whole: Fields) -> Suite:
    models, twin, floats, domain, cost, robust, targets = (
        _part(whole, name)
        for name in ("models", "twin", "float", "second_domain", "cost", "robust", "targets")
    )

    def path(part: Fields, name: str) -> Path | None:
        return folder / part.text(name) if name in part.rest() else None

    def model(part: Fields, name: str) -> Path | None:
        # A bundled name is not looked for beside the suite.
        if name not in part.rest():
            return None
        named = part.text(name)
        return Path(named) if named in BUNDLED_NAMES else folder / named

    roles = (GROCERY, SECOND_DOMAIN)
    suite = Suite(
        folder=folder,
        models={role: found for role in roles if (found := model(models, role)) is not None},
        twin=model(twin, "model"),
        leave_out=twin.texts("leave_out") if "leave_out" in twin.rest() else (),
        floats={role: found for role in roles if (found := path(floats, role)) is not None},
        second_domain=path(domain, "folder"),
        baseline=path(cost, "baseline"),
        robust_photos=robust.integer("photos") if "photos" in robust.rest() else PHOTOS,
        targets={key: _target(targets.inner(key)) for key in list(targets.rest())},
    )
    for part in (models, twin, floats, domain, cost, robust, whole):
        _refuse_rest(part)
    return suite


def _part(whole: Fields, name: str) -> Fields:
    return whole.inner(name) if name in whole.rest() else Fields(name, {}, BadSetting)


def _target(part: Fields) -> Target:
    at_most = "at_most" in part.rest()
    target = Target(
        must=part.number("at_most" if at_most else "at_least"),
        aim=part.number("aim"),
        at_most=at_most,
        before=part.number("before") if "before" in part.rest() else None,
    )
    _refuse_rest(part)
    return target


def _refuse_rest(part: Fields) -> None:
    for name in part.rest():
        raise BadSetting(f"{part.where} has {name!r}, which no suite has: look for a typo, or take it out")
