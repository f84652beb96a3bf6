#!/bin/sh
# Prepares this checkout; does only what is missing and says what it does.
#   sh scripts/setup.sh        the npm packages
#   sh scripts/setup.sh lab    those, and the Debian packages that tests, demo and image builds use
set -eu
cd "$(dirname "$0")/.."

# Every Debian package the project uses, in one place; a line each for: machines and firmware, images, network peers, BMCs, handoff
# and databases, building and checking.
lab_packages='
  qemu-system-x86 qemu-system-arm qemu-utils seabios ovmf qemu-efi-aarch64 ipxe ipxe-qemu
  mmdebstrap zstd lz4 cpio mtools dosfstools gdisk fdisk e2fsprogs busybox-static efibootmgr kmod
  isc-dhcp-client isc-dhcp-relay udhcpc dhcpcd-base systemd tcpdump curl iproute2 procps atftp tftp-hpa
  openipmi ipmitool freeipmi-tools
  ansible-core openssh-client openssh-server postgresql-15 pgbouncer
  gcc libc6-dev liblz4-dev shellcheck
'

say() { printf 'setup: %s\n' "$*"; }
fail() {
  printf 'setup: %s\n' "$*" >&2
  exit 1
}

main() {
  case "${1:-}" in
    '' | lab) ;;
    *) fail "unknown argument '$1'; it is 'lab' or nothing" ;;
  esac
  [ "$(uname -s)-$(uname -m)" = Linux-x86_64 ] || fail "Ingot runs on Linux on x86-64, this is $(uname -s) on $(uname -m)"
  install_npm_packages
  if [ "${1:-}" = lab ]; then install_lab_packages; fi
}

install_npm_packages() {
  installed=node_modules/.package-lock.json
  if [ -e "$installed" ] && [ -z "$(find package-lock.json -newer "$installed")" ]; then return; fi
  command -v npm >/dev/null || fail 'npm is missing; install Node.js 20 or newer with npm (the project then brings its own Node)'
  say 'npm ci'
  npm ci --loglevel=error
}

install_lab_packages() {
  missing=$(missing_packages)
  if [ -z "$missing" ]; then return; fi
  command -v apt-get >/dev/null || fail "the lab needs Debian 12 or a relative of it; elsewhere install what matches: $missing"
  as_root=
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || fail "packages are missing, and this is neither root nor has it sudo: apt-get install $missing"
    as_root=sudo
  fi
  say "apt-get install $missing"
  $as_root apt-get update -qq || fail 'apt-get update failed; see above'
  keep_services_off
  # shellcheck disable=SC2086 # a list of words
  $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null ||
    fail 'apt-get install failed; see above'
}

missing_packages() {
  command -v dpkg-query >/dev/null || {
    printf '%s' "$lab_packages" | tr -s '\n ' ' '
    return
  }
  for package in $lab_packages; do
    state=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null) || state=
    [ "$state" = installed ] || printf '%s ' "$package"
  done
}

# Tests start the daemons they need; a relay or database that starts with its installation would be in their way, and in yours.
keep_services_off() {
  policy=/usr/sbin/policy-rc.d
  if [ -e "$policy" ]; then return; fi
  printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null
  $as_root chmod 755 "$policy"
  trap '$as_root rm -f "$policy"' EXIT
}

main "$@"
