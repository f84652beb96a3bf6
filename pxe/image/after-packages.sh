#!/bin/sh
# mmdebstrap customize hook: everything about the root file system that does not depend on the disk it will lie on.
set -eu
root=$1

# systemd's own network and name service. Waiting online helps nobody here and would hold the boot back.
chroot "$root" systemctl -q enable systemd-networkd ssh
chroot "$root" systemctl -q disable systemd-networkd-wait-online

# Name service and clock are for programs, not for the boot: as shipped, everything else waits for the two to be up.
for unit in systemd-resolved systemd-timesyncd; do
  chroot "$root" systemctl -q disable "$unit"
  sed -e 's/^Before=.*/Before=shutdown.target/' -e 's/^DefaultDependencies=no$/After=basic.target/' -e 's/^WantedBy=.*/WantedBy=multi-user.target/' \
    "$root/lib/systemd/system/$unit.service" >"$root/etc/systemd/system/$unit.service"
  chroot "$root" systemctl -q enable "$unit"
done

# What would run behind the operator's back in the first minutes: apt's timers hold the dpkg lock against configuration management.
chroot "$root" systemctl -q mask apt-daily.timer apt-daily-upgrade.timer
# What has nothing to do on a server with one ext4 file system and no repartition rules, and starts all the same.
chroot "$root" systemctl -q mask e2scrub_all.timer e2scrub_reap.service systemd-repart.service systemd-binfmt.service modprobe@drm.service

# Nothing of this machine, nothing that two machines would share.
rm -f "$root"/etc/ssh/ssh_host_* "$root/var/lib/dbus/machine-id" "$root/etc/resolv.conf" "$root/var/lib/systemd/random-seed"
: >"$root/etc/machine-id"
ln -s ../run/systemd/resolve/stub-resolv.conf "$root/etc/resolv.conf"
echo debian >"$root/etc/hostname"
printf '127.0.0.1 localhost\n127.0.1.1 debian\n::1 localhost ip6-localhost ip6-loopback\n' >"$root/etc/hosts"
rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/* "$root"/var/log/*.log "$root"/var/log/apt "$root"/var/cache/debconf/*-old
