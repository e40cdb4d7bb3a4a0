#!/usr/bin/env bash
# Installs the services that tests start for themselves, where one is missing. Debian and Ubuntu.
# Nothing is left running: a test starts its own on a free port and stops it.
set -euo pipefail

has_postgres() { command -v postgres || ls -d /usr/lib/postgresql/*/bin/postgres; }

missing=()
command -v redis-server >/dev/null || missing+=(redis-server)
has_postgres >/dev/null 2>&1 || missing+=(postgresql)
command -v prometheus >/dev/null || missing+=(prometheus)
command -v prometheus-alertmanager >/dev/null || missing+=(prometheus-alertmanager)
[ ${#missing[@]} -gt 0 ] || exit 0

say() { echo "services: $*" >&2; }
install="apt-get install --no-install-recommends ${missing[*]}"
if ! command -v apt-get >/dev/null; then
  say "${missing[*]} are not installed, and there is no apt-get: tests that need them are skipped"
  exit 0
fi
if [ "$(id -u)" -ne 0 ]; then
  say "${missing[*]} are not installed: tests that need them are skipped. To have them run:"
  say "  sudo $install"
  exit 0
fi

# Packages start what they bring unless this says no; what is there already is left as it is.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod +x "$policy"
  trap 'rm -f "$policy"' EXIT
fi

export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
say "installing ${missing[*]}"
if ! { apt-get update && $install --yes; } >"$log" 2>&1; then
  tail -n 20 "$log" >&2
  rm -f "$log"
  say "could not be installed (above is why): tests that need ${missing[*]} are skipped"
  exit 0
fi
rm -f "$log"
