# A Debian 13 root in a cache folder, for what this host's own C library is too old for. To be sourced.
#
# Who sources it sets TARGET (the make target that messages name), CACHE (a folder of its own), INCLUDED (packages,
# separated by commas) and WHY_X86 (what fails elsewhere), then calls `enter_namespaces "$0" "$@"`, which calls
# `main_inside "$@"` in a mount and a process namespace of its own: when that ends, however it ends, nothing stays mounted
# and nothing goes on running. Where that can't be done, it says so and exits 0.
readonly PROJECT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly ROOT=$CACHE/root
# What reaches the package registries from here must do so from inside.
readonly PASSED_ON='^(PIP_.*|UV_(INDEX|DEFAULT_INDEX|EXTRA_INDEX_URL|HTTP_TIMEOUT|SYSTEM_CERTS)|(https?|no|all)_proxy|(HTTPS?|NO|ALL)_PROXY|SSL_CERT_(FILE|DIR)|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE|CI|TERM)$'

skip() {
  echo "SKIPPED make $TARGET: $1"
  exit 0
}

step() {
  echo "[$TARGET, $((SECONDS))s] $1"
}

check_host() {
  [ "$(uname -sm)" = 'Linux x86_64' ] || skip "$WHY_X86 Linux x86_64, and this is $(uname -sm)."
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
  [ -f "$made_from" ] && [ "$(cat "$made_from")" = "$INCLUDED" ] && return
  step "Building a Debian 13 root in $ROOT"
  rm -rf "$ROOT" "$made_from" && mkdir -p "$ROOT"
  debootstrap --variant=minbase ${INCLUDED:+"--include=$INCLUDED"} trixie "$ROOT" $(host_mirror) >"$CACHE/debootstrap.log" 2>&1 || {
    tail -n 20 "$CACHE/debootstrap.log" >&2
    echo "make $TARGET: debootstrap failed, see $CACHE/debootstrap.log; mend that and run it again." >&2
    return 1
  }
  echo "$INCLUDED" >"$made_from"
}

# Files that tell a root about names and addresses, certificates, and pip's settings, as this host has them.
network_settings() {
  local file
  for file in /etc/resolv.conf /etc/hosts /etc/ssl/certs/ca-certificates.crt /etc/pip.conf "$HOME/.config/pip/pip.conf" \
    "$HOME/.pip/pip.conf" "${PIP_CONFIG_FILE:-}" "${PIP_CERT:-}" "${SSL_CERT_FILE:-}" "${REQUESTS_CA_BUNDLE:-}" "${CURL_CA_BUNDLE:-}"; do
    if [ -f "$file" ]; then echo "$file"; fi
  done
}

# The tree as it is now: tracked, and new files that git does not ignore.
list_files() {
  local file
  git -C "$PROJECT" -c safe.directory='*' ls-files -z --cached --others --exclude-standard | while IFS= read -r -d '' file; do
    if [ -e "$PROJECT/$file" ] || [ -L "$PROJECT/$file" ]; then printf '%s\0' "$file"; fi
  done
}

enter_namespaces() {
  local script=$1
  shift
  if [ "${1:-}" = --inside ]; then
    shift
    main_inside "$@"
    return
  fi
  check_host
  mkdir -p "$CACHE"
  # One run at a time: they share the root.
  exec 9>"$CACHE/lock" && flock 9
  # unshare ignores signals, so this shell stays to pass them on; should it be killed itself, pdeathsig does it.
  setpriv --pdeathsig KILL unshare --mount --propagation private --pid --fork --kill-child "$script" --inside "$@" &
  trap 'kill -KILL $! 2>/dev/null; exit 130' INT TERM HUP
  wait $!
}
