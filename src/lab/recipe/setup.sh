# Runs once inside a new image, as root: turns a minimal Debian into what a bare cloud image is.
set -eu

update-ca-certificates >/dev/null

# deploy: sudo without a password. sudoer: sudo with the password "lab-sudo".
useradd -m -u 1000 -s /bin/bash -p '*' deploy
useradd -m -u 1001 -s /bin/bash sudoer
echo 'sudoer:lab-sudo' | chpasswd
echo 'deploy ALL=(ALL:ALL) NOPASSWD: ALL' >/etc/sudoers.d/deploy
echo 'sudoer ALL=(ALL:ALL) PASSWD: ALL' >/etc/sudoers.d/sudoer
chmod 0440 /etc/sudoers.d/deploy /etc/sudoers.d/sudoer

# Nothing here that a node in a container cannot use, or that works on its own behind a test's back.
for unit in \
    apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service \
    fstrim.timer logrotate.timer console-getty.service getty.target getty@tty1.service \
    systemd-networkd-wait-online.service systemd-udevd.service systemd-udevd-control.socket \
    systemd-udevd-kernel.socket systemd-udev-trigger.service systemd-udev-settle.service systemd-timesyncd.service \
    systemd-firstboot.service systemd-hwdb-update.service systemd-pstore.service ldconfig.service \
    sys-kernel-debug.mount sys-kernel-tracing.mount sys-kernel-config.mount dev-hugepages.mount; do
    ln -sf /dev/null "/etc/systemd/system/$unit"
done
chmod 0755 /usr/local/lib/windlass-lab/boot
systemctl enable --quiet windlass-lab-node.service ssh.service
systemctl set-default --quiet multi-user.target

# What every node gets of its own.
rm -f /etc/ssh/ssh_host_* /etc/hostname /etc/resolv.conf /etc/hosts /var/lib/dbus/machine-id
ln -s /etc/machine-id /var/lib/dbus/machine-id
: >/etc/machine-id

# No message of the day: it costs every login a run of scripts.
rm -f /etc/update-motd.d/* /etc/motd
: >/etc/motd

apt-get clean
rm -rf /var/log/*.log /var/log/apt/* /var/cache/ldconfig/aux-cache /tmp/*
# systemd need not rebuild its caches at the first boot.
for directory in /etc /var; do
    : >"$directory/.updated"
    touch -r /usr "$directory/.updated"
done
