# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Starts several sites on one machine, as root or not, for tests and the demo.  To be sourced:
#
#   . "$NF_SRC/tests/sites/lib.sh"
#   sites london nyc tokyo                        # keys, sshd and links of each
#   share projects /projects london 'nyc tokyo'   # primary, replicas, then any 'key = value'
#   sites_up                                      # the daemons, mounted
#   echo hello >"$(mnt nyc)/projects/hello"
#   wait_in_step
#   trees_equal projects
#
# Each site has a folder $NF_TMP/SITE with its configuration, keys, sshd, the mount (mnt), its local
# and broadcast directories (srv/SHARE) and daemon.log.  Who dials a site goes through a link
# emulator of that pair; ssh_config leads there, so that the server map is the same at all sites.
#
# Everything ends with the script.  On failure the logs' ends are shown; NF_KEEP=1 keeps the folder.
#
# Environment: NF_DELAY_MS one way (default 10), NF_RATE bytes/s (0: unlimited), NF_TRANSPORT
# (libssh or ssh), NF_CONF (further lines of each site.conf), NF_NETNS=1 (root only: one network
# namespace a site), NF_SLOW (deadlines are stretched by this factor).

set -u

: "${NF_SRC:=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)}"
: "${NF_BUILD:=$NF_SRC/build}"
: "${NF_DELAY_MS:=10}" "${NF_RATE:=0}" "${NF_TRANSPORT:=libssh}" "${NF_NETNS:=0}" "${NF_SLOW:=1}"
NEARFS=$NF_BUILD/nearfs
NF_LINK=$NF_BUILD/tests/nf-link
SSHD=$(PATH=$PATH:/usr/sbin:/sbin command -v sshd || true)

NF_TMP=
NF_NET=                # first three numbers of the addresses, with NF_NETNS
SITES=()
declare -A NF_PID      # site: its daemon, while it runs
declare -A NF_MODE     # site: mount or serve
declare -A NF_DIALABLE # site: 1, or 0 for "ssh = none"
declare -A NF_ADDRESS  # site: address and port of its sshd
declare -A NF_LINKS    # "A B": A's way to B; the value is its control socket
declare -A NF_SHARES   # share: its mount point
declare -A NF_PRIMARY NF_REPLICAS NF_KEYS
NF_HELPERS=()          # sshds and links, to be ended

# Saying and judging.

say ()
{
  printf '%s\n' "$*"
}

fail ()
{
  say "FAILED: $*" >&2
  exit 1
}

expect ()
{
  [ "$2" = "$3" ] || fail "$1: is \"$2\", should be \"$3\""
}

# wait_for SECONDS COMMAND…: until it succeeds; returns 1 when the time is over.
wait_for ()
{
  local limit=$(($1 * NF_SLOW)) start=$SECONDS
  shift
  until "$@"; do
    if [ $((SECONDS - start)) -gt "$limit" ]; then
      say "not within $limit s: $*" >&2
      return 1
    fi
    sleep 0.02
  done
}

# Sites.

# Sets NF_IN, the prefix of commands that run in the network of a site, if it has its own.  No
# function that runs them, as "$!" must be the command's own process.
in_net ()
{
  NF_IN=()
  [ "$NF_NETNS" != 1 ] || NF_IN=(nsenter --net="/run/netns/$(basename "$NF_TMP")-$1")
}

mnt ()
{
  printf '%s\n' "$NF_TMP/$1/mnt"
}

# backing SITE SHARE: the local or broadcast directory.
backing ()
{
  printf '%s\n' "$NF_TMP/$1/srv/$2"
}

# site_nearfs SITE VERB [ARGUMENT…]
site_nearfs ()
{
  local site=$1 verb=$2
  shift 2
  in_net "$site"
  "${NF_IN[@]}" "$NEARFS" "$verb" --config "$NF_TMP/$site/site.conf" "$@"
}

# Reads the line by which a helper says that it is ready.
ready_line ()
{
  local fifo=$1 pid=$2 deadline=$((SECONDS + 30 * NF_SLOW)) fd line='' part
  # Read and write, so that neither opening nor the helper's death blocks.
  exec {fd}<>"$fifo"
  # Where time runs out in the middle of the line, its beginning is in "part".
  until IFS= read -r -t 0.2 part <&"$fd"; do
    line+=$part
    if ! kill -0 "$pid" 2>/dev/null || [ "$SECONDS" -gt "$deadline" ]; then
      exec {fd}>&-
      return 1
    fi
  done
  exec {fd}>&-
  printf '%s\n' "$line$part"
}

# sites NAME…
sites ()
{
  local site
  [ -n "$SSHD" ] || fail "there is no sshd (Debian: openssh-server)"
  NF_TMP=$(mktemp -d "${TMPDIR:-/tmp}/nearfs-XXXXXX")
  trap 'cleanup $?' EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM HUP
  # The way to sites and their links, for any user that a test calls in; keys are 0600.
  chmod 0755 "$NF_TMP"
  SITES=("$@")
  mkdir "$NF_TMP/links"
  [ "$NF_NETNS" != 1 ] || network_up
  for site in "${SITES[@]}"; do
    NF_MODE[$site]=${NF_MODE[$site]:-mount}
    NF_DIALABLE[$site]=${NF_DIALABLE[$site]:-1}
    mkdir -p "$NF_TMP/$site/"{mnt,srv,home}
    mkdir -m 0700 "$NF_TMP/$site/run"
    # Without a key's comment, so that no user or host name gets into logs.
    ssh-keygen -q -t ed25519 -N '' -C "$site" -f "$NF_TMP/$site/key"
    ssh-keygen -q -t ed25519 -N '' -C "$site" -f "$NF_TMP/$site/hostkey"
  done
  for site in "${SITES[@]}"; do
    sshd_start "$site"
  done
  for site in "${SITES[@]}"; do
    links_of "$site"
  done
}

# To be called before "sites": a site without a mount, and one that can only dial out.
serve_only () { NF_MODE[$1]=serve; }
dial_only () { NF_DIALABLE[$1]=0; }

# One network namespace a site, joined by a bridge.  The links run outside, at the bridge's address.
network_up ()
{
  local site bridge name number=1
  [ "$(id -u)" -eq 0 ] || fail "NF_NETNS=1 needs root"
  # Any of 65,536 networks; a second test that runs at the same time has its own.
  while :; do
    NF_NET=10.$((RANDOM % 256)).$((RANDOM % 256))
    bridge=nf$((RANDOM % 100000))
    [ -z "$(ip -o addr show to "$NF_NET.0/24")" ] && ip link add "$bridge" type bridge && break
  done
  printf '%s\n' "$bridge" >"$NF_TMP/bridge"
  ip addr add "$NF_NET.1/24" dev "$bridge"
  ip link set "$bridge" up
  for site in "${SITES[@]}"; do
    number=$((number + 1))
    name=$(basename "$NF_TMP")-$site
    ip netns add "$name"
    ip link add "$bridge.$number" type veth peer name eth0 netns "$name"
    ip link set "$bridge.$number" master "$bridge" up
    ip -n "$name" addr add "$NF_NET.$number/24" dev eth0
    ip -n "$name" link set eth0 up
    ip -n "$name" link set lo up
    NF_ADDRESS[$site]=$NF_NET.$number:22
  done
}

network_down ()
{
  local site
  for site in "${SITES[@]}"; do
    ip netns del "$(basename "$NF_TMP")-$site" 2>/dev/null
  done
  [ ! -e "$NF_TMP/bridge" ] || ip link del "$(cat "$NF_TMP/bridge")"
}

# The accepting side: this machine's sshd with a configuration of its own.
sshd_start ()
{
  local site=$1 dir=$NF_TMP/$1 peer port address pam=no pid tries
  for peer in "${SITES[@]}"; do
    [ "$peer" = "$site" ] || printf 'restrict,command="%s relay --site %s --config %s" %s\n' \
      "$NEARFS" "$peer" "$dir/site.conf" "$(cat "$NF_TMP/$peer/key.pub")"
  done >"$dir/authorized_keys"
  if [ "$(id -u)" -eq 0 ]; then
    # sshd's empty directory, which only its own start script makes.
    install -d -m 0755 /run/sshd
    # Without PAM sshd refuses a locked account, keys or not.
    case $(getent shadow "$(id -un)" | cut -d: -f2) in
      '!'*) pam=yes ;;
    esac
  fi
  for tries in 1 2 3 4 5 6 7 8 9; do
    # Below the range from which the kernel gives ports to those who dial.
    address=${NF_ADDRESS[$site]:-127.0.0.1:$((20000 + RANDOM % 12000))}
    port=${address##*:}
    # SHLVL: a bash below another one leaves ~/.bashrc alone, which is whoever runs the tests'.
    cat >"$dir/sshd_config" <<CONF
ListenAddress ${address%:*}:$port
HostKey $dir/hostkey
AuthorizedKeysFile $dir/authorized_keys
PidFile none
StrictModes no
UsePAM $pam
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin forced-commands-only
PrintMotd no
UseDNS no
SetEnv SHLVL=2
LogLevel VERBOSE
MaxStartups 100
CONF
    : >"$dir/sshd.log"
    in_net "$site"
    "${NF_IN[@]}" "$SSHD" -D -e -f "$dir/sshd_config" >>"$dir/sshd.log" 2>&1 &
    pid=$!
    if wait_for 10 sshd_settled "$site" "$pid" && grep -q 'Server listening' "$dir/sshd.log"; then
      NF_ADDRESS[$site]=$address
      NF_HELPERS+=("$pid")
      return
    fi
    kill "$pid" 2>/dev/null
    say "sshd at $address: $(tail -n 1 "$dir/sshd.log"); try $tries" >&2
  done
  fail "sshd of $site doesn't start"
}

sshd_settled ()
{
  grep -q 'Server listening' "$NF_TMP/$1/sshd.log" || ! kill -0 "$2" 2>/dev/null
}

# The ways from SITE to all others, and its ssh_config and known_hosts that lead there.
links_of ()
{
  local site=$1 dir=$NF_TMP/$1 peer control fifo pid line address
  : >"$dir/known_hosts"
  : >"$dir/ssh_config"
  for peer in "${SITES[@]}"; do
    [ "$peer" != "$site" ] || continue
    control=$NF_TMP/links/$site-$peer
    fifo=$control.fifo
    mkfifo "$fifo"
    "$NF_LINK" --listen "${NF_NET:-127.0.0}.1:0" --to "${NF_ADDRESS[$peer]}" \
      --delay "$NF_DELAY_MS" --rate "$NF_RATE" --control "$control" >"$fifo" 2>"$control.log" &
    pid=$!
    NF_HELPERS+=("$pid")
    line=$(ready_line "$fifo" "$pid") || fail "nf-link: $(cat "$control.log")"
    address=${line#listening }
    NF_LINKS["$site $peer"]=$control
    printf '[%s]:%s %s\n' "${address%:*}" "${address##*:}" "$(cat "$NF_TMP/$peer/hostkey.pub")" \
      >>"$dir/known_hosts"
    cat >>"$dir/ssh_config" <<CONF
Host $peer
  HostName ${address%:*}
  Port ${address##*:}
  User $(id -un)
  IdentityFile $dir/key
  IdentitiesOnly yes
  UserKnownHostsFile $dir/known_hosts
  GlobalKnownHostsFile /dev/null
  StrictHostKeyChecking yes
  BatchMode yes
CONF
  done
}

# share NAME MOUNT PRIMARY 'REPLICA…' ['key = value'…]
share ()
{
  local name=$1 key
  NF_SHARES[$name]=$2
  NF_PRIMARY[$name]=$3
  NF_REPLICAS[$name]=$4
  shift 4
  NF_KEYS[$name]=
  # Tests change owners, which needs root of one site to be root at the others.
  [ "$(id -u)" -ne 0 ] || NF_KEYS[$name]=$'users = *; root\n'
  for key; do
    NF_KEYS[$name]+=$key$'\n'
  done
}

# write_map [SERIAL]: the server map, the same at all sites.
# shellcheck disable=SC2120 # tests that change the map give a serial
write_map ()
{
  local site name broadcast
  {
    printf '[map]\nserial = %s\n' "${1:-1}"
    for site in "${SITES[@]}"; do
      printf '\n[site %s]\nssh = %s\n' "$site" \
        "$([ "${NF_DIALABLE[$site]}" = 1 ] && echo "$site" || echo none)"
    done
    for name in "${!NF_SHARES[@]}"; do
      printf '\n[share %s]\nmount = %s\nlocal = %s:%s\n' "$name" "${NF_SHARES[$name]}" \
        "${NF_PRIMARY[$name]}" "$(backing "${NF_PRIMARY[$name]}" "$name")"
      broadcast=
      for site in ${NF_REPLICAS[$name]}; do
        broadcast+="${broadcast:+; }$site:$(backing "$site" "$name")"
      done
      [ -z "$broadcast" ] || printf 'broadcast = %s\n' "$broadcast"
      printf '%s' "${NF_KEYS[$name]}"
    done
  } >"$NF_TMP/server.map"
}

write_site_conf ()
{
  local site=$1 dir=$NF_TMP/$1
  cat >"$dir/site.conf" <<CONF
[site]
name = $site
map = $NF_TMP/server.map
roots = $dir/srv
runtime = $dir/run
identity = $dir/key
known-hosts = $dir/known_hosts
ssh-config = $dir/ssh_config
transport = $NF_TRANSPORT
${NF_CONF:-}
CONF
}

# Writes the map and starts all.
sites_up ()
{
  local site name
  [ -x "$NEARFS" ] || fail "$NEARFS isn't built"
  write_map
  for name in "${!NF_SHARES[@]}"; do
    for site in ${NF_PRIMARY[$name]} ${NF_REPLICAS[$name]}; do
      mkdir -p "$(backing "$site" "$name")"
    done
  done
  for site in "${SITES[@]}"; do
    write_site_conf "$site"
    site_start "$site"
  done
}

# site_start SITE [ARGUMENT…]: returns when the mount is up.
site_start ()
{
  local site=$1 dir=$NF_TMP/$1 command pid
  shift
  [ -z "${NF_PID[$site]:-}" ] || fail "$site is running"
  command=("$NEARFS" "${NF_MODE[$site]}" --config "$dir/site.conf" --ready-fd 9)
  [ "${NF_MODE[$site]}" != mount ] || command+=(--foreground)
  command+=("$@")
  [ "${NF_MODE[$site]}" != mount ] || command+=(${NF_MOUNT_OPTIONS:+-o "$NF_MOUNT_OPTIONS"} "$dir/mnt")
  rm -f "$dir/ready"
  mkfifo "$dir/ready"
  # The user's own keys, agent and ssh_config have no part in this.
  in_net "$site"
  "${NF_IN[@]}" env -u SSH_AUTH_SOCK -u XDG_RUNTIME_DIR HOME="$dir/home" \
    STATE_DIRECTORY="$dir/state" "${command[@]}" \
    9<>"$dir/ready" >>"$dir/daemon.log" 2>&1 </dev/null &
  pid=$!
  NF_PID[$site]=$pid
  ready_line "$dir/ready" "$pid" >/dev/null || fail "$site isn't ready"
}

# Ends the daemon of a site in good order; it must say that all went well.
site_stop ()
{
  local site=$1 pid=${NF_PID[$1]:-} rc=0
  [ -n "$pid" ] || return 0
  kill -TERM "$pid" 2>/dev/null
  wait_for 20 has_ended "$pid" || fail "$site doesn't stop"
  wait "$pid" || rc=$?
  unset "NF_PID[$site]"
  [ "$rc" -eq 0 ] || fail "the daemon of $site ended with status $rc"
}

# kill -9; the dead mount goes too, as whoever starts the site again would have it.
site_kill ()
{
  local site=$1 pid=${NF_PID[$1]:-}
  [ -n "$pid" ] || return 0
  kill -KILL "$pid" 2>/dev/null
  wait "$pid" 2>/dev/null
  unset "NF_PID[$site]"
  site_unmount "$site"
}

has_ended ()
{
  ! kill -0 "$1" 2>/dev/null
}

site_unmount ()
{
  local dir=$NF_TMP/$1/mnt
  grep -qF " $dir " /proc/self/mounts || return 0
  if [ "$(id -u)" -eq 0 ]; then
    umount -l "$dir" 2>/dev/null
  else
    fusermount3 -u -z "$dir" 2>/dev/null
  fi
}

# Links.  All take two sites and act on both ways between them.

link_ctl ()
{
  local a=$1 b=$2 pair
  shift 2
  for pair in "$a $b" "$b $a"; do
    "$NF_LINK" --ctl "${NF_LINKS[$pair]}" "$@" >/dev/null || fail "link $a $b: $*"
  done
}

link_cut () { link_ctl "$1" "$2" cut; }
link_heal () { link_ctl "$1" "$2" heal; }
link_reset () { link_ctl "$1" "$2" reset; }
link_delay () { link_ctl "$1" "$2" delay "$3"; }
link_rate () { link_ctl "$1" "$2" rate "$3"; }

# Comparing.

# Until all replicas of all shares have what their primaries have.
wait_in_step ()
{
  local name primary site
  for name in "${!NF_SHARES[@]}"; do
    primary=${NF_PRIMARY[$name]}
    site_nearfs "$primary" wait --sites all --timeout $((${1:-60} * NF_SLOW)) "${NF_SHARES[$name]}" ||
      {
        for site in "${SITES[@]}"; do site_nearfs "$site" status >&2; done
        fail "share $name isn't in step everywhere"
      }
  done
}

# What of a tree must be the same everywhere, one fact a line, sorted.
manifest ()
(
  cd "$1" || exit 1
  export LC_ALL=C
  list () { find . -mindepth 1 -path ./.nearfs -prune -o "$@"; }
  set -o pipefail
  {
    # Name, type, mode, owner, target, mtime; of files the size.  A directory's size is nobody's
    # business, nor is the root's mtime: nearfs keeps its own directory there.
    list -type f -printf '%P\tf\t%m\t%U:%G\t%T@\t%s\n' -o -printf '%P\t%y\t%m\t%U:%G\t%T@\t%l\n' | sort
    find . -maxdepth 0 -printf './\t%y\t%m\t%U:%G\n'
    list -type f -print0 | sort -z | xargs -0 -r sha256sum
    # Hard links: each group by the names in it.
    list -type f -links +1 -printf '%i\t%P\0' | sort -z | perl -0 -ne '
      chomp; my ($inode, $name) = split /\t/, $_, 2; push @{$group{$inode}}, $name;
      END { print map { "links\t$_\n" } sort map { join "\t", @$_ } values %group }'
    # ACLs are xattrs.  Our own marks, and what only the security module gives, are not data.
    list -print0 | sort -z | xargs -0 -r getfattr -h -d -m - -e hex 2>/dev/null | perl -00 -ne '
      my ($file, @attrs) = grep { !/^(user|trusted)\.nearfs|^security\.(selinux|ima|evm)/ } split /\n/;
      print join ("\n", $file, sort @attrs), "\n" if @attrs'
  }
)

# trees_equal SHARE: all mounts and all directories of the share hold the same.
trees_equal ()
{
  local name=$1 site first='' view list place bad=0
  for site in ${NF_PRIMARY[$name]} ${NF_REPLICAS[$name]}; do
    for view in backing mount; do
      place=$(backing "$site" "$name")
      if [ "$view" = mount ]; then
        [ "${NF_MODE[$site]}" = mount ] && [ -n "${NF_PID[$site]:-}" ] || continue
        place=$(mnt "$site")${NF_SHARES[$name]}
      fi
      list=$NF_TMP/manifest-$name-$site-$view
      manifest "$place" >"$list" || { say "can't list $place" >&2; return 1; }
      if [ -z "$first" ]; then
        first=$list
      elif ! cmp -s "$first" "$list"; then
        say "share $name: < ${NF_PRIMARY[$name]} in its directory, > $site in its $view" >&2
        diff "$first" "$list" | head -n 20 >&2
        bad=1
      fi
    done
  done
  return $bad
}

# The end.

sanitizer_reports ()
{
  grep -lE 'ERROR: (Address|Leak)Sanitizer|WARNING: ThreadSanitizer|runtime error: ' \
    "$NF_TMP"/*/daemon.log "$NF_TMP"/*/sshd.log 2>/dev/null
}

cleanup ()
{
  local rc=$1 site pid log
  trap - EXIT
  trap '' INT TERM HUP
  # What a test has to end before its sites.
  ! declare -F before_cleanup >/dev/null || before_cleanup "$rc"
  for site in "${!NF_PID[@]}"; do
    kill -TERM "${NF_PID[$site]}" 2>/dev/null
  done
  # In good order if possible, as leaks are reported at the end; by force if not.
  for site in "${!NF_PID[@]}"; do
    pid=${NF_PID[$site]}
    wait_for 5 has_ended "$pid" 2>/dev/null || kill -KILL "$pid" 2>/dev/null
    wait "$pid" 2>/dev/null
  done
  for site in "${SITES[@]}"; do
    site_unmount "$site"
  done
  # An sshd's sessions are processes of their own; they end with the connection, so with the link.
  [ "${#NF_HELPERS[@]}" -eq 0 ] || kill "${NF_HELPERS[@]}" 2>/dev/null
  [ "${#NF_HELPERS[@]}" -eq 0 ] || wait "${NF_HELPERS[@]}" 2>/dev/null
  [ -z "$NF_NET" ] || network_down
  for log in $(sanitizer_reports); do
    say "a sanitizer's report in ${log#"$NF_TMP"/}" >&2
    [ "$rc" -ne 0 ] || rc=1
  done
  if [ "$rc" -ne 0 ] && [ "$rc" -ne 130 ]; then
    for log in "$NF_TMP"/*/daemon.log; do
      [ -s "$log" ] || continue
      say "---- ${log#"$NF_TMP"/}" >&2
      tail -n 30 "$log" >&2
    done
  fi
  if [ "${NF_KEEP:-0}" = 1 ]; then
    say "kept: $NF_TMP" >&2
  else
    # Never through a mount that didn't go.
    rm -rf --one-file-system "$NF_TMP"
  fi
  exit "$rc"
}
