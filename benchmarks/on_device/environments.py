"""Environments of the peers, made once: they would otherwise bend each other's versions, and ours."""

import subprocess
import sys
from pathlib import Path

PEERS = {
    "mediapipe": ("mediapipe==1.2.2", "flatbuffers"),
    "vectors": ("hnswlib==0.8.0", "usearch==2.26.6", "faiss-cpu==1.15.1", "voyager==2.2.3", "numpy"),
}


def environment(name: str, folder: Path) -> Path | None:
    """Make the environment `name` under `folder` if it is not there; return its Python, None if it fails."""
    python = folder / name / "bin" / "python"
    done = folder / name / ".ready"
    if done.exists():
        return python
    try:
        subprocess.run([sys.executable, "-m", "venv", folder / name], check=True)
        install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PEERS[name]]
        subprocess.run(install, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"{name} cannot be installed here ({error}): its figures are left out", file=sys.stderr)
        return None
    done.touch()
    return python
