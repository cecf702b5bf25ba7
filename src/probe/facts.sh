w_m os; cat /etc/os-release /usr/lib/os-release 2>/dev/null
w_m debian; cat /etc/debian_version 2>/dev/null
w_m kernel; uname -srmn; uname -v
w_m memory; grep -E '^(Mem(Total|Free|Available)|Swap(Total|Free)|Buffers|Cached):' /proc/meminfo
w_m cpus; nproc
w_m cpuinfo; grep -E '^(processor|vendor_id|model name|physical id|core id|Model)[[:blank:]]*:' /proc/cpuinfo
w_m route; ip -4 route show default 2>/dev/null
w_m route6; ip -6 route show default 2>/dev/null
w_m links; ip -o link show 2>/dev/null
w_m addresses; ip -o addr show 2>/dev/null
w_m board; [ -r /proc/device-tree/model ] && tr -d '\000' </proc/device-tree/model
w_m mountinfo; cat /proc/self/mountinfo
# Only what is on this machine: a server that does not answer would hold everything up.
w_m df; timeout 5 df -Pkl 2>/dev/null
w_m disks
for w_d in /sys/block/*; do
  case ${w_d##*/} in loop* | ram* | zram* | nbd* | \*) continue ;; esac
  printf '%s' "${w_d##*/}"
  for w_f in size ro removable queue/rotational device/vendor device/model; do
    w_v=; [ -r "$w_d/$w_f" ] && read -r w_v <"$w_d/$w_f"
    printf '\t%s' "$w_v"
  done 2>/dev/null
  printf '\n'
  for w_p in "$w_d/${w_d##*/}"*; do
    [ -r "$w_p/partition" ] && read -r w_v <"$w_p/size" && printf '\t%s\t%s\n' "${w_p##*/}" "$w_v"
  done 2>/dev/null
done
w_m virt; systemd-detect-virt --vm 2>/dev/null; systemd-detect-virt --container 2>/dev/null
w_m kvm; [ -e /dev/kvm ] && echo host
w_m init; cat /proc/1/comm 2>/dev/null; [ -d /run/systemd/system ] && echo systemd; [ -d /run/openrc ] && echo openrc
w_m cgroup; stat -fc %T /sys/fs/cgroup 2>/dev/null
w_m python
for w_p in python3 python; do
  w_v=$(command -v "$w_p") && { printf '%s\n' "$w_v"; "$w_p" -V 2>&1; break; }
done
w_m managers; for w_p in apt-get dnf5 dnf yum pacman zypper apk; do command -v "$w_p" >/dev/null && echo "$w_p"; done
w_m user; id -u; id -g; getent passwd "$(id -u)" 2>/dev/null
w_m env; env
w_m date; date '+%s %z %Z'
w_m dns; cat /etc/resolv.conf 2>/dev/null
w_m machine; cat /etc/machine-id 2>/dev/null
w_m dmi; for w_f in sys_vendor product_name product_version product_serial product_uuid bios_vendor bios_version board_name; do
  w_v=; [ -r "/sys/class/dmi/id/$w_f" ] && read -r w_v <"/sys/class/dmi/id/$w_f"
  [ -n "$w_v" ] && printf '%s=%s\n' "$w_f" "$w_v"
done 2>/dev/null
w_m lsb; command -v lsb_release; [ -e /etc/lsb-release ] && echo file
w_m uptime; cat /proc/uptime
w_m security; [ -e /sys/fs/selinux/enforce ] && echo "selinux $(cat /sys/fs/selinux/enforce 2>/dev/null)"
[ -d /sys/kernel/security/apparmor ] && echo apparmor
w_m named; case $(uname -n) in *.*) ;; *) timeout 2 getent hosts "$(uname -n)" 2>/dev/null ;; esac
