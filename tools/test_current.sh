#!/usr/bin/env bash
# Run the unit tests and one end-to-end test on the `current` stack, which needs a newer glibc than Debian 12 has.
#
# It builds a Debian 13 root once, in a cache folder, copies the project into it, and runs `make setup` and
# pytest there. Everything happens in a mount and a process namespace of its own: when this script ends, however
# it ends, nothing stays mounted and nothing goes on running. Where that can't be done, it says so and exits 0.
set -euo pipefail

readonly PACKAGES=python3,python3-venv,python3-dev,gcc,g++,make,ca-certificates
readonly PROJECT=$(cd "$(dirname "$0")/.." && pwd)
readonly CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/perennial/trixie
readonly ROOT=$CACHE/root
# `smoke` marks the one end-to-end test that is worth its minutes here.
readonly TESTS='not e2e or smoke'
# What reaches the package registries from here must do so from inside.
readonly PASSED_ON='^(PIP_.*|UV_(INDEX|DEFAULT_INDEX|EXTRA_INDEX_URL|HTTP_TIMEOUT|SYSTEM_CERTS)|(https?|no|all)_proxy|(HTTPS?|NO|ALL)_PROXY|SSL_CERT_(FILE|DIR)|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE|CI|TERM)$'

skip() {
  echo "SKIPPED make test-current: $1"
  exit 0
}

step() {
  echo "[test-current, $((SECONDS))s] $1"
}

check_host() {
  [ "$(uname -sm)" = 'Linux x86_64' ] || skip "TFX 1.21 is tested on Linux x86_64, and this is $(uname -sm)."
  [ "$(id -u)" = 0 ] || skip 'building a Debian 13 root needs root; run it with sudo.'
  unshare --mount --pid --fork true 2>/dev/null || skip 'this host allows no mount namespaces (in a container, run it privileged).'
  command -v debootstrap >/dev/null || install_debootstrap
}

install_debootstrap() {
  step 'Installing debootstrap'
  command -v apt-get >/dev/null || skip 'debootstrap is missing, and there is no apt-get to install it with.'
  local log
  log=$( (apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends debootstrap) 2>&1) ||
    skip "debootstrap is missing and could not be installed: $(tail -n 1 <<<"$log")"
}

# The Debian mirror that this host uses itself; nothing on another distribution, then debootstrap's default counts.
host_mirror() {
  grep -q '^ID=debian' /etc/os-release || return 0
  apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Component: main' 2>/dev/null | grep '/debian/*$' | head -n 1 || true
}

build_root() {
  local made_from=$CACHE/made-from
  [ "$(cat "$made_from" 2>/dev/null)" = "$PACKAGES" ] && return
  step "Building a Debian 13 root in $ROOT"
  rm -rf "$ROOT" "$made_from" && mkdir -p "$ROOT"
  debootstrap --variant=minbase --include="$PACKAGES" trixie "$ROOT" $(host_mirror) >"$CACHE/debootstrap.log" 2>&1 || {
    tail -n 20 "$CACHE/debootstrap.log" >&2
    echo "make test-current: debootstrap failed, see $CACHE/debootstrap.log; mend that and run it again." >&2
    return 1
  }
  echo "$PACKAGES" >"$made_from"
}

mount_kernel() {
  mount -t proc proc "$ROOT/proc"
  mount --rbind /dev "$ROOT/dev"
}

# Names and addresses, certificates, and pip's settings, as this host has them.
copy_network_settings() {
  local file
  for file in /etc/resolv.conf /etc/hosts /etc/ssl/certs/ca-certificates.crt /etc/pip.conf "$HOME/.config/pip/pip.conf" \
    "$HOME/.pip/pip.conf" "${PIP_CONFIG_FILE:-}" "${PIP_CERT:-}" "${SSL_CERT_FILE:-}" "${REQUESTS_CA_BUNDLE:-}" "${CURL_CA_BUNDLE:-}"; do
    [ -f "$file" ] || continue
    mkdir -p "$ROOT$(dirname "$file")"
    cp --remove-destination --dereference "$file" "$ROOT$file"
  done
}

# The tree as it is now: tracked, and new files that git does not ignore. The .venv/ of the last run stays.
copy_project() {
  mkdir -p "$ROOT/perennial"
  find "$ROOT/perennial" -mindepth 1 -maxdepth 1 -not -name .venv -exec rm -rf {} +
  (cd "$PROJECT" && list_files | tar --create --null --no-recursion --files-from=- --file=-) |
    tar --extract --no-same-owner --directory="$ROOT/perennial" --file=-
}

list_files() {
  local file
  git -c safe.directory='*' ls-files -z --cached --others --exclude-standard | while IFS= read -r -d '' file; do
    if [ -e "$file" ] || [ -L "$file" ]; then printf '%s\0' "$file"; fi
  done
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

main() {
  if [ "${1:-}" = --inside ]; then
    main_inside
    return
  fi
  check_host
  mkdir -p "$CACHE"
  # One run at a time: they share the root.
  exec 9>"$CACHE/lock" && flock 9
  # unshare ignores signals, so this shell stays to pass them on; should it be killed itself, pdeathsig does it.
  setpriv --pdeathsig KILL unshare --mount --propagation private --pid --fork --kill-child "$0" --inside &
  trap 'kill -KILL $! 2>/dev/null; exit 130' INT TERM HUP
  wait $!
}

main "$@"
exit
