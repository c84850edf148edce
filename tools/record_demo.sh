#!/bin/sh
# Makes src/ftdiag/data/demo.ftdiag anew: samples/demo/shop.py, 15 seconds, recorded for real.
#
# usage: tools/record_demo.sh /path/to/python3.14t [OUTPUT]      (with `ftdiag` on PATH)
#
# Program, host name, directory and other processes are those of nobody: in namespaces of its own, so root is
# not needed.
set -eu
python=$(readlink -f "$1")
output=${2:-src/ftdiag/data/demo.ftdiag}
cd "$(dirname "$0")/.."
export python output ftdiag="$(command -v ftdiag)" shop="$PWD/samples/demo/shop.py"
exec unshare --map-root-user --mount --uts --pid --fork --mount-proc sh -eu -c '
    hostname demo
    mount -t tmpfs tmpfs /srv
    mkdir /srv/shop /srv/python
    mount --bind "$(dirname "$(dirname "$python")")" /srv/python
    cp "$shop" /srv/shop
    rm -f "$output.new"
    (cd /srv/shop && exec env -i HOME=/srv PATH=/srv/python/bin:/usr/bin:/bin \
        "$(basename "$python")" shop.py) > /dev/null 2>&1 &
    program=$!
    trap "kill $program" EXIT
    sleep 2
    "$ftdiag" record "$program" -o "$output.new" --duration 15
    chmod 644 "$output.new"
    mv "$output.new" "$output"
'
