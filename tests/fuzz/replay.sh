#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Runs each fuzzer on its seeds, which include what fuzzing once found.
set -u

bad=0
for program in ${NF_FUZZERS-}; do
  name=${program##*/}
  shopt -s nullglob
  seeds=("$NF_SRC/tests/fuzz/seeds/$name"/*)
  # With no seed, the empty input is still worth a try.
  [ "${#seeds[@]}" -gt 0 ] || seeds=(/dev/null)
  "$NF_BUILD/$program" "${seeds[@]}" || { echo "$name failed on its seeds"; bad=1; }
done
exit $bad
