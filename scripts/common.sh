# shellcheck shell=bash
# Shared by the scripts of this folder; sourced, never run. Sets ROOT, the checkout the scripts belong to.
ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"

say() { printf '==> %s\n' "$*" >&2; }

fail() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# Parallel compile jobs: one per core this process may use, but at least 1.5 GiB of free memory each, because one translation unit
# with SIMD targets or one .cu file can take that much.
build_jobs() {
  local cores memory_kib by_memory
  cores="$(nproc)"
  memory_kib="$(awk '/^MemAvailable:/ { print $2 }' /proc/meminfo)"
  by_memory=$((${memory_kib:-0} / 1572864))
  if ((by_memory < 1)); then by_memory=1; fi
  echo $((cores < by_memory ? cores : by_memory))
}

# Configures a preset: configure_preset NAME [cmake arguments...]. Uses ccache where it is installed (CMake takes the launchers from
# the environment when it configures a build folder for the first time).
configure_preset() {
  local preset="$1"
  shift
  if command -v ccache >/dev/null; then
    export CMAKE_CXX_COMPILER_LAUNCHER=ccache CMAKE_CUDA_COMPILER_LAUNCHER=ccache
  fi
  (cd "$ROOT" && cmake --preset "$preset" "$@")
}
