"""What `shelfsight bench` says to people: a table of figures, and what they amount to."""

from collections.abc import Iterator

from devices.bench import TARGET_RATIO, BenchReport
from devices.bench_reference import BAND, Compared, Comparison
from devices.bench_verdict import Verdict
from devices.stalls import MOST_STALLED

_LINE = "{:<18}{:>11}{:>11}{:>12}{:>8}"


def table(report: BenchReport, comparison: Comparison | None) -> str:
    """Lay out what was measured, beside the reference where there is one that compares."""
    warm, there = report.warm, {each.name: each for each in comparison.figures} if comparison else {}
    threads = "1 thread" if report.threads == 1 else f"{report.threads} threads"
    facts = [
        ("model", f"{report.model.name}, {warm.variant.name}, {warm.variant.size / 1e6:.1f} MB"),
        ("run by", f"{warm.execution.runtime}, {warm.execution.delegate}, {threads}"),
        ("catalog", f"{report.vectors:,} vectors, searched by {warm.search_method}"),
        ("photo", "JPEG of 1280 x 720, from its bytes to the answer"),
    ]
    lines = [f"{name:<18}{value}" for name, value in facts]
    lines += ["", _LINE.format("", "p50", "p99", "reference", "ratio").rstrip()]
    for label, name, value, p99 in _rows(report):
        lines.append(_LINE.format(label, value, p99, *_beside(there.get(name))).rstrip())
    return "\n".join(lines)


def sentences(report: BenchReport, verdict: Verdict) -> Iterator[str]:
    """Say what the figures amount to."""
    execution = report.warm.execution
    if execution.message:
        yield f"not run as wanted; {execution.message}"
    if report.ratio_to_floor > TARGET_RATIO:
        yield f"an answer takes {report.ratio_to_floor:.2f} times the floor, and {TARGET_RATIO} is the target"
    budget = f"the budget of {verdict.latency_ms:g} ms and {verdict.memory_mb:g} MB"
    yield f"over {budget}: {'; '.join(verdict.over)}" if verdict.over else f"within {budget}"
    yield from _on_reference(verdict.comparison)
    share = f"the machine stalled for {report.stalled_share:.1%} of the time"
    if report.counts:
        yield share
    else:
        yield f"DOES NOT COUNT: {share}, over {MOST_STALLED:.0%}; end other programs and run it again"


def _on_reference(comparison: Comparison | None) -> Iterator[str]:
    if comparison is None:
        yield "no reference for this profile yet: keep yours with --keep-reference FILE"
        return
    reference = comparison.reference
    yield f"reference {reference.source}: measured {reference.measured} on {reference.machine}"
    if comparison.differs:
        yield f"it does not compare, for it was measured otherwise: {'; '.join(comparison.differs)}"
        return
    for outcome in ("worse", "better"):
        named = ", ".join(f"{each.name} ({each.ratio:.2f} times)" for each in comparison.of(outcome))
        if named:
            yield f"{outcome} than the reference by more than {BAND:.0%}: {named}"
    if len(comparison.of("within")) == len(comparison.figures):
        yield f"every figure is within {BAND:.0%} of the reference"


def _rows(report: BenchReport) -> Iterator[tuple[str, str, str, str]]:
    """Give the label, the figure's name, its value and its p99 for each row."""
    times = report.warm.times
    spreads = {**times.stages, "total": times.total}
    for name, spread in spreads.items():
        if name == "total":
            yield "unaccounted", "", _words("_ms", times.unaccounted_ms), ""
        label = "photo to answer" if name == "total" else name
        yield label, f"{name}_ms", _words("_ms", spread.p50), _words("_ms", spread.p99)
    yield "network alone", "", _words("_ms", times.invoke_ms), ""
    yield "floor", "", _words("_ms", times.floor_ms), ""
    yield "ratio to floor", "", f"{report.ratio_to_floor:.2f}   ", ""
    yield "cold start", "cold_start_s", _words("_s", report.cold_start_s), ""
    yield "memory", "rss_mb", _words("_mb", report.rss_mb), ""
    for count, rate in report.warm.photos_per_s.items():
        label = "photos, 1 thread" if count == 1 else f"photos, {count} threads"
        yield label, f"photos_per_s_{count}", _words("", rate), ""


def _beside(compared: Compared | None) -> tuple[str, str]:
    return (_words(compared.name, compared.there), f"{compared.ratio:.2f}") if compared else ("", "")


def _words(name: str, value: float) -> str:
    """Write a figure with the unit that the end of its name stands for."""
    if name.endswith("_ms"):
        return f"{value:.2f} ms"
    if name.endswith("_mb"):
        return f"{value:.0f} MB"
    return f"{value:.2f} s " if name.endswith("_s") else f"{value:.1f}/s"
