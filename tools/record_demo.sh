#!/bin/sh
# Makes src/ftdiag/data/demo.ftdiag anew: hot_lock.py with eight threads, 15 seconds, recorded for real.
#
# usage: tools/record_demo.sh /path/to/python3.14t [OUTPUT]      (with `ftdiag` on PATH, an idle machine)
#
# Program, host name, directory and other processes are those of nobody: in namespaces of its own, so root is
# not needed.
set -eu
python=$(readlink -f "$1")
output=${2:-src/ftdiag/data/demo.ftdiag}
cd "$(dirname "$0")/.."
export python output ftdiag="$(command -v ftdiag)" workloads="$PWD/samples/workloads"
exec unshare --map-root-user --mount --uts --pid --fork --mount-proc sh -eu -c '
    hostname demo
    mount -t tmpfs tmpfs /srv
    mkdir /srv/shop
    cp "$workloads/hot_lock.py" "$workloads/throughput.py" /srv/shop
    rm -f "$output.new"
    (cd /srv/shop && exec env -i HOME=/srv PATH="$(dirname "$python"):/usr/bin:/bin" \
        "$(basename "$python")" hot_lock.py --threads 8) > /dev/null 2>&1 &
    program=$!
    trap "kill $program" EXIT
    sleep 2
    "$ftdiag" record "$program" -o "$output.new" --duration 15
    chmod 644 "$output.new"
    mv "$output.new" "$output"
'
