#!/usr/bin/env bash
# Run the unit tests and one end-to-end test on the `current` stack, which needs a newer glibc than Debian 12 has.
#
# It builds a Debian 13 root once, in a cache folder, copies the project into it, and runs `make setup` and
# pytest there. Where that can't be done, it says so and exits 0.
set -euo pipefail

readonly TARGET=test-current
readonly CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/perennial/trixie
readonly INCLUDED=python3,python3-venv,python3-dev,gcc,g++,make,ca-certificates
readonly WHY_X86='TFX 1.21 is tested on'
# `smoke` marks the one end-to-end test that is worth its minutes here.
readonly TESTS='not e2e or smoke'
# shellcheck source=tools/debian_root.sh
. "$(dirname "$0")/debian_root.sh"

mount_kernel() {
  mount -t proc proc "$ROOT/proc"
  mount --rbind /dev "$ROOT/dev"
}

copy_network_settings() {
  local file
  network_settings | while IFS= read -r file; do
    mkdir -p "$ROOT$(dirname "$file")"
    cp --remove-destination --dereference "$file" "$ROOT$file"
  done
}

# The .venv/ of the last run stays.
copy_project() {
  mkdir -p "$ROOT/perennial"
  find "$ROOT/perennial" -mindepth 1 -maxdepth 1 -not -name .venv -exec rm -rf {} +
  list_files | tar --create --null --no-recursion --directory="$PROJECT" --files-from=- --file=- |
    tar --extract --no-same-owner --directory="$ROOT/perennial" --file=-
}

run_inside() {
  local name settings=(HOME="$HOME" LANG=C.UTF-8 PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin)
  while IFS= read -r name; do settings+=("$name=${!name}"); done < <(compgen -e | grep -E "$PASSED_ON")
  mkdir -p "$ROOT$HOME"
  chroot "$ROOT" env -i "${settings[@]}" bash -c "cd /perennial && $1"
}

main_inside() {
  build_root
  mount_kernel
  copy_network_settings
  copy_project
  step 'make setup'
  run_inside 'make --no-print-directory setup PYTHON=python3 && .venv/bin/python -m pip check'
  step "pytest -m '$TESTS'"
  run_inside ".venv/bin/python -m pytest -n 2 --dist loadgroup -m '$TESTS'"
  step 'Done'
}

enter_namespaces "$0" "$@"
exit
