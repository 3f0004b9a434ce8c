#!/usr/bin/env bash
# The test command: installs what is missing, builds (release, with the CUDA backend where a toolkit is found), runs all tests, then
# builds with AddressSanitizer and UndefinedBehaviorSanitizer and runs them again. Needs no GPU, no terminal and no network beyond the
# distribution's packages. The last line reads "tests: N passed, N failed, N skipped"; the exit status is 0 only if none failed.
#   scripts/test.sh [--no-asan]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
exec </dev/null

presets=(release asan)
for argument in "$@"; do
  case "$argument" in
    --no-asan) presets=(release) ;;
    -h | --help)
      sed -n '2,5s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
      exit 0
      ;;
    *)
      printf 'error: unknown argument %s; known: --no-asan\n' "$argument" >&2
      exit 2
      ;;
  esac
done

export PYTHONDONTWRITEBYTECODE=1
"$ROOT/scripts/install-deps.sh"
# Cheap and telling, so before any compilation; ctest runs it once more, with its own tests.
say "structure: scripts/check_structure.py"
python3 "$ROOT/scripts/check_structure.py" "$ROOT"

reports=()
for preset in "${presets[@]}"; do
  build="$ROOT/build/$preset"
  jobs="$(build_jobs)"
  say "$preset: configure and build in $build with $jobs jobs"
  started=$SECONDS
  configure_preset "$preset" -DBOLIDE_TESTS=ON
  cmake --build "$build" -j "$jobs"
  say "$preset: built in $((SECONDS - started)) s; running the tests"
  started=$SECONDS
  report="$build/tests.xml"
  rm -f "$report"
  # Outcomes are counted from the report, so a failing test does not end the script here.
  (cd "$ROOT" && ctest --preset "$preset" --output-junit "$report" --test-output-size-passed 4194304 \
    --test-output-size-failed 4194304) || true
  say "$preset: tested in $((SECONDS - started)) s"
  reports+=("$preset=$report")
done

python3 "$ROOT/scripts/summarize_tests.py" "${reports[@]}"
