#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Nothing depends upwards: checked from the #include lines of each folder.
set -u

src=${NF_SRC:-$(cd "$(dirname "$0")/.." && pwd)}
bad=0

check ()
{
  local folder=$1 allowed=$2 file line text header
  while IFS=: read -r file line text; do
    header=${text#*\"}
    header=${header%%\"*}
    case $header in
      config.h) continue ;;
      */*) ;;
      *)
        echo "${file#"$src"/}:$line: \"$header\" must be quoted from the root, as \"folder/$header\""
        bad=1
        continue
        ;;
    esac
    case " $folder $allowed " in
      *" ${header%%/*} "*) ;;
      *)
        echo "${file#"$src"/}:$line: $folder must not depend on \"$header\" (allowed: $folder $allowed)"
        bad=1
        ;;
    esac
  done < <(grep -rnE --include='*.c' --include='*.h' '^[[:space:]]*#[[:space:]]*include[[:space:]]*"' \
    "$src/$folder")
}

check map ''
check net 'map'
check sync 'map net'
check fs 'map net sync'

# sync knows neither FUSE nor SSH, and only net dials.
for pair in 'sync fuse' 'sync libssh' 'map fuse' 'map libssh' 'net fuse' 'fs libssh'; do
  set -- $pair
  if grep -rnE --include='*.c' --include='*.h' "^[[:space:]]*#[[:space:]]*include[[:space:]]*<$2[^>]*>" \
    "$src/$1"; then
    echo "$1 must not include $2"
    bad=1
  fi
done

exit $bad
