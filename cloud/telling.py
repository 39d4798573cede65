"""Says in one line what an event tells.

What stands in `data` was written by a device, perhaps a newer one: a field that is missing or of another kind
leaves a gap in the line, and a kind that is not known here is told by its plain fields.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from cloud.events import KeptEvent

_LONGEST_LINE: Final = 160


def told(event: KeptEvent) -> str:
    """Say in a line what an event tells, whatever its kind."""
    line = _TELLERS.get(event.kind, _plain)(event.data)
    return line if len(line) <= _LONGEST_LINE else line[: _LONGEST_LINE - 1] + "…"


def size(count: int) -> str:
    """Write a number of bytes as people read it: `512 B`, `3.4 MB`."""
    if count < 1000:
        return f"{count} B"
    return f"{count / 1e3:.1f} kB" if count < 1e6 else f"{count / 1e6:.1f} MB"


def _searched(data: Mapping[str, Any]) -> str:
    verdict = _text(data.get("verdict"))
    candidates = _candidates(data)
    if verdict == "match":
        return f"match: {_text(data.get('sku')) or ', '.join(candidates[:1])}"
    if verdict == "unsure":
        return f"unsure: {', '.join(candidates[:3])}"
    nearest = f", nearest {candidates[0]}" if candidates else ""
    return f"{verdict}{nearest}"


def _confirmed(data: Mapping[str, Any]) -> str:
    return f"it is {_text(data.get('sku'))}"


def _corrected(data: Mapping[str, Any]) -> str:
    was, sku = _text(data.get("was")), _text(data.get("sku"))
    if not sku:
        return f"none of {', '.join(_candidates(data)[:3]) or was}"
    return f"it is {sku}, not {was}" if was and was != sku else f"it is {sku}"


def _enrolled(data: Mapping[str, Any]) -> str:
    return f"as {_text(data.get('name'))}"


def _slot_changed(data: Mapping[str, Any]) -> str:
    before, state = _text(data.get("before")) or "first look", _text(data.get("state"))
    return f"{_text(data.get('slot'))}: {before} → {state}"


def _proposed(data: Mapping[str, Any]) -> str:
    photos = data.get("photos")
    count = f" · {len(photos)} photos" if isinstance(photos, list) else ""
    title = _text(data.get("title"))
    return f"{_text(data.get('sku'))}{f' ({title})' if title else ''}{count}"


def _installed(data: Mapping[str, Any]) -> str:
    fetched, seconds = data.get("bytes"), data.get("seconds")
    words = [f"release {_text(data.get('release'))}"]
    if isinstance(fetched, int):
        words.append(size(fetched))
    if isinstance(seconds, int | float):
        words.append(f"{seconds:.1f} s")
    return " · ".join(words)


def _rolled_back(data: Mapping[str, Any]) -> str:
    to = _text(data.get("to"))
    where = f"to release {to}" if to else "to no release"
    return f"from release {_text(data.get('release'))} {where} · {_text(data.get('message'))}"


def _fell_back(data: Mapping[str, Any]) -> str:
    used, wanted = _text(data.get("used")), _text(data.get("wanted"))
    return f"{used or 'something else'} runs the network, not {wanted} · {_text(data.get('message'))}"


def _failed(data: Mapping[str, Any]) -> str:
    release = _text(data.get("release"))
    what = f"release {release} · " if release else ""
    return what + (_text(data.get("message")) or _text(data.get("error")))


def _scanned(data: Mapping[str, Any]) -> str:
    sku, answered = _text(data.get("sku")), _text(data.get("answered"))
    if data.get("agrees") is True:
        return f"it is {sku}, as answered"
    return f"it is {sku}, not {answered}" if answered else f"it is {sku}, which was not answered"


def _shadowed(data: Mapping[str, Any]) -> str:
    release, against = _text(data.get("release")), _text(data.get("against"))
    same, answers = _text(data.get("same_sku")), _text(data.get("answers"))
    return f"release {release} as release {against} in {same} of {answers} answers"


def _plain(data: Mapping[str, Any]) -> str:
    words = [f"{name.replace('_', ' ')} {_text(value)}" for name, value in data.items() if _text(value)]
    return " · ".join(words[:4])


def _candidates(data: Mapping[str, Any]) -> list[str]:
    """List the candidates' SKUs: `searched` has objects, `corrected` plain SKUs."""
    found = data.get("candidates")
    if not isinstance(found, list):
        return []
    skus = [each.get("sku") if isinstance(each, dict) else each for each in found]
    return [sku for sku in skus if isinstance(sku, str)]


def _text(value: object) -> str:
    return str(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else ""


_TELLERS: Final[Mapping[str, Callable[[Mapping[str, Any]], str]]] = {
    "searched": _searched,
    "confirmed": _confirmed,
    "corrected": _corrected,
    "enrolled": _enrolled,
    "slot_changed": _slot_changed,
    "proposed": _proposed,
    "installed": _installed,
    "rolled_back": _rolled_back,
    "fell_back": _fell_back,
    "failed": _failed,
    "scanned": _scanned,
    "shadowed": _shadowed,
}
