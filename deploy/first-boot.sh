#!/usr/bin/env bash
# Builds the engine of a bundle on the device that will run it, once: run it at every start, it does nothing when one fits.
#
#   first-boot.sh [BUNDLE]        default: $EDGE_MTL_BUNDLE, else the newest in ./bundles, else the demo bundle
#
# INT8 first; where no INT8 engine keeps its accuracy or can be built, half precision, then full. If nothing can be built the
# script fails, and the node still runs the bundle's own graph.
set -euo pipefail

bundle="${1:-${EDGE_MTL_BUNDLE:-}}"
arguments=()
if [ -n "$bundle" ]; then arguments+=("$bundle"); fi

# An engine that cannot run here among others (after an update of the driver, say) is a reason to build again.
fits() {
    edge-mtl engines "${arguments[@]}" --json | python3 -c '
import json, sys
engines = json.load(sys.stdin)["engines"]
sys.exit(0 if engines and all(engine["problem"] is None for engine in engines) else 1)'
}

if fits; then
    echo "first-boot: an engine that fits this device is there already"
    exit 0
fi
edge-mtl engines "${arguments[@]}" --remove-stale > /dev/null
# Exit code 8: accuracy; 9: cannot be built. Anything else is not cured by another precision.
for precision in int8 fp16 fp32; do
    code=0
    edge-mtl build-engine "${arguments[@]}" "--$precision" || code=$?
    case "$code" in
        0)
            echo "first-boot: built --$precision"
            exit 0
            ;;
        8 | 9) echo "first-boot: --$precision did not work out (exit code $code)" >&2 ;;
        *) exit "$code" ;;
    esac
done
echo "first-boot: no engine could be built; the bundle's own graph will run" >&2
exit 9
