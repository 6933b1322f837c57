# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Disks that are full, read-only, or not there.

DISKS=()

# As root each site's directories lie on a small disk of their own.
disks_up ()
{
  local site dir
  [ "$(id -u)" -eq 0 ] || return 0
  for site in "${SITES[@]}"; do
    dir=$(backing "$site" projects)
    mkdir -p "$dir"
    truncate -s 48M "$NF_TMP/$site.disk"
    mkfs.ext4 -q -m 0 "$NF_TMP/$site.disk" 2>/dev/null && mount -o loop "$NF_TMP/$site.disk" "$dir" 2>/dev/null ||
      mount -t tmpfs -o size=44M,mode=0755 none "$dir" 2>/dev/null || return 0
    DISKS+=("$dir")
    # mkfs makes it at the primary alone, so that it would be a difference.
    [ ! -d "$dir/lost+found" ] || rmdir "$dir/lost+found"
  done
}

# The primary's directory without what makes it that: an unmounted disk leaves such a one.
disk_away ()
{
  local dir=$NF_TMP/london/srv
  site_stop london
  mv "$dir" "$dir.away" 2>/dev/null || fail 'moving the directory'
  mkdir -p "$dir/projects"
  site_start london
  status_says london 'is its disk mounted' || fail "london doesn't miss its disk: $(site_nearfs london status)"
  site_nearfs london status | grep -A1 'mounted?' | head -n 2 | sed 's/^/  /'
  # The replicas keep what they have.
  has_text "$(at nyc)/kept" 'as it was' || fail 'the replicas follow an empty directory'
  has_text "$(at tokyo)/kept" 'as it was' || fail 'the replicas follow an empty directory'
  [ -z "$(ls -A "$dir/projects")" ] || fail 'something was put into the mount point of the disk'
  tries create "$(at nyc)/refused-2"
  say "  a change at nyc: $TRY_ERROR after $TRY_MS ms"
  [ "$TRY_ERROR" != ok ] || fail 'a change without a primary'
  site_stop london
  rm -r "$dir"
  mv "$dir.away" "$dir"
  site_start london
  wait_in_step
  works 'a disk that was not there'
  # The same at a replica.
  site_stop tokyo
  mv "$NF_TMP/tokyo/srv" "$NF_TMP/tokyo/srv.away"
  mkdir -p "$NF_TMP/tokyo/srv/projects"
  site_start tokyo
  status_says tokyo 'is its disk mounted' || fail "tokyo doesn't miss its disk: $(site_nearfs tokyo status)"
  site_stop tokyo
  rm -r "$NF_TMP/tokyo/srv"
  mv "$NF_TMP/tokyo/srv.away" "$NF_TMP/tokyo/srv"
  site_start tokyo
  wait_in_step
  works 'a replica whose disk was not there'
}

# nyc's directory of this share given to another.
other_share ()
{
  cp "$NF_TMP/server.map" "$NF_TMP/server.map.right"
  site_stop nyc
  {
    sed 's/^broadcast = .*/broadcast = /;/^broadcast = $/d' "$NF_TMP/server.map.right"
    printf '\n[share others]\nmount = /others\nlocal = nyc:%s\n' "$(backing nyc projects)"
  } >"$NF_TMP/server.map"
  site_start nyc
  status_says nyc 'belongs to|another share|share id|is of share' || fail "nyc takes the directory of another share: $(site_nearfs nyc status)"
  site_nearfs nyc status | grep -iE 'share' | tail -n 2 | sed "s/^/  /;s|$NF_TMP/||g"
  site_stop nyc
  mv "$NF_TMP/server.map.right" "$NF_TMP/server.map"
  site_start nyc
  wait_in_step
  works 'the directory of another share'
}

full_primary ()
{
  local result
  result=$("$NF_WORK" try write "$(at nyc)/too-large" 80000000) || fail 'writing too much'
  say "  80 MB from nyc to a disk of 48 MB: $result"
  expect 'the error at nyc' "${result%% *}" ENOSPC
  tries create "$(at london)/also" 4000000
  say "  4 MB at london: $TRY_ERROR"
  bounded 20 rm -f "$(at nyc)/too-large" "$(at london)/also" || fail 'removing from a full disk'
  wait_in_step
  works 'a full disk at the primary'
  trees_equal projects || fail 'the trees differ'
}

# What was removed is there still for a moment, as somebody may have it open.
nothing_to_bury ()
{
  [ -z "$(ls "$(backing "$1" projects)"/.nearfs/{limbo,staging,orphans} | grep -v :)" ]
}

# tokyo's disk is full of something that isn't in the share.
full_replica ()
{
  local filler
  filler=$(backing tokyo projects)/.nearfs/filler
  wait_for 20 nothing_to_bury tokyo || fail 'tokyo keeps what was removed'
  sync -f "$(dirname "$filler")"
  dd if=/dev/zero of="$filler" bs=1M status=none 2>/dev/null
  sync -f "$filler"
  head -c 8000000 /dev/urandom >"$(at london)/no-room" || fail 'writing at london'
  mkdir "$(at london)/no-room-dir" && printf 'small\n' >"$(at london)/no-room-dir/file"
  bounded 40 "$NEARFS" wait --config "$NF_TMP/london/site.conf" --sites nyc --timeout 30 /projects || fail 'a full disk at tokyo holds nyc up'
  wait_for 20 status_says tokyo 'no space' || fail "tokyo doesn't say that its disk is full: $(site_nearfs tokyo status)"
  site_nearfs tokyo status | grep -m 1 -i 'space' | sed 's/^/  /'
  has_text "$(at tokyo)/kept" 'as it was' || fail 'tokyo does not serve what it has'
  # What it couldn't take is there all the same, from the primary, or not yet, or as far as it had been
  # written at some time; never with a gap or with something else in it.
  if [ -e "$(at tokyo)/no-room" ]; then
    head -c "$(stat -c %s "$(at tokyo)/no-room")" "$(at london)/no-room" |
      cmp - "$(at tokyo)/no-room" || fail 'tokyo shows what never was'
  fi
  rm "$filler"
  wait_in_step 60
  cmp "$(at london)/no-room" "$(backing tokyo projects)/no-room" || fail 'tokyo did not catch up'
  rm "$(at london)/no-room"
  works 'a full disk at a replica'
  trees_equal projects || fail 'the trees differ'
}

read_only_primary ()
{
  local dir
  dir=$(backing london projects)
  mount -o remount,ro "$dir" 2>/dev/null || { say '  it is busy for that'; return 0; }
  tries create "$(at nyc)/on-read-only"
  say "  a change at nyc: $TRY_ERROR"
  [ "$TRY_ERROR" = EROFS ] || [ "$TRY_ERROR" = EIO ] || fail "a read-only disk gives $TRY_ERROR"
  mount -o remount,rw "$dir"
  wait_for 20 writes_again || fail 'london does not write again'
  wait_in_step
  works 'a read-only disk'
}

writes_again ()
{
  tries write "$(at nyc)/again" 10
  [ "$TRY_ERROR" = ok ]
}
