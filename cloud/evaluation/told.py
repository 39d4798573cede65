"""What the keys of an evaluation mean in words, and how their values are written."""

from collections.abc import Mapping
from typing import Final

MEANS: Final[Mapping[str, str]] = {
    "grocery.fine_top1": "right product first",
    "grocery.coarse_top1": "right category first",
    "grocery.fine_top5": "right product among five",
    "grocery.packshot_fine_top1": "right product first, from packshots alone",
    "grocery.int8_minus_float": "points of right products that int8 gains",
    "grocery.int8_agreement": "same product first, int8 and float",
    "grocery.mean_cosine": "mean cosine of int8 and float embeddings",
    "unseen.shots.1": "never trained on, enrolled by 1 photo: right product first",
    "unseen.shots.3": "the same by 3 photos",
    "unseen.shots.5": "the same by 5 photos",
    "unseen.shots.10": "the same by 10 photos",
    "unknown.auroc": "known products told from absent ones: area under the ROC",
    "unknown.ccr_at_5fpr": "known and right, where 5 % of the absent are accepted",
    "unknown.far_at_95tar": "absent and accepted, where 95 % of the known are",
    "second_domain.top1": "right kind of other things",
    "robust.ratio": "right on spoiled photos, over right on clean ones",
    "decision.wrong_at_setting": "wrong among matches, where 0.5 % are allowed",
    "decision.answered": "answered as a match there",
    "decision.ece": "expected calibration error of the confidence",
    "cost.bytes": "bytes of the model file",
    "cost.invoke_ratio": "one run, over one of plain MobileNetV2 1.0 224",
}
"""The keys that a table of the whole shows, in its order."""

_POINTS: Final = frozenset({"grocery.int8_minus_float"})


def written(key: str, value: float) -> str:
    """Write the value of a key as people read it: a share with three digits, points with a sign, bytes."""
    if key == "cost.bytes":
        return f"{value / 1e6:.2f} MB"
    if key in _POINTS:
        return f"{value:+.1f}".replace("-", "−") if round(value, 1) else "0.0"
    return f"{value:.2f}" if key == "cost.invoke_ratio" else f"{value:.3f}"
