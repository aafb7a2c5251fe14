#!/usr/bin/env bash
# Known vulnerabilities of the locked packages, by pip-audit: requirements-cpu.txt and requirements-gpu.txt, or the files
# named as arguments. Asks the package index for each package, so it needs a network.
#
#   bash scripts/audit.sh
#   bash scripts/audit.sh requirements-cpu.txt
#
# Installs pip-audit into a folder of its own, which goes afterwards; PIP_AUDIT=COMMAND takes one that is there.
# Before the lists it asks for one old package with known vulnerabilities: a mirror that has packages but not their
# advisories would otherwise be asked hundreds of times for nothing, or call everything safe.
# Exit code: 0 nothing known; 1 findings, listed; 2 the index gives no advisories, or some packages could not be looked up.
set -euo pipefail
case ${1:-} in -h | --help) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//p}' "$0"; exit 0 ;; esac
cd "$(dirname "$0")/.."

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
audit=${PIP_AUDIT:-}
if [ -z "$audit" ]; then
    python3 -m venv "$folder/venv"
    "$folder/venv/bin/pip" install --quiet --quiet "pip-audit==2.10.1" || { echo "audit: pip-audit could not be installed" >&2; exit 2; }
    audit=$folder/venv/bin/pip-audit
fi
look_up() { # FILE: into found.json
    # Its own exit code is 0 where it could look nothing up, and 1 for findings and failures alike.
    "$audit" --disable-pip --no-deps --progress-spinner off --format json --output "$folder/found.json" \
        --requirement "$1" >"$folder/log" 2>&1 || true
    [ -s "$folder/found.json" ] || { echo "audit: pip-audit failed on $1: $(tail -n 1 "$folder/log")" >&2; exit 2; }
}
known=jinja2==2.4.1
echo "$known" >"$folder/known.txt"
look_up "$folder/known.txt"
grep -q fix_versions "$folder/found.json" || {
    echo "audit: the package index gives no advisories (it knows none of $known, which has several); nothing was looked up" >&2
    exit 2
}

[ $# -gt 0 ] || set -- requirements-cpu.txt requirements-gpu.txt
worst=0
for file in "$@"; do
    look_up "$file"
    code=0
    python3 - "$file" "$folder/found.json" <<'PYTHON' || code=$?
import json
import sys

file, found = sys.argv[1:]
packages = json.load(open(found))["dependencies"]
skipped = [package for package in packages if "skip_reason" in package]
found = [(package, entry) for package in packages for entry in package.get("vulns", ())]
for package, entry in found:
    fixed = ", ".join(entry["fix_versions"]) or "no version yet"
    print(f"{file}: {package['name']} {package['version']}: {entry['id']}; fixed in {fixed}")
if skipped:
    print(f"{file}: {len(skipped)} of {len(packages)} packages could not be looked up; the first: "
          f"{skipped[0]['skip_reason']}", file=sys.stderr)
print(f"{file}: {len(packages) - len(skipped)} packages looked up, {len(found)} findings")
sys.exit(2 if skipped else 1 if found else 0)
PYTHON
    rm "$folder/found.json"
    [ "$code" -le "$worst" ] || worst=$code
done
exit "$worst"
