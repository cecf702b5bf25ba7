# Ends the session's shell w_root and all that it has started: by TERM, and what is still there after two seconds by KILL.
w_tree() {
  w_pairs=$(
    for w_f in /proc/[0-9]*/stat; do
      read -r w_l 2>/dev/null <"$w_f" || continue
      w_r=${w_l##*) }
      w_r=${w_r#* }
      echo "${w_l%% *} ${w_r%% *}"
    done
  )
  w_more=1
  while [ "$w_more" = 1 ]; do
    w_more=0
    while read -r w_p w_parent; do
      case "$w_all" in *" $w_p "*) continue ;; esac
      case "$w_all" in *" $w_parent "*) w_all="$w_all$w_p " w_more=1 ;; esac
    done <<W_END
$w_pairs
W_END
  done
}
# Its parent may be slow to notice its end.
w_lives() {
  read -r w_l 2>/dev/null <"/proc/$w_root/stat" || return 1
  case "${w_l##*) }" in Z*) return 1 ;; esac
}
w_all=" $w_root "
w_tree
kill -TERM $w_all 2>/dev/null
w_try=0
while [ "$w_try" -lt 20 ] && w_lives; do
  sleep 0.1
  w_try=$((w_try + 1))
done
w_tree
# The shell itself goes last: it tidies up once nothing runs in it.
kill -KILL ${w_all#" $w_root "} 2>/dev/null
w_try=0
while [ "$w_try" -lt 5 ] && w_lives; do
  sleep 0.1
  w_try=$((w_try + 1))
done
kill -KILL "$w_root" 2>/dev/null
:
