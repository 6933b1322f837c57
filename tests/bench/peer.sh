# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
# How benchmarks print what they find, and an sshd for what nearfs is compared with. To be sourced after stage.sh.

# Also in FILE.
results ()
{
  RESULTS=$1
  : >"$RESULTS"
}

out ()
{
  printf '%s\n' "$*" | tee -a "$RESULTS"
}

title ()
{
  out
  out "$1"
  out "$(printf '%-44s %12s %12s  %s' '' "$2" "$3" 'ratio: median (range)')"
}

# line LABEL UNIT FILE: of pairs "A B", one a line.
line ()
{
  out "$(perl -e '
    my ($label, $unit) = (shift, shift);
    my (@a, @b, @r);
    while (<>) { my ($x, $y) = split; push @a, $x; push @b, $y; push @r, $y / $x }
    sub median { my @s = sort { $a <=> $b } @_; $s[$#s / 2] }
    sub figure { my $x = shift; $x >= 100 ? sprintf "%.0f", $x : sprintf "%.3g", $x }
    my @s = sort { $a <=> $b } @r;
    printf "%-44s %12s %12s  %.2f (%.2f to %.2f)", "$label, $unit", figure (median (@a)), figure (median (@b)),
      median (@r), $s[0], $s[-1]' "$1" "$2" "$3")"
}

# An sshd of root's at london that takes nyc's key for any command, behind a link of its own: PEER_PORT.
peer_sshd_up ()
{
  local port config=$NF_TMP/sftp_config
  cp "$NF_TMP/nyc/key.pub" "$NF_TMP/sftp_keys"
  for ((port = 20000 + RANDOM % 12000; ; port++)); do
    sed -e "s/^ListenAddress.*/ListenAddress 127.0.0.1:$port/" -e "s|^AuthorizedKeysFile.*|AuthorizedKeysFile $NF_TMP/sftp_keys|" \
      -e 's/^PermitRootLogin.*/PermitRootLogin prohibit-password/' "$NF_TMP/london/sshd_config" >"$config"
    echo 'Subsystem sftp internal-sftp' >>"$config"
    "$SSHD" -D -e -f "$config" 2>"$NF_TMP/sftp.log" &
    NF_HELPERS+=($!)
    listens () { grep -qE 'Server listening|Cannot bind|fatal' "$NF_TMP/sftp.log"; }
    wait_for 10 listens && grep -q 'Server listening' "$NF_TMP/sftp.log" && break
  done
  mkfifo "$NF_TMP/sftp.fifo"
  "$NF_LINK" --listen 127.0.0.1:0 --to "127.0.0.1:$port" --delay 0 --control "$NF_TMP/links/sftp" >"$NF_TMP/sftp.fifo" &
  NF_HELPERS+=($!)
  PEER_PORT=$(ready_line "$NF_TMP/sftp.fifo" $!)
  PEER_PORT=${PEER_PORT##*:}
}

# peer_link_delay MS: each way.
peer_link_delay ()
{
  "$NF_LINK" --ctl "$NF_TMP/links/sftp" delay "$1" >/dev/null || fail "the peer's link"
}
