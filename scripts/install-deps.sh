#!/usr/bin/env bash
# Installs what building and testing bolide needs from the distribution's own packages (Debian 12, Ubuntu 24.04).
# Does nothing, and needs neither network nor root, when everything is there.
#   scripts/install-deps.sh [--dev]     --dev adds the tools of a developer: ccache, clang, clang-format, clang-tidy
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

packages=(
  g++ cmake ninja-build pkg-config git                         # tools of the build
  python3 python3-venv                                         # checks, command-line tests, model conversion
  xz-utils                                                     # packed test data
  libfmt-dev libspdlog-dev nlohmann-json3-dev libcli11-dev     # text, logs, JSON, arguments
  libpcre2-dev libutf8proc-dev libsentencepiece-dev            # tokenizers
  libhwy-dev                                                   # SIMD
  libedit-dev                                                  # line editing in chat
  catch2                                                       # tests
)
dev_packages=(ccache clang clang-format clang-tidy)

for argument in "$@"; do
  case "$argument" in
    --dev) packages+=("${dev_packages[@]}") ;;
    -h | --help)
      sed -n '2,4s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
      exit 0
      ;;
    *)
      printf 'error: unknown argument %s; known: --dev\n' "$argument" >&2
      exit 2
      ;;
  esac
done

if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
  fail "this system has no apt-get. Install the equivalents of these Debian packages by hand, then run cmake --preset release:
  ${packages[*]}"
fi

system="an unknown system"
supported=no
if [[ -r /etc/os-release ]]; then
  system="$(. /etc/os-release && echo "${PRETTY_NAME:-$ID}")"
  case "$(. /etc/os-release && echo "${ID:-}-${VERSION_ID:-}")" in
    debian-12 | ubuntu-24.04) supported=yes ;;
  esac
fi

missing=()
for package in "${packages[@]}"; do
  # A virtual package (pkg-config became one, provided by pkgconf) has no status of its own: ask for the provider.
  status="$(dpkg-query -W -f='${Status}\n' "$package" 2>/dev/null || true)"
  if [[ "$status" != *"install ok installed"* ]]; then
    if [[ "$package" == pkg-config ]] && command -v pkg-config >/dev/null; then continue; fi
    missing+=("$package")
  fi
done
if ((${#missing[@]} == 0)); then
  say "packages: all ${#packages[@]} are installed"
  exit 0
fi

if [[ "$supported" == no ]]; then
  say "packages: $system is not one of the tested systems (Debian 12, Ubuntu 24.04); trying the same package names"
fi
as_root=()
if [[ "$(id -u)" != 0 ]]; then
  if ! command -v sudo >/dev/null; then
    fail "missing packages, and neither root nor sudo to install them. As root run:
  apt-get update && apt-get install --no-install-recommends ${missing[*]}"
  fi
  as_root=(sudo)
fi

say "packages: installing ${#missing[@]} of ${#packages[@]} on $system: ${missing[*]}"
# env after sudo, because sudo drops the caller's environment.
apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300)
if ! "${apt[@]}" update; then
  say "packages: 'apt-get update' failed; trying with the package lists at hand"
fi
if ! "${apt[@]}" install --no-install-recommends "${missing[@]}" </dev/null; then
  fail "apt-get could not install: ${missing[*]}
  Its reason is above. Check the network and that the distribution's main (on Ubuntu also universe) component is enabled."
fi
