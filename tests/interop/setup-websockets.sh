#!/usr/bin/env bash
# Puts WebSocket for Python (the package websockets) into a folder (default: target/interop), and prints the path to import it from. Does nothing more when it is
# there already. Needs pip and, the first time, the package index.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

version=17.4
root=${1:-../../target/interop}
dir=$root/websockets-$version

if [ ! -d "$dir/websockets" ]; then
    command -v pip3 >/dev/null || { echo "pip3 is missing: install python3-pip" >&2; exit 1; }
    mkdir -p "$root"
    # Beside, then moved: a download that breaks off leaves nothing that looks whole.
    part=$(mktemp -d "$root/part.XXXXXX")
    trap 'rm -rf "$part"' EXIT
    pip3 install --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
        --target "$part" --requirement requirements-websockets.txt >&2
    # Somebody else may have been quicker.
    mv -T "$part" "$dir" 2>/dev/null || [ -d "$dir/websockets" ]
fi
realpath "$dir"
