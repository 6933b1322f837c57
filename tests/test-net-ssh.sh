#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# usage: test-net-ssh.sh [--measure]
# Two hubs over a real sshd on 127.0.0.1, by libssh and by the ssh program, and what is said when
# something is wrong.
set -u

: "${NF_SRC:=$(cd "$(dirname "$0")/.." && pwd)}"
: "${NF_BUILD:=$NF_SRC}"
PEER=${NF_HUB_PEER:-$NF_BUILD/tests/hub-peer}
LINK=${NF_LINK:-$NF_BUILD/tests/nf-link}
SSHD=$(PATH=$PATH:/usr/sbin:/sbin command -v sshd || true)
ME=$(id -un)

fail ()
{
  printf 'FAILED: %s\n' "$*" >&2
  exit 1
}

[ -n "$SSHD" ] || fail "there is no sshd (Debian: openssh-server)"
DIR=$(mktemp -d "${TMPDIR:-/tmp}/nf-net-XXXXXX")
SSHD_PID=
LINK_PID=

cleanup ()
{
  local status=$?
  stop far
  stop near
  [ -z "$SSHD_PID$LINK_PID" ] || kill $SSHD_PID $LINK_PID 2>/dev/null
  if [ "$status" -ne 0 ]; then
    tail -n 20 "$DIR"/*.log >&2
  fi
  [ -n "${NF_KEEP-}" ] || rm -rf "$DIR"
}

# Daemons that are driven by lines: FD_IN and FD_OUT lead to them.
declare -A PID FD_IN FD_OUT

# start NAME
start ()
{
  local name=$1 in out
  mkfifo "$DIR/$name.in" "$DIR/$name.out"
  # Without the other's descriptors, or that one would never see its input's end.
  (
    for fd in "${FD_IN[@]}" "${FD_OUT[@]}"; do
      exec {fd}>&-
    done
    exec "$PEER" serve "$DIR/$name.conf" "$DIR/map" <"$DIR/$name.in" >"$DIR/$name.out" 2>>"$DIR/$name.log"
  ) &
  PID[$name]=$!
  exec {in}>"$DIR/$name.in" {out}<"$DIR/$name.out"
  FD_IN[$name]=$in
  FD_OUT[$name]=$out
  rm "$DIR/$name.in" "$DIR/$name.out"
}

stop ()
{
  local name=$1 in out
  [ -n "${PID[$name]-}" ] || return 0
  in=${FD_IN[$name]}
  out=${FD_OUT[$name]}
  exec {in}>&- {out}<&-
  unset "FD_IN[$name]" "FD_OUT[$name]"
  wait "${PID[$name]}" 2>/dev/null
  PID[$name]=
}

# ask NAME WORD…: prints the answer, one line.
ask ()
{
  local name=$1 line
  shift
  printf '%s\n' "$*" >&"${FD_IN[$name]}"
  IFS= read -r -t 60 line <&"${FD_OUT[$name]}" || fail "$name doesn't answer \"$*\""
  printf '%s\n' "$line"
}

# expect TEXT NAME WORD…: the answer must contain TEXT.
expect ()
{
  local text=$1 answer
  shift
  answer=$(ask "$@") || exit 1
  case $answer in
    *"$text"*) ;;
    *) fail "$*: expected \"$text\", but it's \"$answer\"" ;;
  esac
}

# near_conf TRANSPORT [LINE…]
near_conf ()
{
  local transport=$1
  shift
  {
    printf '[site]\nname = near\nroots = %s/srv\nruntime = %s/near.run\n' "$DIR" "$DIR"
    printf 'identity = %s\nknown-hosts = %s/known_hosts\n' "${KEY:-$DIR/key}" "$DIR"
    printf 'ssh-config = %s/ssh_config\ntransport = %s\n' "$DIR" "$transport"
    [ $# -eq 0 ] || printf '%s\n' "$@"
  } >"$DIR/near.conf"
}

authorize ()
{
  printf 'restrict,command="exec %s relay %s/far.conf %s" %s\n' "$PEER" "$DIR" "${1:-near}" \
    "$(cat "$DIR/key.pub")" >"$DIR/authorized_keys"
}

# A free port: sshd is tried on some until it stays.
start_sshd ()
{
  local try
  for try in 1 2 3 4 5 6 7 8; do
    PORT=$((20000 + (RANDOM + try) % 12000))
    "$SSHD" -D -e -p "$PORT" -f "$DIR/sshd_config" 2>>"$DIR/sshd.log" &
    SSHD_PID=$!
    for _ in $(seq 50); do
      if (exec 3<>"/dev/tcp/127.0.0.1/$PORT") 2>/dev/null; then
        kill -0 "$SSHD_PID" 2>/dev/null && return 0
      fi
      kill -0 "$SSHD_PID" 2>/dev/null || break
      sleep 0.05
    done
  done
  fail "sshd doesn't start"
}

know_host ()
{
  printf '[127.0.0.1]:%s %s\n' "$PORT" "$(cut -d' ' -f1,2 "$1")" >"$DIR/known_hosts"
}

# write_map PORT
write_map ()
{
  cat >"$DIR/map" <<END
[map]
serial = 1
[site near]
ssh = none
[site far]
ssh = $ME@127.0.0.1
port = $1
[share s]
mount = /s
local = far:$DIR/srv/far
broadcast = near:$DIR/srv/near
END
}

trap cleanup EXIT
trap 'exit 130' INT TERM HUP
for key in host other_host key other_key; do
  ssh-keygen -q -t ed25519 -N '' -C test -f "$DIR/$key" || fail "ssh-keygen"
done
cat >"$DIR/sshd_config" <<END
ListenAddress 127.0.0.1
HostKey $DIR/host
PidFile none
AuthorizedKeysFile $DIR/authorized_keys
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin yes
StrictModes no
SetEnv SHLVL=2
UsePAM no
END
# No identity, agent or configuration of the user's own gets in the way.
export HOME=$DIR
unset SSH_AUTH_SOCK
: >"$DIR/ssh_config"
mkdir "$DIR/srv"
start_sshd
write_map "$PORT"
printf '[site]\nname = far\nroots = %s/srv\nruntime = %s/far.run\nheartbeat = 2\n' "$DIR" "$DIR" >"$DIR/far.conf"

# works TRANSPORT: everything is right.
works ()
{
  know_host "$DIR/host.pub"
  authorize
  near_conf "$1" "heartbeat = 2"
  start far
  start near
  expect ok near wait-up far
  expect ok near wait-bulk far
  expect ok far wait-bulk near
  printf '%s: ping %s\n' "$1" "$(ask near ping far 200)"
  printf '%s: push %s, pull %s\n' "$1" "$(ask near push far bulk 32 256)" "$(ask near pull far bulk 32 256)"
  expect MB/s near push far ops 8 64
  expect MB/s near pull far ops 8 64
  if [ -n "${MEASURE-}" ]; then
    for _ in 1 2 3; do
      printf '%s: ping %s, ops push %s, pull %s; bulk push %s, pull %s\n' "$1" "$(ask near ping far 5000)" \
        "$(ask near push far ops 256 64)" "$(ask near pull far ops 256 64)" \
        "$(ask near push far bulk 512 256)" "$(ask near pull far bulk 512 256)"
    done
  fi
  # A daemon that is killed and one that comes back.
  kill -KILL "${PID[far]}"
  expect ok near wait-down far
  stop far
  expect "no nearfs daemon runs here" near wait-error far no nearfs daemon
  start far
  expect ok near wait-up far
  stop near
  expect ok far wait-down near
  stop far
}

# start_link DELAY_MS RATE: a way to sshd through the emulator, on LINK_PORT.
start_link ()
{
  mkfifo "$DIR/link.out"
  "$LINK" --listen 127.0.0.1:0 --to "127.0.0.1:$PORT" --delay "$1" --rate "$2" --control "$DIR/link.sock" \
    >"$DIR/link.out" 2>>"$DIR/link.log" &
  LINK_PID=$!
  exec {out}<"$DIR/link.out"
  IFS= read -r -t 20 LINK_PORT <&"$out" || fail "nf-link doesn't start"
  LINK_PORT=${LINK_PORT##*[!0-9]}
  rm "$DIR/link.out"
}

stop_link ()
{
  kill "$LINK_PID"
  wait "$LINK_PID" 2>/dev/null
  LINK_PID=
  exec {out}<&-
}

# far_away TRANSPORT: 50 ms away, with a link that goes dead without a word.
far_away ()
{
  local before
  start_link 25 0
  write_map "$LINK_PORT"
  printf '[127.0.0.1]:%s %s\n' "$LINK_PORT" "$(cut -d' ' -f1,2 "$DIR/host.pub")" >>"$DIR/known_hosts"
  near_conf "$1" "heartbeat = 2"
  start far
  start near
  expect ok near wait-up far
  expect ok near wait-bulk far
  expect us near ping far 5
  expect MB/s near push far bulk 16 256
  if [ -n "${MEASURE-}" ]; then
    printf '%s, 50 ms: ping %s; bulk push %s, pull %s\n' "$1" "$(ask near ping far 20)" \
      "$(ask near push far bulk 512 256)" "$(ask near pull far bulk 512 256)"
  fi
  before=$SECONDS
  "$LINK" --ctl "$DIR/link.sock" cut >/dev/null || fail "nf-link: cut"
  expect ok near wait-down far
  expect ok far wait-down near
  [ $((SECONDS - before)) -le 6 ] || fail "a dead link was found after $((SECONDS - before)) s"
  "$LINK" --ctl "$DIR/link.sock" heal >/dev/null || fail "nf-link: heal"
  expect ok near wait-up far
  expect us near ping far 2
  stop near
  stop far
  stop_link
  write_map "$PORT"
}

# by_alias TRANSPORT: user, port and a way through a proxy come from ssh_config.
by_alias ()
{
  cat >"$DIR/proxy" <<'END'
#!/bin/bash
exec 3<>"/dev/tcp/$1/$2"
cat <&3 &
exec cat >&3
END
  chmod +x "$DIR/proxy"
  printf 'Host elsewhere\n  HostName 127.0.0.1\n  Port %s\n  User %s\n  ProxyCommand %s/proxy %%h %%p\n' \
    "$PORT" "$ME" "$DIR" >"$DIR/ssh_config"
  sed -i "s/^ssh = $ME@.*/ssh = elsewhere/; /^port = /d" "$DIR/map"
  near_conf "$1"
  start far
  start near
  expect ok near wait-up far
  expect us near ping far 5
  stop near
  stop far
  : >"$DIR/ssh_config"
  write_map "$PORT"
}

# refused TRANSPORT TEXT: the near site's error contains it.
refused ()
{
  local transport=$1
  shift
  near_conf "$transport"
  start near
  expect "$*" near wait-error far "$@"
  stop near
}

[ "${1-}" != --measure ] || MEASURE=1
for transport in libssh ssh; do
  works "$transport"
  far_away "$transport"
  by_alias "$transport"

  start far
  : >"$DIR/known_hosts"
  if [ "$transport" = libssh ]; then
    refused libssh "accept it with: ssh-keyscan -p $PORT '127.0.0.1' >>'$DIR/known_hosts'"
    know_host "$DIR/other_host.pub"
    refused libssh "has changed"
    refused libssh "ssh-keygen -R '[127.0.0.1]:$PORT' -f '$DIR/known_hosts' && ssh-keyscan"
  else
    refused ssh "ssh-keyscan -p $PORT"
    know_host "$DIR/other_host.pub"
    refused ssh "ssh-keygen -R"
  fi
  know_host "$DIR/host.pub"

  KEY=$DIR/other_key
  if [ "$transport" = libssh ]; then
    refused libssh "accepts none of our keys (tried $DIR/other_key"
  else
    refused ssh "Permission denied"
  fi
  unset KEY

  # The key of another site.
  authorize elsewhere
  refused "$transport" "site elsewhere isn't in the map of far"
  authorize far
  refused "$transport" "the key is that of site far itself"

  # A login shell that talks, and a command that isn't there.
  printf 'command="echo Welcome; exec %s relay %s/far.conf near" %s\n' "$PEER" "$DIR" "$(cat "$DIR/key.pub")" \
    >"$DIR/authorized_keys"
  refused "$transport" "the login shell of $ME@127.0.0.1 prints text before nearfs relay"
  printf 'command="exec /nonexistent/nearfs relay" %s\n' "$(cat "$DIR/key.pub")" >"$DIR/authorized_keys"
  refused "$transport" "$ME@127.0.0.1 answers: "
  authorize
  stop far
done
echo ok
