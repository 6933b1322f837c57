#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A disk loses or alters what lies in a journal while its proxy isn't running: torn ends, flipped bits, zeros, segments that are
# gone. The data isn't in the journal, so nothing of it may be lost: the site starts, says what is wrong where something that
# had been durable is damaged, all sites become equal, and fsck says so.
# shellcheck source=tests/sites/stage.sh
. "$(dirname "$0")/../sites/stage.sh"
# shellcheck source=tests/sites/load.sh
. "$(dirname "$0")/../sites/load.sh"

limit "$(long 200 2400)"
seed=${NF_SEED:-$((RANDOM * 32768 + RANDOM))}
say "NF_SEED=$seed"
RANDOM=$seed
three_sites
mkdir "$(at london)/tree" "$(at london)/acked"
wait_in_step

export NF_WORK_MAY_FAIL='EHOSTUNREACH ENOTCONN ECONNABORTED EIO'
round=0 said=0

segments ()
{
  find "$(backing "$1" projects)/.nearfs/journal" -type f -name '[0-9a-f]*' | sort
}

# flip FILE FROM TO: one bit somewhere between the two offsets.
flip ()
{
  perl -e 'my ($file, $from, $to, $dice) = @ARGV; open my $f, "+<", $file or die $!;
    my $at = $from + $dice % ($to - $from); sysseek $f, $at, 0; sysread $f, my $byte, 1;
    sysseek $f, $at, 0; syswrite $f, chr (ord ($byte) ^ (1 << $dice % 8)); print "  bit of byte $at\n"' \
    "$1" "$2" "$3" "$((RANDOM * 32768 + RANDOM))"
}

# damage KIND FILE: the last segment.
damage ()
{
  local kind=$1 file=$2 size
  size=$(stat -c %s "$file")
  case $kind in
    cut) truncate -s "-$((1 + RANDOM % 300))" "$file" ;;
    flip-end) flip "$file" $((size - 150)) "$size" ;;
    flip-middle) flip "$file" 64 $((size - 150)) ;;
    flip-header) flip "$file" 0 64 ;;
    zeros) perl -e 'open my $f, "+<", $ARGV[0] or die $!; sysseek $f, $ARGV[1], 0; syswrite $f, "\0" x 4000' \
      "$file" $((size / 2)) ;;
    empty) : >"$file" ;;
    gone) rm "$file" ;;
    all) find "$(dirname "$file")" -type f -delete ;;
    *) fail "no damage is called $kind" ;;
  esac
}

# hurt SITE kill|stop KIND: in step with the others when it ends.
hurt ()
{
  local site=$1 end=$2 kind=$3 last
  round=$((round + 1))
  load_start "$round" 5
  load_stop
  wait_in_step 90
  "site_$end" "$site"
  last=$(segments "$site" | tail -n 1)
  [ -n "$last" ] || fail "$site has no journal"
  damage "$kind" "$last"
  : >"$NF_TMP/$site/daemon.log"
  site_start "$site"
  wait_in_step 120
  ! log_has "$site" 'journal is set aside' || said=$((said + 1))
  load_found acked 1
  load_found synced 1
  trees_equal projects || fail "the trees differ: $site, $end, $kind"
  for other in nyc tokyo; do
    site_nearfs "$other" fsck -n --content /projects >"$NF_TMP/fsck" || { cat "$NF_TMP/fsck"; fail "fsck at $other"; }
  done
  step "$site, $end, $kind: all equal"
}

if [ "$(long few all)" = few ]; then
  hurt london kill cut
  hurt nyc stop flip-middle
  hurt london stop flip-middle
else
  for site in nyc london; do
    for end in kill stop; do
      for kind in cut flip-end flip-middle flip-header zeros empty gone all; do
        hurt "$site" "$end" "$kind"
      done
    done
  done
fi
check_all 90
say "$round journals damaged ($said of them set aside): all sites equal, and fsck clean, after each"
