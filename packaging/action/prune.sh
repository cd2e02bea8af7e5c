#!/usr/bin/env bash
# The action's work: prunes MODEL to OUTPUT with ARGUMENTS, writes the summary, and ends with the program's exit code.
# On a machine of one's own: MODEL=a.onnx OUTPUT=b.onnx ARGUMENTS="--keep 0.3" bash prune.sh
set -uo pipefail

folder=${RUNNER_TEMP:-$(mktemp -d)}
report=$folder/onnx-prune.json
# Words as a shell would have them, without its substitutions.
mapfile -t arguments < <(python3 -c 'import shlex, sys; print(*shlex.split(sys.argv[1]), sep="\n")' "${ARGUMENTS:-}")
[ "${#arguments[@]}" = 1 ] && [ -z "${arguments[0]}" ] && arguments=()

onnx-prune "$MODEL" "$OUTPUT" ${arguments[@]+"${arguments[@]}"} --json > "$report"
code=$?

summary=${GITHUB_STEP_SUMMARY:-/dev/stdout}
python3 "$(dirname "${BASH_SOURCE[0]}")/summary.py" "$report" "$code" >> "$summary"
if [ -n "${GITHUB_OUTPUT:-}" ]; then
  {
    echo "report=$report"
    if [ "$code" = 0 ]; then echo "passed=true"; else echo "passed=false"; fi
  } >> "$GITHUB_OUTPUT"
fi
exit "$code"
