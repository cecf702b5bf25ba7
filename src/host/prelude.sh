# What a session's shell knows: every request is made of calls to these. w_nonce is the session's nonce, w_dir its scratch folder.
trap '' PIPE HUP
trap 'exit 143' TERM
umask 022
LC_ALL=C; export LC_ALL
unset LANGUAGE CDPATH ENV BASH_ENV
case ":$PATH:" in *:/usr/sbin:*) ;; *) PATH=${PATH:-/usr/bin:/bin}:/usr/local/sbin:/usr/sbin:/sbin ;; esac
export PATH
w_dir=
w_m() { printf '\n%s %s\n' "$w_nonce" "$*"; }
w_tmp() {
  # Someone on the host may have cleared it away.
  [ -n "$w_dir" ] && [ -d "$w_dir" ] && return 0
  for w_d in /dev/shm /run /tmp /var/tmp; do
    w_dir=$(umask 077; mktemp -d "$w_d/.windlass.XXXXXXXX" 2>/dev/null) && [ -n "$w_dir" ] && trap 'rm -rf -- "$w_dir"' EXIT && return 0
  done
  w_dir=
  w_m "broken no folder on this host takes a temporary file (full or read-only?)"
  return 1
}
# Whether this user may not look into the folder that a path leads to. Of a path that is there it does not ask.
w_denied() {
  [ -e "$1" ] || [ -L "$1" ] && return 1
  case $1 in /*) w_f=$1 ;; *) return 1 ;; esac
  while w_f=${w_f%/*}; [ -n "$w_f" ] && [ ! -e "$w_f" ]; do :; done
  # To some shells a folder without any x is closed to root too.
  [ -n "$w_f" ] && [ -d "$w_f" ] && [ ! -x "$w_f" ] && [ "$(id -u)" != 0 ]
}
w_paths() {
  w_m paths
  stat --printf='%n\0%f\0%u\0%g\0%U\0%G\0%s\0%Y\0%h\0%d:%i\0%X\0%Z\0' -- "$@" 2>/dev/null
  w_m links
  for w_p; do [ -L "$w_p" ] && { printf '%s\0' "$w_p"; readlink -zn -- "$w_p"; printf '\0'; }; done
  w_m targets
  for w_p; do [ -L "$w_p" ] && stat -L --printf='%n\0%f\0%u\0%g\0%U\0%G\0%s\0%Y\0%h\0%d:%i\0%X\0%Z\0' -- "$w_p" 2>/dev/null; done
  w_m canonical
  realpath -zm -- "$@" 2>/dev/null
  w_n=
  for w_p; do
    w_denied "$w_p" || continue
    [ -n "$w_n" ] || w_m denied
    w_n=1
    printf '%s\0' "$w_p"
  done
}
w_sha() {
  w_n=$#
  while [ "$w_n" -gt 0 ]; do
    w_p=$1; shift
    [ -f "$w_p" ] && set -- "$@" "$w_p"
    w_n=$((w_n - 1))
  done
  w_m sha256
  [ $# -eq 0 ] || sha256sum -z -- "$@" 2>/dev/null
}
w_content() {
  w_i=0
  for w_p; do
    if [ -f "$w_p" ] && [ -r "$w_p" ]; then w_m "content $w_i"; head -c 1048577 -- "$w_p"
    elif [ -e "$w_p" ]; then w_m "unavailable $w_i"
    elif w_denied "$w_p"; then w_m "denied $w_i"
    else w_m "absent $w_i"; fi
    w_i=$((w_i + 1))
  done
}
w_packages() {
  w_m packages
  dpkg-query -W -f '${Package}\t${Architecture}\t${db:Status-Want}\t${db:Status-Status}\t${Version}\n' -- "$@" 2>/dev/null
}
w_show() {
  systemctl show -p Id,LoadState,ActiveState,SubState,UnitFileState,NeedDaemonReload,DropInPaths,MainPID,FragmentPath -- "$@" 2>/dev/null
}
w_templates() {
  w_m templates
  [ -d /run/systemd/system ] && echo systemd && systemctl list-unit-files --no-legend --no-pager --plain --full -- "$@" 2>/dev/null
}
w_units() {
  w_m "units $#"
  w_show "$@" || {
    # It stops at a name it refuses: each by itself, then.
    [ -d /run/systemd/system ] && for w_p; do w_m "unit $w_p"; w_show "$w_p"; done
  }
  w_m dropins
  for w_p; do for w_d in "/etc/systemd/system/$w_p.d"/*.conf; do [ ! -f "$w_d" ] || printf '%s\n' "$w_d"; done; done
}
w_users() { w_m users; getent passwd "$@" 2>/dev/null; }
w_shadow() { w_m shadow; getent shadow "$@" 2>/dev/null; }
w_groups() { w_m groups; getent group 2>/dev/null; }
w_sysctls() {
  w_m sysctls
  grep -sH '' -- "$@"
  w_m sysctls-there
  for w_p; do [ ! -e "$w_p" ] || printf '%s\n' "$w_p"; done
}
# name, the kernel's spelling of it, a pattern for both
w_kmod() {
  w_m "kmod $1"
  if grep -qs "^$2 " /proc/modules; then echo loaded
  elif [ -e "/sys/module/$2" ] || grep -qs "/$3\.ko" "/lib/modules/$(uname -r)/modules.builtin"; then echo builtin
  # A kernel that loads no modules at all has a list neither of them nor of what is built in.
  elif ! [ -e /proc/modules ] && { grep -qs "[[:blank:]]$2\$" /proc/filesystems || grep -qsE " $2_init(_module)?\$" /proc/kallsyms; }; then
    echo builtin
  else echo none; fi
  for w_f in /etc/modules /etc/modules-load.d/*.conf; do
    grep -sE "^[[:blank:]]*$3([[:blank:]]|\$)" "$w_f" | sed "s|^|load $w_f:|"
  done
  for w_f in /etc/modprobe.d/*.conf; do
    grep -sE "^[[:blank:]]*options[[:blank:]]+$3[[:blank:]]" "$w_f" | sed "s|^|options $w_f:|"
  done
}
w_mounts() { w_m mounts; cat /proc/self/mountinfo; }
w_hostname() { w_m hostname; uname -n; head -n 1 /etc/hostname 2>/dev/null; }
w_timezone() { w_m timezone; readlink /etc/localtime; }
w_result() {
  w_m "rc $1 $2"
  # One byte more than is taken tells that there is more.
  [ -s "$w_dir/o$1" ] && head -c 8388609 "$w_dir/o$1"
  w_m "err $1"
  [ -s "$w_dir/e$1" ] && tail -c 1048576 "$w_dir/e$1"
  if [ "$2" -ne 0 ]; then
    # What could not be written is lost, the reason too.
    { printf '%s' "$w_dir" >"$w_dir/f"; } 2>/dev/null || {
      [ ! -s "$w_dir/e$1" ] || echo
      printf "the host's temporary folder %s is full\n" "$w_dir"
    }
  fi
  [ -s "$w_dir/o$1" ] || [ -s "$w_dir/e$1" ] || [ -e "$w_dir/f" ] && rm -f -- "$w_dir/o$1" "$w_dir/e$1" "$w_dir/f"
  [ "$2" -eq 0 ] || w_ok=0
}
# path temporary mode owner[:group] body-reader...: the body comes on standard input. All is done to the file that was
# opened, not to its name: whoever may write in the folder can put a link to another file in its place.
w_put() {
  w_path=$1 w_new=$2 w_mode=$3 w_own=$4
  shift 4
  rm -f -- "$w_new" || return 1
  (
    umask 077; set -C
    exec 8>"$w_new" || exit 1
    w_it=/proc/self/fd/8
    [ -e "$w_it" ] || w_it=$w_new
    [ -f "$w_it" ] || { printf '%s\n' "someone put something else in the place of $w_new" >&2; exit 1; }
    "$@" >&8 || exit 1
    # An owner that is only kept need not be ours to give; a mode never makes a file run as somebody else then.
    [ -z "${w_keep:-}" ] || chown -- "$w_keep" "$w_it" 2>/dev/null || {
      w_mode=0${w_mode#?}; chgrp -- "${w_keep#*:}" "$w_it" 2>/dev/null || :
    }
    { [ -z "$w_own" ] || chown -- "$w_own" "$w_it"; } && chmod -- "$w_mode" "$w_it"
  ) || { rm -f -- "$w_new"; return 1; }
}
w_place() { sync -- "$2" && mv -fT -- "$2" "$1" || { rm -f -- "$2"; return 1; }; }
