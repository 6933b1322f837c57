# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Peers that get it wrong.  Of two sites the one with the greater name dials: nyc dials london.

# peer_says SITE PEER PATTERN: the last error in status.
peer_says ()
{
  site_nearfs "$1" status --json 2>/dev/null | perl -MJSON::PP -e '
    local $/; my ($peer, $pattern) = @ARGV; my $s = decode_json (<STDIN>);
    for (@{$s->{peers}}) { exit 0 if $_->{site} eq $peer && $_->{last_error} =~ /$pattern/ } exit 1' "$2" "$3"
}

expect_peer ()
{
  wait_for 30 peer_says "$@" || fail "$1 should say of $2: $3; it says: $(site_nearfs "$1" status)"
  say "  $1 says: $(site_nearfs "$1" status --json | perl -MJSON::PP -e '
    local $/; my $s = decode_json (<STDIN>);
    for (@{$s->{peers}}) { print $_->{last_error} if $_->{site} eq $ARGV[0] }' "$2" | sed "s|$NF_TMP/||g" | head -c 200)"
}

# nyc can't reach london, but is up and serves what it has.
serves_alone ()
{
  has_text "$(at nyc)/kept" 'as it was' || fail "nyc doesn't serve what it has"
  tries create "$(at nyc)/refused"
  expect 'a change without a link' "$TRY_ERROR" EHOSTUNREACH
}

garbage ()
{
  local i out
  # Not a peer's bytes at all, a proper beginning and then garbage, and nothing.
  for i in random text magic empty huge; do
    {
      case $i in
        random) head -c 100000 /dev/urandom ;;
        text) printf 'GET / HTTP/1.0\r\n\r\n' ;;
        magic) printf 'NEARFS 1\n' && head -c 100000 /dev/urandom ;;
        huge) printf 'NEARFS 1\n' && printf '\377%.0s' {1..64} ;;
      esac
    } >"$NF_TMP/garbage"
    out=$(bounded 20 "$NEARFS" relay --site nyc --config "$NF_TMP/london/site.conf" <"$NF_TMP/garbage" 2>&1 >/dev/null)
    [ -n "$out" ] || fail "london says nothing to $i"
    say "  $i: ${out:0:100}"
    kill -0 "${NF_PID[london]}" || fail "london died of $i"
  done
  works 'garbage'
}

# What nyc's program would say if it were of another time.
other_version ()
{
  local said
  said=$(printf 'NEARFS 99\n' | bounded 20 "$NEARFS" relay --site nyc --config "$NF_TMP/london/site.conf" 2>&1 >/dev/null)
  say "  london answers: $said"
  grep -qi 'version\|protocol' <<<"$said" || fail "london doesn't say that the version is another"
  works 'another version'
}

wrong_key ()
{
  printf 'as it was\n' >"$(at nyc)/kept"
  wait_in_step
  site_stop nyc
  cp "$NF_TMP/nyc/key" "$NF_TMP/nyc/key.right"
  rm -f "$NF_TMP/nyc/key" && ssh-keygen -q -t ed25519 -N '' -C other -f "$NF_TMP/nyc/key" <<<y
  site_start nyc
  expect_peer nyc london 'accepts none of our keys|publickey|[Pp]ermission denied'
  serves_alone
  site_stop nyc
  mv "$NF_TMP/nyc/key.right" "$NF_TMP/nyc/key"
  site_start nyc
  wait_in_step
  works 'a wrong key'
}

unknown_host_key ()
{
  site_stop nyc
  cp "$NF_TMP/nyc/known_hosts" "$NF_TMP/nyc/known_hosts.right"
  : >"$NF_TMP/nyc/known_hosts"
  site_start nyc
  expect_peer nyc london 'host key.*unknown.*accept it with'
  serves_alone
  # One that has changed, too.
  awk -v key="$(cut -d' ' -f2 "$NF_TMP/tokyo/hostkey.pub")" '{ $3 = key; print }' "$NF_TMP/nyc/known_hosts.right" >"$NF_TMP/nyc/known_hosts"
  site_stop nyc
  site_start nyc
  expect_peer nyc london 'host key.*changed'
  serves_alone
  site_stop nyc
  mv "$NF_TMP/nyc/known_hosts.right" "$NF_TMP/nyc/known_hosts"
  site_start nyc
  wait_in_step
  works 'an unknown host key'
}

unknown_site ()
{
  local keys=$NF_TMP/london/authorized_keys
  site_stop nyc
  cp "$keys" "$keys.right"
  sed 's/--site nyc /--site paris /' "$keys.right" >"$keys"
  site_start nyc
  expect_peer nyc london "paris isn't in the map of london"
  serves_alone
  # The key of one site in the hands of another.
  site_stop nyc
  sed 's/--site nyc /--site tokyo /' "$keys.right" >"$keys"
  site_start nyc
  expect_peer nyc london 'the key of site tokyo is used by a site that calls itself nyc'
  serves_alone
  site_stop nyc
  mv "$keys.right" "$keys"
  site_start nyc
  wait_in_step
  works 'an unknown site'
}

# A second machine that was given nyc's name and key.
same_name ()
{
  local twin=$NF_TMP/twin pid
  mkdir -p "$twin/srv" "$twin/home"
  mkdir -m 0700 "$twin/run"
  sed -e "s|^roots.*|roots = $twin/srv|" -e "s|^runtime.*|runtime = $twin/run|" -e "s|^map.*|map = $twin/server.map|" "$NF_TMP/nyc/site.conf" >"$twin/site.conf"
  sed "s|$NF_TMP/nyc/srv|$twin/srv|" "$NF_TMP/server.map" >"$twin/server.map"
  in_net nyc
  "${NF_IN[@]}" env STATE_DIRECTORY="$twin/state" HOME="$twin/home" "$NEARFS" serve --config "$twin/site.conf" >"$twin/daemon.log" 2>&1 </dev/null &
  pid=$!
  twin_says () { "$NEARFS" status --config "$twin/site.conf" 2>&1 | tr -s '[:space:]' ' ' | grep -q 'already connected from elsewhere'; }
  wait_for 30 twin_says || fail "the second nyc isn't refused: $("$NEARFS" status --config "$twin/site.conf" 2>&1; tail -n 5 "$twin/daemon.log")"
  works 'a second nyc'
  kill -TERM "$pid"
  wait "$pid"
  # Two daemons of one site at one machine.
  refuses 'runs already' "$NEARFS" serve --config "$NF_TMP/nyc/site.conf"
  works 'two of nyc'
}
