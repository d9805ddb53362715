#!/usr/bin/env bash
# Fetches the CUDA compiler without root: NVIDIA's own Python packages of pinned versions, about 130 MB, in a Python
# environment of their own. `cargo build` finds the default folder by itself. Running it again does nothing.
#
#     scripts/cuda-toolkit.sh [--disassembler] [--libraries] [--sanitizer] [DIR]
#
#     DIR               default: ${XDG_CACHE_HOME:-~/.cache}/songrnn-fast/cuda-toolkit
#     --disassembler    also cuobjdump and nvdisasm, to look at the machine code
#     --libraries       also cuBLAS, to run on a machine with a driver and no toolkit (large)
#     --sanitizer       also compute-sanitizer, for scripts/gpu-check.sh
#
# The last line on standard output is the one to give to the shell. Messages go to standard error.
set -euo pipefail

packages=(
  nvidia-cuda-nvcc==13.0.88
  nvidia-nvvm==13.0.88
  nvidia-cuda-crt==13.0.88
  nvidia-cuda-runtime==13.0.96
  nvidia-cuda-cccl==13.0.85
)
say() { printf 'cuda-toolkit: %s\n' "$*" >&2; }
fail() {
  say "error: $*"
  exit 1
}

folder=
for argument in "$@"; do
  case $argument in
    --disassembler) packages+=(nvidia-cuda-cuobjdump nvidia-cuda-nvdisasm) ;;
    --libraries) packages+=(nvidia-cublas) ;;
    --sanitizer) packages+=(nvidia-cuda-sanitizer-api) ;;
    -h | --help)
      sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p;}' "$0"
      exit 0
      ;;
    -*) fail "unknown option $argument (see --help)" ;;
    *)
      [ -z "$folder" ] || fail "two folders given: $folder and $argument"
      folder=$argument
      ;;
  esac
done
repository=$(cd "$(dirname "$0")/.." && pwd)
default=${XDG_CACHE_HOME:-${HOME:-}/.cache}/songrnn-fast/cuda-toolkit
folder=${folder:-$default}
case $folder in /*) ;; *) folder=$PWD/$folder ;; esac

command -v python3 >/dev/null || fail "python3 is needed (3.8 or newer) and not in PATH; install it, or install NVIDIA's CUDA toolkit instead"
case $(uname -s)-$(uname -m) in
  Linux-x86_64 | Linux-aarch64) ;;
  *) fail "NVIDIA publishes these packages for Linux on x86_64 and aarch64; here ($(uname -s) $(uname -m)) install the CUDA toolkit and set CUDA_HOME" ;;
esac

# The environment. Debian splits venv off from python3: then virtualenv may be there, and else pip's --target serves too,
# in the same layout.
python=$folder/bin/python3
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! "$python" -m pip --version >/dev/null 2>&1; then
  mkdir -p "$folder" || fail "cannot write to $folder"
  if python3 -m venv "$folder" >"$log" 2>&1 || python3 -m virtualenv --quiet "$folder" >>"$log" 2>&1; then
    :
  elif python3 -m pip --version >/dev/null 2>&1; then
    python=
  else
    cat "$log" >&2
    fail "python3 has neither venv, virtualenv nor pip: install one of them (Debian: python3-venv)"
  fi
fi
if [ -n "$python" ]; then
  site=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
else
  site=$folder/lib/python3/site-packages
fi

# What is there already? Of a package without a pinned version any will do.
wanted=$(
  python3 - "$site" "${packages[@]}" <<'PYTHON'
import pathlib, re, sys
there = {}
for info in pathlib.Path(sys.argv[1]).glob("*.dist-info"):
    name, _, version = info.name[: -len(".dist-info")].rpartition("-")
    there[re.sub(r"[-_.]+", "-", name).lower()] = version
for package in sys.argv[2:]:
    name, _, version = package.partition("==")
    if name not in there or (version and there[name] != version):
        print(package)
PYTHON
)
if [ -z "$wanted" ]; then
  say "everything is in $folder already"
else
  say "installing into $folder: ${wanted//$'\n'/ }"
  # Without their dependencies: the list is complete, and the libraries would pull in what nothing here uses.
  options=(install --disable-pip-version-check --no-input --no-deps --only-binary=:all: --quiet)
  installed=true
  # shellcheck disable=SC2086 # one word a package
  if [ -n "$python" ]; then
    "$python" -m pip "${options[@]}" $wanted >"$log" 2>&1 || installed=false
  else
    mkdir -p "$site"
    python3 -m pip "${options[@]}" --upgrade --target "$site" $wanted >"$log" 2>&1 || installed=false
  fi
  if ! $installed; then
    tail -n 15 "$log" >&2
    fail "pip could not install them: is there a network, and room for 500 MB in $folder? Behind a proxy or a mirror, pip's own settings apply (PIP_INDEX_URL, HTTPS_PROXY)"
  fi
fi

nvcc=$(find "$site/nvidia" -path '*/bin/nvcc' 2>/dev/null | sort | tail -n 1)
[ -n "$nvcc" ] || fail "the packages are installed, but there is no nvcc below $site/nvidia; remove $folder and try again"
version=$("$nvcc" --version 2>&1) || fail "$nvcc does not run: $version"
say "$(grep release <<<"$version")"
command -v gcc >/dev/null || say "warning: nvcc needs a host compiler and there is no gcc in PATH (Debian: g++)"
# cargo looks for a compiler again when the build script is newer than its last run.
if [ -n "$wanted" ] && [ -f "$repository/build.rs" ]; then touch "$repository/build.rs"; fi
if [ "$folder" = "$default" ]; then say "cargo build finds it there; another program can use"; fi
printf 'export SONGRNN_NVCC=%q\n' "$nvcc"
