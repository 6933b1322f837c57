# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
# What nearfs is compared with: libfuse's pass-through examples, and sshfs, scp, rsync and tar over a link like its
# own.  To be sourced by lib.sh.  What is missing is said in the results.

PEER_MOUNTS=()
PEER_BIN=$NF_BUILD/tests/bench/peers

# peer_missing NAME WHY
peer_missing ()
{
  out "MISSING: $1 isn't compared with: $2"
}

# have NAME PROGRAM PACKAGE
have ()
{
  command -v "$2" >/dev/null && return
  peer_missing "$1" "no $2 (Debian: $3)"
  return 1
}

# libfuse's examples, built from what Debian ships: passthrough_ll.c is in libfuse3-dev, passthrough_hp.cc only in the
# source package.  NF_FUSE_EXAMPLES is a directory that has both.

example_source ()
{
  local dir
  for dir in "${NF_FUSE_EXAMPLES:-}" /usr/share/doc/libfuse3-dev/examples "$PEER_BIN"/fuse3-*/example; do
    [ ! -r "$dir/$1" ] || { printf '%s\n' "$dir/$1"; return; }
  done
  return 1
}

# Debian's source package, of the installed version if it is still there, from where the machine gets its packages, by an apt
# of its own that leaves the system's alone.
fetch_fuse_source ()
{
  local dir=$PEER_BIN/apt options list
  mkdir -p "$dir/parts" "$dir/lists/partial" "$dir/cache/archives/partial"
  for list in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
    [ ! -r "$list" ] || sed -n 's/^deb[[:space:]]/deb-src /p' "$list" >"$dir/parts/$(basename "$list" .list).list"
  done
  for list in /etc/apt/sources.list.d/*.sources; do
    [ ! -r "$list" ] || sed 's/^Types:.*/Types: deb-src/' "$list" >"$dir/parts/$(basename "$list")"
  done
  options=(-q -o Dir::Etc::sourcelist=- -o "Dir::Etc::sourceparts=$dir/parts" -o "Dir::State::lists=$dir/lists"
    -o "Dir::Cache=$dir/cache" -o APT::Sandbox::User=)
  (cd "$PEER_BIN" && timeout 120 apt-get "${options[@]}" update && timeout 120 apt-get "${options[@]}" source fuse3) \
    >"$PEER_BIN/apt.log" 2>&1
  rm -rf "$dir"
}

# passthrough_built NAME
passthrough_built ()
{
  local name=$1 source suffix=c flags has
  [ ! -x "$PEER_BIN/$name" ] || return 0
  mkdir -p "$PEER_BIN"
  [ "$name" != passthrough_hp ] || suffix=cc
  source=$(example_source "$name.$suffix") || { fetch_fuse_source && source=$(example_source "$name.$suffix"); } ||
    { peer_missing "$name" "no $name.$suffix, and apt-get source fuse3 doesn't get it"; return 1; }
  read -r -a flags <<<"$(pkg-config --cflags --libs fuse3)"
  # What libfuse's own build finds on Linux; without it there are no times, no xattrs, no fallocate.
  for has in UTIMENSAT SETXATTR FALLOCATE POSIX_FALLOCATE COPY_FILE_RANGE; do flags+=("-DHAVE_$has"); done
  if [ "$suffix" = cc ]; then
    c++ -O2 -std=c++17 -o "$PEER_BIN/$name" "$source" "${flags[@]}" -pthread
  else
    cc -O2 -o "$PEER_BIN/$name" "$source" "${flags[@]}" -pthread
  fi 2>"$PEER_BIN/$name.log" || { peer_missing "$name" "it doesn't compile: $PEER_BIN/$name.log"; return 1; }
}

is_mounted ()
{
  grep -qF " $1 fuse" /proc/self/mounts
}

# passthrough_up NAME SOURCE: into NAMES and PLACE.  Everything is cached for a day; passthrough_hp writes back from
# the cache of its own accord, passthrough_ll writes through.  Neither asks whether the caller may; NAME+checks lets the kernel
# ask, as every filesystem for more than one user has to.
passthrough_up ()
{
  local name=$1 program=${1%+checks} source=$2 mount=$NF_TMP/$1 checks='' command
  passthrough_built "$program" || return 0
  mkdir -p "$mount"
  command=("$PEER_BIN/$program")
  [ "$name" = "$program" ] || checks=,default_permissions
  if [ "$program" = passthrough_ll ]; then
    command+=(-f -o "source=$source,cache=always,timeout=86400$checks" "$mount")
  else
    command+=("$source" "$mount")
  fi
  # Each keeps a descriptor open for every inode that the kernel knows.
  (ulimit -n "$(ulimit -Hn)" && exec "${command[@]}") >"$NF_TMP/$name.log" 2>&1 </dev/null &
  NF_HELPERS+=($!)
  wait_for 10 is_mounted "$mount" || { peer_missing "$name" "it doesn't mount: $(tail -n 1 "$NF_TMP/$name.log")"; return 0; }
  PEER_MOUNTS+=("$mount")
  NAMES+=("$name")
  # shellcheck disable=SC2034 # measure's
  PLACE[$name]=$mount
}

peers_down ()
{
  local mount
  for mount in "${PEER_MOUNTS[@]}"; do
    ! is_mounted "$mount" || fusermount3 -u -z "$mount"
  done
  PEER_MOUNTS=()
}

# Over the link.

# An sshd of this user's at london that takes nyc's key for any command, behind a link of its own: PEER_PORT, and PEER_SSH
# to get there.
peer_sshd_up ()
{
  local port config=$NF_TMP/sftp_config
  cp "$NF_TMP/nyc/key.pub" "$NF_TMP/sftp_keys"
  for ((port = 20000 + RANDOM % 12000; ; port++)); do
    sed -e "s/^ListenAddress.*/ListenAddress 127.0.0.1:$port/" -e "s|^AuthorizedKeysFile.*|AuthorizedKeysFile $NF_TMP/sftp_keys|" \
      -e 's/^PermitRootLogin.*/PermitRootLogin prohibit-password/' "$NF_TMP/london/sshd_config" >"$config"
    echo 'Subsystem sftp internal-sftp' >>"$config"
    : >"$NF_TMP/sftp.log"
    "$SSHD" -D -e -f "$config" 2>>"$NF_TMP/sftp.log" &
    NF_HELPERS+=($!)
    listens () { grep -qE 'Server listening|Cannot bind|fatal' "$NF_TMP/sftp.log"; }
    wait_for 10 listens && grep -q 'Server listening' "$NF_TMP/sftp.log" && break
  done
  mkfifo "$NF_TMP/sftp.fifo"
  "$NF_LINK" --listen 127.0.0.1:0 --to "127.0.0.1:$port" --delay 0 --control "$NF_TMP/links/sftp" >"$NF_TMP/sftp.fifo" &
  NF_HELPERS+=($!)
  PEER_PORT=$(ready_line "$NF_TMP/sftp.fifo" $!)
  PEER_PORT=${PEER_PORT##*:}
  cat >"$NF_TMP/peer_ssh" <<CONF
Host peer
  HostName 127.0.0.1
  Port $PEER_PORT
  User $(id -un)
  IdentityFile $NF_TMP/nyc/key
  IdentitiesOnly yes
  StrictHostKeyChecking no
  UserKnownHostsFile /dev/null
  BatchMode yes
  LogLevel ERROR
CONF
  PEER_SSH=(ssh -F "$NF_TMP/peer_ssh" peer)
}

# peer_link_delay MS: each way.
peer_link_delay ()
{
  "$NF_LINK" --ctl "$NF_TMP/links/sftp" delay "$1" >/dev/null || fail "the peer's link"
}

# all_links_delay MS: of this stage's sites and of the peers.
all_links_delay ()
{
  local pair
  peer_link_delay "$1"
  for pair in "${!NF_LINKS[@]}"; do
    "$NF_LINK" --ctl "${NF_LINKS[$pair]}" delay "$1" >/dev/null || fail "the link $pair"
  done
}

# sshfs with its own defaults, at $NF_TMP/sshfs, of a directory on the same disk.
sshfs_up ()
{
  have sshfs sshfs sshfs || return
  mkdir -p "$NF_TMP/sftp" "$NF_TMP/sshfs"
  sshfs -F "$NF_TMP/peer_ssh" "peer:$NF_TMP/sftp" "$NF_TMP/sshfs" || { peer_missing sshfs "it doesn't mount"; return 1; }
  PEER_MOUNTS+=("$NF_TMP/sshfs")
}

peer_scp ()
{
  scp -q -F "$NF_TMP/peer_ssh" "$1" "peer:$2"
}

# Not our own directory, where the one that is copied is a share's.
peer_rsync ()
{
  rsync -a --exclude /.nearfs -e "ssh -F $NF_TMP/peer_ssh" "$1/" "peer:$2/"
}

# peer_tar DIR TO
peer_tar ()
{
  tar -C "$1" --exclude ./.nearfs -cf - . | "${PEER_SSH[@]}" "tar -C '$2' -xf -"
}
