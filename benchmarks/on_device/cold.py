"""Ours, from nothing to the first answer: `python cold.py DATA PHOTO`; prints the memory that it took."""

import json
import sys
from pathlib import Path

from devices.config import load_settings
from devices.device import Device

device = Device(load_settings(Path(sys.argv[1])))
device.see(Path(sys.argv[2]).read_bytes())
status = Path("/proc/self/status").read_text()
(kilobytes,) = (int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
print(json.dumps({"rss_mb": kilobytes * 1024 / 1e6}))
