"""What a fresh process of this device takes: the time to its first answer, and its memory."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from devices.config import Settings, keep_settings
from edge.errors import RuntimeMissing

# What a device process is, as short as can be, so that its size is the device's and not the measuring's; with
# that of the processes that run a vendor's delegate for it.
_DEVICE_PROCESS = """
import sys
from pathlib import Path
from devices.config import load_settings
from devices.device import Device
device = Device(load_settings(Path(sys.argv[1])))
photo = Path(sys.argv[2]).read_bytes()
for _ in range(5):
    device.see(photo)
if Path("/proc/self/status").exists():
    import os
    kilobytes = 0
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            lines = [line.split() for line in status.read_text().splitlines()]
        except OSError:
            continue
        facts = {words[0]: words[1] for words in lines if len(words) > 1}
        if str(os.getpid()) in (facts["Pid:"], facts["PPid:"]):
            kilobytes += int(facts.get("VmRSS:", 0))
    print(kilobytes)
else:
    import resource
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(peak // 1024 if sys.platform == "darwin" else peak)
"""
_RUN_BY = ("threads", "runtime", "variant", "edgetpu_library", "gpu_library", "external_library")


def settle(data: Path, settings: Settings) -> None:
    """Write into the device folder `data` by what the network is run, so that fresh processes do the same.

    Raises:
        StorageUnusable, NoSpace: the folder cannot be written.
    """
    values = {name: getattr(settings, name) for name in _RUN_BY}
    given = {name: str(value) for name, value in values.items() if value is not None}
    keep_settings(data, {**given, "delegates": ",".join(settings.delegates)})


def cold_start_s(data: Path, photo: Path) -> float:
    """Time a fresh `shelfsight match` from its start until its answer is there.

    Raises:
        RuntimeMissing: it fails, though this process can do the same.
    """
    program = "from devices.commands import main; main()"
    began = time.perf_counter()
    answer = _run(program, "match", str(photo), "--json", "--data", str(data))
    seconds = time.perf_counter() - began
    if "verdict" not in json.loads(answer):
        raise RuntimeMissing(f"a fresh process answers {answer.strip()!r}; run `shelfsight doctor`")
    return seconds


def device_rss_mb(data: Path, photo: Path) -> float:
    """Measure the memory of a fresh device process that has answered a few times, in 10**6 bytes.

    Raises:
        RuntimeMissing: it fails, though this process can do the same.
    """
    return int(_run(_DEVICE_PROCESS, str(data), str(photo))) * 1024 / 1e6


def _run(program: str, *arguments: str) -> str:
    """Run Python code in a fresh process with no setting of this machine's own, and return what it prints."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SHELFSIGHT_")}
    root = str(Path(__file__).parent.parent)
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [root, environment.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeMissing(
            f"a fresh process fails ({done.stderr.strip() or done.returncode}); run `shelfsight doctor`"
        )
    return done.stdout
