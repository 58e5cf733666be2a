#!/usr/bin/env bash
# Build what deploy/Dockerfile describes in a Debian 13 root, without a container engine, and run what an image must run.
# Arguments are build arguments: tools/image_check.sh ACCELERATOR=cuda
#
# The root is as bare as Debian's own image, so what the Dockerfile does not install is not there. Where none can be
# made, it says so and exits 0.
set -euo pipefail

readonly TARGET=image-check
readonly CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/perennial/image
readonly INCLUDED=
readonly WHY_X86='the image is made for'
# shellcheck source=tools/debian_root.sh
. "$(dirname "$0")/debian_root.sh"

main_inside() {
  # The one from outside shows other numbers for the same processes.
  mount -t proc proc /proc
  build_root
  list_files >"$CACHE/files"
  network_settings >"$CACHE/network-settings"
  export PASSED_ON
  cd "$PROJECT" && .venv/bin/python -m tools.image_check "$CACHE" "$@"
}

enter_namespaces "$0" "$@"
exit
