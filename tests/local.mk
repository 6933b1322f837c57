# SPDX-License-Identifier: GPL-2.0-or-later
#
# A unit test is three lines, here or in the folder's own local.mk (XXX_UNIT is MAP_UNIT, NET_UNIT,
# SYNC_UNIT or FS_UNIT: the folder under test and what lies below it, with Criterion):
#
#   unit_tests += tests/test-journal
#   tests_test_journal_SOURCES = tests/test-journal.c
#   tests_test_journal_LDADD = $(SYNC_UNIT)
#
# unit_tests        run by "make check", in parallel
# script_tests      tests/….sh, the same; exit status 77 means skipped, which CI counts as failure
# long_tests        tests/….sh, run by "make check-long"
# stress_programs   a plain main(), run by "make check-stress"; CI runs them under ThreadSanitizer
# bench_programs    run by "make bench"; bench_scripts likewise

unit_tests =
script_tests =
long_tests =
stress_programs =
bench_programs =
bench_scripts =
test_data =

MAP_UNIT = $(MAP_LIBS) $(CRITERION_LIBS)
NET_UNIT = $(NET_LIBS) $(CRITERION_LIBS)
SYNC_UNIT = $(SYNC_LIBS) $(CRITERION_LIBS)
FS_UNIT = $(FS_LIBS) $(CRITERION_LIBS)

script_tests += tests/layering.sh
