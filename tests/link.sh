#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# nf-link delays, limits, cuts and resets as it says.  Lower bounds are exact, as all else is tested
# with it; upper bounds leave room for a busy machine.
set -eu

dir=$(mktemp -d)
pids=()
cleanup ()
{
  [ "${#pids[@]}" -eq 0 ] || kill "${pids[@]}" 2>/dev/null || true
  rm -rf "$dir"
}
trap cleanup EXIT

link=$NF_BUILD/tests/nf-link

# perl-base is on every Debian.  A server that echoes lines, and swallows and counts after "bulk N".
cat >"$dir/server.pl" <<'PERL'
use strict; use IO::Socket::INET;
my $l = IO::Socket::INET->new (Listen => 16, LocalAddr => '127.0.0.1') or die;
$| = 1; $SIG{CHLD} = 'IGNORE';
print $l->sockport, "\n";
while (my $c = $l->accept)
  {
    next if fork;
    while (defined (my $line = <$c>))
      {
        if ($line =~ /^bulk (\d+)/)
          {
            my $left = $1;
            while ($left > 0)
              {
                my $n = read ($c, my $buf, $left > 65536 ? 65536 : $left) or exit;
                $left -= $n;
              }
          }
        syswrite $c, $line;
      }
    exit;
  }
PERL

# client.pl PORT COMMAND…: prints milliseconds.
cat >"$dir/client.pl" <<'PERL'
use strict; use IO::Socket::INET; use IO::Select; use Time::HiRes qw(time sleep);
my ($port, $what, $arg) = @ARGV;
my $c = IO::Socket::INET->new (PeerAddr => '127.0.0.1', PeerPort => $port) or die;
binmode $c;
my $pending = '';
sub answer
  {
    my $until = time + shift;
    while ($pending !~ s/^.*\n//)
      {
        IO::Select->new ($c)->can_read ($until - time) or return 0;
        my $n = sysread $c, $pending, 4096, length $pending;
        if (!defined $n) { print "reset\n"; exit }
        if ($n == 0) { print "eof\n"; exit }
      }
    return 1;
  }
sub ping { my $t = time; syswrite $c, "ping\n"; answer (shift) or return -1; return (time - $t) * 1000 }
ping (20); # the handshake is behind us
$| = 1;
if ($what eq 'ping') { printf "%d\n", ping (20) }
elsif ($what eq 'bulk')
  {
    my $t = time;
    my $data = "x" x $arg;
    $SIG{PIPE} = 'IGNORE';
    print $c "bulk $arg\n$data"; $c->flush;
    answer (60) or die;
    printf "%d\n", (time - $t) * 1000;
  }
elsif ($what eq 'silence')
  {
    # The script cuts after "ready", and heals after "silent".
    print "ready\n"; <STDIN>;
    print ping (0.4) < 0 ? "silent\n" : "heard\n"; <STDIN>;
    print answer (20) ? "heard\n" : "silent\n";
  }
elsif ($what eq 'wait') { print "ready\n"; answer (20); print "nothing\n" }
PERL

start ()
{
  local name=$1 line
  shift
  mkfifo "$dir/$name.fifo"
  "$@" >"$dir/$name.fifo" &
  pids+=($!)
  read -r line <"$dir/$name.fifo"
  printf -v "$name" %s "${line##*:}"
}

ctl ()
{
  "$link" --ctl "$dir/ctl" "$@"
}

at_least ()
{
  echo "$1: $2 ms (at least $3, less than $4)"
  [ "$2" -ge "$3" ] && [ "$2" -lt "$4" ] || { echo "FAILED"; exit 1; }
}

expect ()
{
  echo "$1: $2"
  [ "$2" = "$3" ] || { echo "FAILED: expected $3"; exit 1; }
}

server='' port=''
start server perl "$dir/server.pl"
start port "$link" --listen 127.0.0.1:0 --to "127.0.0.1:$server" --delay 200 --control "$dir/ctl"

at_least 'ping over 2 x 200 ms' "$(perl "$dir/client.pl" "$port" ping)" 400 4000
ctl delay 0
at_least 'ping over no delay' "$(perl "$dir/client.pl" "$port" ping)" 0 400

ctl rate 1000000
at_least '1 MB at 1 MB/s' "$(perl "$dir/client.pl" "$port" bulk 1000000)" 950 8000
# Two share the rate; a ping beside them needn't wait until they are done.
perl "$dir/client.pl" "$port" bulk 1000000 >"$dir/bulk1" &
first=$!
perl "$dir/client.pl" "$port" bulk 1000000 >"$dir/bulk2" &
second=$!
sleep 0.3
at_least 'ping beside bulk' "$(perl "$dir/client.pl" "$port" ping)" 0 1000
wait "$first" "$second"
# Whoever begins later, on a busy machine, misses some of the other's time.
at_least 'the slower of two times 1 MB at 1 MB/s' "$(sort -n "$dir/bulk1" "$dir/bulk2" | tail -1)" \
  1700 16000
ctl rate 0
ctl delay 10
at_least '64 MiB over 2 x 10 ms without limit' \
  "$(perl "$dir/client.pl" "$port" bulk 67108864)" 20 20000

# bash forgets a coprocess's descriptors as soon as it has ended, so they are copied.
coproc CLIENT { perl "$dir/client.pl" "$port" silence; }
exec 3<&"${CLIENT[0]}" 4>&"${CLIENT[1]}"
read -r answer <&3
ctl cut
echo >&4
read -r answer <&3
expect 'cut' "$answer" silent
ctl heal
echo >&4
read -r answer <&3
expect 'healed' "$answer" heard

mkfifo "$dir/fifo"
exec 5<>"$dir/fifo"
perl "$dir/client.pl" "$port" wait >&5 &
read -r answer <&5
ctl reset
read -r answer <&5
expect 'reset' "$answer" reset

expect 'stats' "$(ctl stats | sed 's/up=.* delay/delay/')" 'ok connections=0 delay_ms=10 rate=0 cut=0'
if ctl nonsense; then
  echo 'FAILED: an unknown command was accepted'
  exit 1
fi
