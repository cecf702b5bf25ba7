#!/bin/sh
# Early in a node's boot: shared mounts, writable cgroup v1 controllers (a kubelet needs both), the address.
# systemd-networkd cannot set the address: with /sys writable it waits for udev for ever.
. /etc/windlass-lab/address
mount --make-rshared /
while read -r _ at type options _; do
    case "$type,$options" in
    cgroup,ro*) mount -o remount,bind,rw "$at" ;;
    esac
done </proc/self/mounts
ip link set dev host0 mtu "$MTU" up
ip address replace "$ADDRESS" dev host0
ip route replace default via "$GATEWAY"
