#!/bin/bash
# Counts the instructions of each micro-benchmark with callgrind, without its set-up, and holds them against what is recorded:
# fails where a case takes over 5 % more, or is in one of the two alone. RECORD=1 records instead; docs/benchmarks/README.md.
set -euo pipefail
cd "$(dirname "$0")/.."

recorded=docs/benchmarks/instructions.json
# What callgrind writes stays here for callgrind_annotate.
out=$(realpath "${CARGO_TARGET_DIR:-target}")/instructions
rm -rf "$out"
mkdir -p "$out"
# Else criterion asks cargo for the place, in a process that callgrind would report on too.
export CRITERION_HOME=$out/criterion

cargo bench --no-run -p policy -p rust-openflow -p reconcile -p pipeline -p ovsdb --bench '*' --message-format=json >"$out/build"
executables=$(jq -r 'select(.executable and .target.kind == ["bench"]) | .executable' "$out/build")

# A case is named "what/count unit".
for executable in $executables; do
  bench=$(basename "${executable%-*}")
  # What is measured, and nothing else, happens in the functions of a module of that name.
  toggles=$(nm -C "$executable" | sed -n 's/.* \([a-z_]*::workload::[a-z_]*\)$/--toggle-collect=\1/p')
  "$executable" --bench --list | sed -n 's/: benchmark$//p' | while read -r name; do
    case="$bench: ${name%/*}"
    # shellcheck disable=SC2086 # one option a word
    valgrind --tool=callgrind --callgrind-out-file="$out/$case" $toggles \
      "$executable" --bench --test --exact -- "$name" >"$out/log" 2>&1 </dev/null || { cat "$out/log" >&2; exit 1; }
    echo "$case/${name##*/}/$(sed -n 's/^summary: //p' "$out/$case")"
  done
done | jq -nRS '[inputs / "/" | {(.[0]): {instructions: .[2] | tonumber, of: .[1]}}] | add' >"$out/measured.json"

[ -z "${RECORD:-}" ] || cp "$out/measured.json" $recorded
jq -nr --slurpfile was $recorded --slurpfile is "$out/measured.json" '
  ($was[0] + $is[0] | keys)[] as $case | $was[0][$case] as $was | $is[0][$case] as $is |
  if $was and $is then
    ($is.instructions / $was.instructions * 1000 - 1000 | round / 10 + 0) as $percent |
    ($is.of / " ") as [$count, $unit] |
    [$case, $is.of, $is.instructions, ($is.instructions / ($count | tonumber) | round), $percent,
     if $percent > 5 then "MORE" else "" end]
  else [$case, ($is // $was).of, $is.instructions, "", "", if $is then "NOT RECORDED" else "GONE" end] end
  | "| \(map(tostring) | join(" | ")) |"' >"$out/table"
echo "| case | of | instructions | of one | % above the record | |"
echo "|---|---|---:|---:|---:|---|"
cat "$out/table"
! grep -Eq '(MORE|NOT RECORDED|GONE) \|$' "$out/table"
