"""Checks of what answers: the release, by which delegate, how fast, in how much memory."""

import json
from dataclasses import asdict
from typing import Any

from devices.config import Settings
from devices.doctor.finding import Finding
from devices.doctor.probing import Probed, probe
from devices.hardware import look

_SYNC = "shelfsight sync --once"
_FIRST_THE_REST = (
    "mend what is wrong above first; if nothing is, pip install --force-reinstall ai-edge-litert"
)


def check_release(settings: Settings) -> list[Finding]:
    """Answer the golden photos of the current release, and hold its cost against the profile's budget."""
    result = probe("release", _packed(settings))
    if result.found is None:
        return [_failed("release", result)]
    measured: dict[str, Any] = result.found
    return [
        Finding("release", "ok", measured["said"]),
        _judge_input(settings, measured),
        _judge_latency(settings, measured),
        _judge_memory(settings, measured),
    ]


def check_delegates(settings: Settings) -> Finding | list[Finding]:
    """Try each delegate that the settings name, in a process of its own."""
    result = probe("delegates", _packed(settings))
    if result.code == "no_release":
        return []  # told by check_release, and there is no network to try them with
    if result.found is None:
        return _failed("delegates", result)
    tried = {name: (runs, said) for name, runs, said in result.found}
    wanted = settings.delegates[0]
    runs, said = tried.pop(wanted)
    if runs:
        return Finding("delegates", "ok", f"{wanted}: {said}")
    instead = next((name for name, (other_runs, _) in tried.items() if other_runs), None)
    if instead is None:
        cure = "mend the runtime or the release first, which are checked above"
        return Finding("delegates", "fault", f"{wanted}: {said}; no other answers either", cure)
    cure = f"mend that, or write delegates in {settings.data / 'device.toml'} without {wanted}"
    return Finding("delegates", "warning", f"{wanted}: {said}; {instead} answers in its place", cure)


def _judge_input(settings: Settings, measured: dict[str, Any]) -> Finding:
    size, most = measured["input_size"], settings.input_size
    found = f"the network takes {size}×{size} pixels"
    if size <= most:
        return Finding("input", "ok", f"{found}, at most {most} are meant for this device")
    cure = "publish a model with a smaller input for these devices, or raise input_size in device.toml"
    return Finding("input", "warning", f"{found}, more than the {most} that are meant for this device", cure)


def _judge_latency(settings: Settings, measured: dict[str, Any]) -> Finding:
    found = f"an answer takes {measured['latency_ms']:.1f} ms at the median of {measured['answers']}"
    if measured["latency_ms"] <= settings.latency_ms:
        return Finding("latency", "ok", f"{found}, of {settings.latency_ms:g} that it may take")
    cure = (
        "end what else runs here, raise threads, or take a faster delegate (shelfsight bench shows what "
        "costs); if it may take so long, raise latency_ms in device.toml"
    )
    return Finding("latency", "warning", f"{found}, more than the {settings.latency_ms:g} it may", cure)


def _judge_memory(settings: Settings, measured: dict[str, Any]) -> Finding:
    found = f"{measured['memory_mb']:.0f} MB in use while answering"
    cure = "publish fewer photos a product or a smaller model, or raise memory_mb in device.toml"
    if measured["memory_mb"] > settings.memory_mb:
        return Finding("memory", "warning", f"{found}, more than the {settings.memory_mb:g} it may", cure)
    here = look().memory_mb
    if here is not None and here < settings.memory_mb:
        found = f"{found}; {settings.memory_mb:g} MB are allowed, and this machine has {here:.0f}"
        return Finding("memory", "warning", found, "choose a profile for a smaller machine")
    return Finding("memory", "ok", f"{found}, of {settings.memory_mb:g} that it may use")


def _failed(name: str, result: Probed) -> Finding:
    if result.code == "no_release":
        return Finding(name, "fault", "nothing is installed", _SYNC)
    if result.code == "runtime_missing":
        return Finding(name, "fault", result.error, "mend the runtime first, which is checked above")
    if result.error:
        return Finding(name, "fault", result.error, f"{_SYNC}, then shelfsight doctor again")
    return Finding(name, "fault", result.died, _FIRST_THE_REST)


def _packed(settings: Settings) -> str:
    # It stands on a command line, which everybody on this machine can read: no password.
    return json.dumps(asdict(settings) | {"data": str(settings.data), "mqtt_password": ""})
