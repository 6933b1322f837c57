#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Mail is delivered to one Maildir from two sites at once, read at all three, and filed at the third.
# shellcheck source=tests/sites/stage.sh
. "$(dirname "$0")/stage.sh"

limit "$(long 300 600)"
three_sites
nyc_mails=$(long 60 500) london_mails=$(long 300 3000)
all=$((nyc_mails + london_mails))
mkdir -p "$(at london)/mail/"{tmp,new,cur}
wait_in_step

for site in london nyc tokyo; do
  job "read-$site" "$NF_WORK" maildir-read "$(at "$site")/mail" "$all" $(($(long 80 250) * NF_SLOW))
done
job deliver-nyc "$NF_WORK" maildir "$(at nyc)/mail" nyc "$nyc_mails"
job deliver-london "$NF_WORK" maildir "$(at london)/mail" london "$london_mails"
job_ok deliver-london 100
job_ok deliver-nyc "$(long 80 250)"
for site in london nyc tokyo; do
  job_ok "read-$site" 60
done
step "$all messages delivered from two sites, each read whole at three"
wait_in_step

# A mail reader at tokyo files them.
(
  cd "$(at tokyo)/mail/new" || exit 1
  for message in nyc.*; do
    mv "$message" "../cur/$message:2,S" || exit 1
  done
) || fail 'filing at tokyo'
wait_in_step
for site in london nyc tokyo; do
  mail=$(at "$site")/mail
  expect "messages in new at $site" "$(find "$mail/new" -type f | wc -l)" "$london_mails"
  expect "messages in cur at $site" "$(find "$mail/cur" -name 'nyc.*:2,S' | wc -l)" "$nyc_mails"
  expect "leftovers in tmp at $site" "$(find "$mail/tmp" -type f | wc -l)" 0
  expect "subjects at $site" \
    "$(find "$mail" -type f -print0 | xargs -0 cat | grep -c '^Subject: ')" "$all"
done
step 'none is lost or doubled'
check_all
