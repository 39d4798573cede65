#!/bin/sh
# Installs Shelfsight from this folder, without a network:  ./install.sh [FOLDER]
# FOLDER, ~/shelfsight by default, becomes a virtual environment. PYTHON names the Python to use.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
folder=${1:-$HOME/shelfsight}

say() { sed -n "s/^  \"$1\": \"\(.*\)\",*$/\1/p" "$here/wheelhouse.json"; }
refuse() { echo "not installed: $1" >&2; exit 1; }

echo "checking the folder"
(cd "$here" && sha256sum --check --quiet --strict SHA256SUMS) \
  || refuse "a file is not what it was when the folder was built: copy it again"

PYTHON=${PYTHON:-python$(say python)}
command -v "$PYTHON" >/dev/null 2>&1 \
  || refuse "this folder is for Python $(say python), and there is no $PYTHON: install it, or name it with PYTHON=…"

# What counts is the program, not the kernel: a Raspberry Pi with a kernel of 64 bits may have programs of 32.
"$PYTHON" - "$(say machine)" "$(say python)" "$(say glibc)" <<'END' || exit 1
import platform, sys, sysconfig
machine, python, glibc = sys.argv[1:]
here = sysconfig.get_platform().rpartition("-")[2]
version = "%d.%d" % sys.version_info[:2]
numbers = lambda text: [int(part) for part in text.split(".")[:2]]
kind, found = platform.libc_ver()
if here != machine:
    sys.exit(f"not installed: this folder is for {machine}, and this Python is for {here}: build one for that")
if version != python:
    sys.exit(f"not installed: this folder is for Python {python}, and this is {version}: name another with PYTHON=…")
if kind != "glibc" or numbers(found) < numbers(glibc):
    sys.exit(f"not installed: this folder needs glibc {glibc}, and this is {kind or 'no glibc'} {found}: update the system")
END

echo "installing into $folder"
"$PYTHON" -m venv "$folder" || refuse "no virtual environment: apt-get install python$(say python)-venv"
"$folder/bin/python" -m pip --disable-pip-version-check install --quiet --no-index \
  --find-links "$here/wheels" "shelfsight[$(say extras)]==$(say version)"
echo "installed: $folder/bin/shelfsight doctor looks at this machine and says what comes next"
