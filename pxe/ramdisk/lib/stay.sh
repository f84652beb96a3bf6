# Stages service and rescue: the machine stays here with a shell, until the boot service says that it may go. Nothing is written by
# itself; what a person does in the shell is that person's. A shell on the console always; SSH for the keys that the job names.

stay() {
  if [ -z "${STAYS:-}" ]; then
    settle_disks
    must_ask GET /ramdisk/order - /run/order 65536
    open_console
    open_ssh
    send_event "{\"kind\":\"ready\",\"address\":$(quote "$(cat /run/address)"),\"ssh_host_key\":$(host_key)}"
    STAYS=yes
    log "staying: a shell is on this console${SSH:+, and root@$(cat /run/address) by SSH}"
  fi
}

# The boot service has said that the stay is over.
leave_stay() {
  send_event '{"kind":"left"}'
  leave reboot
}

# Job control wants a controlling terminal of its own, which cttyhack finds.
open_console() {
  (while :; do setsid cttyhack sh -l </dev/console >/dev/console 2>&1; sleep 1; done) &
}

# The server comes from the boot service, named by digest, since only few boots want it.
open_ssh() {
  SSH=''
  tools=$(answer tools /run/order)
  case $tools in */*) ;; *) return ;; esac
  must_ask GET "$tools" - /run/tools.tar.gz 67108864
  if [ "$(sha256sum </run/tools.tar.gz | cut -d ' ' -f 1)" != "${tools##*/}" ]; then
    failed TOOLS_DIGEST "the SSH server does not have the digest that names it"
  fi
  tar -xzf /run/tools.tar.gz -C / || failed TOOLS_BROKEN 'the SSH server cannot be unpacked'
  rm -f /run/tools.tar.gz
  mkdir -p /root/.ssh /etc/dropbear /dev/pts /var/log
  mount -t devpts devpts /dev/pts 2>/dev/null
  chmod 700 /root /root/.ssh
  echo 'root:*:0:0:root:/root:/bin/sh' >/etc/passwd
  echo 'root:x:0:' >/etc/group
  echo /bin/sh >/etc/shells
  (umask 077; sed -n 's/^key //p' /run/order >/root/.ssh/authorized_keys)
  dropbearkey -t ed25519 -f /etc/dropbear/dropbear_ed25519_host_key 2>/dev/null | grep '^ssh-' >/run/host_key
  # -s: keys only.
  dropbear -s -E -r /etc/dropbear/dropbear_ed25519_host_key 2>>/run/log || failed SSH_FAILED 'the SSH server does not start'
  SSH=yes
}

host_key() {
  if [ -s /run/host_key ]; then quote "$(cut -d ' ' -f 1,2 </run/host_key)"; else echo null; fi
}
