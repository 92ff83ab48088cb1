#!/bin/sh
# Make sure that what pip cannot install is here: a C++20 compiler, libcurl, OpenSSL, zstd, ISA-L (zlib where there is
# none), and a Python that can make virtual environments and build extensions. Missing packages are installed by apt (as root, or through sudo);
# where that is not possible, the one line to run is printed.
set -eu

python=${1:-python3}
missing=""

need() { missing="$missing $1"; }
case $(uname -m) in  # ISA-L is not made for every processor
x86_64 | aarch64) inflate_header=isa-l/igzip_lib.h inflate_package=libisal-dev ;;
*) inflate_header=zlib.h inflate_package=zlib1g-dev ;;
esac
header() { printf '#include <%s>\n' "$1" | c++ -E -x c++ - >/dev/null 2>&1; }

command -v c++ >/dev/null 2>&1 || need g++
if [ -z "$missing" ]; then
    header curl/curl.h || need libcurl4-openssl-dev
    header openssl/evp.h || need libssl-dev
    header zstd.h || need libzstd-dev
    header "$inflate_header" || need "$inflate_package"
else
    need libcurl4-openssl-dev
    need libssl-dev
    need libzstd-dev
    need "$inflate_package"
fi

if ! command -v "$python" >/dev/null 2>&1; then
    need python3
    need python3-venv
    need python3-dev
else
    "$python" - <<'EOF' || exit 1
import sys
if sys.version_info < (3, 10):
    sys.exit(f"fastslm needs Python 3.10 or newer, `{sys.executable}` is {sys.version.split()[0]};"
             " give another one: make PYTHON=python3.12 demo")
EOF
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    "$python" -c 'import venv, ensurepip' >/dev/null 2>&1 || need "python$version-venv"
    "$python" -c 'import os, sysconfig, sys
sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))' || need "python$version-dev"
fi

[ -n "$missing" ] || exit 0
missing=${missing# }

if ! command -v apt-get >/dev/null 2>&1; then
    echo "missing: $missing (Debian's names); install your system's packages of these, then run the command again" >&2
    exit 1
fi
if [ "$(id -u)" = 0 ]; then
    as_root=""
elif command -v sudo >/dev/null 2>&1 && { [ -t 0 ] || sudo -n true 2>/dev/null; }; then
    as_root="sudo"
else
    echo "missing system packages; run this line, then the command again:" >&2
    echo "    sudo apt-get update && sudo apt-get install -y $missing" >&2
    exit 1
fi
echo "installing system packages: $missing" >&2
$as_root apt-get update -qq >/dev/null
# shellcheck disable=SC2086  # one word each
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $missing >/dev/null
