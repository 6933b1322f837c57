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
# fuzz_programs     tests/fuzz/fuzz-….c with LLVMFuzzerTestOneInput and $(FUZZ_MAIN) as last of LDADD;
#                   "make check" replays tests/fuzz/seeds/fuzz-…/*, "make check-fuzz" searches
# bench_programs    run by "make bench"; bench_scripts are its areas, with bench_helpers built for them
# test_data         other files that tests need, for "make dist"

unit_tests =
script_tests =
long_tests =
stress_programs =
fuzz_programs =
bench_programs =
bench_helpers =
bench_scripts =
test_data =

MAP_UNIT = $(MAP_LIBS) $(CRITERION_LIBS)
NET_UNIT = $(NET_LIBS) $(CRITERION_LIBS)
SYNC_UNIT = $(SYNC_LIBS) $(CRITERION_LIBS)
FS_UNIT = $(FS_LIBS) $(CRITERION_LIBS)

SIM = tests/sim.c tests/sim.h tests/sim-dir.c
WORLD = $(SIM) tests/sim-world.c tests/sim-world.h

# The first, see there.
script_tests += tests/histories.sh
check_PROGRAMS += tests/test-histories
tests_test_histories_SOURCES = tests/test-histories.c tests/history.c tests/history.h tests/history-private.h tests/history-chains.c tests/history-end.c tests/sim-disk.c tests/sim-disk.h tests/own-mounts.c tests/own-mounts.h tests/sim-eio.c tests/sim-eio.h $(WORLD)
tests_test_histories_LDADD = $(SYNC_UNIT)
# The calls that tests/sim-eio.c lets fail.
tests_test_histories_LDFLAGS = $(AM_LDFLAGS) \
	-Wl,--wrap=pwrite,--wrap=ftruncate,--wrap=fallocate,--wrap=fsync,--wrap=fdatasync,--wrap=syncfs \
	-Wl,--wrap=mkdirat,--wrap=unlinkat,--wrap=renameat,--wrap=renameat2,--wrap=linkat,--wrap=symlinkat \
	-Wl,--wrap=openat,--wrap=futimens,--wrap=utimensat,--wrap=fchmod,--wrap=fchownat,--wrap=chmod \
	-Wl,--wrap=setxattr,--wrap=removexattr
long_tests += tests/histories.sh

script_tests += tests/layering.sh

# The emulator of the link between two sites.
check_PROGRAMS += tests/nf-link
tests_nf_link_SOURCES = tests/netem.c
tests_nf_link_LDADD = $(GLIB_LIBS)
script_tests += tests/link.sh

# What the scripts that start several sites have in common.
test_data += tests/tsan.supp tests/bench/rtt.svg tests/sites/lib.sh tests/sites/demo.sh

script_tests += tests/fuzz/replay.sh
test_data += tests/fuzz/run.sh

unit_tests += tests/test-pending-calls
tests_test_pending_calls_SOURCES = tests/test-pending-calls.c
tests_test_pending_calls_LDADD = $(SYNC_UNIT)

unit_tests += tests/test-map tests/test-map-site tests/test-map-wrong
tests_test_map_SOURCES = tests/test-map.c
tests_test_map_LDADD = $(MAP_UNIT)
tests_test_map_site_SOURCES = tests/test-map-site.c
tests_test_map_site_LDADD = $(MAP_UNIT)
tests_test_map_wrong_SOURCES = tests/test-map-wrong.c
tests_test_map_wrong_LDADD = $(MAP_UNIT)

fuzz_programs += tests/fuzz/fuzz-map
tests_fuzz_fuzz_map_SOURCES = tests/fuzz/fuzz-map.c
tests_fuzz_fuzz_map_LDADD = $(MAP_LIBS) $(FUZZ_MAIN)
test_data += tests/fuzz/seeds/fuzz-map/example tests/fuzz/seeds/fuzz-map/misspelt \
	tests/fuzz/seeds/fuzz-map/nested tests/fuzz/seeds/fuzz-map/open-group \
	tests/fuzz/seeds/fuzz-map/options tests/fuzz/seeds/fuzz-map/site-conf

# Work whose result is known, for the scripts with several sites.
check_PROGRAMS += tests/sites/nf-work
tests_sites_nf_work_SOURCES = tests/sites/nf-work.c tests/sites/nf-work.h tests/sites/nf-try.c \
	tests/sites/nf-observe.c tests/sites/nf-acked.c tests/sites/nf-power.c
tests_sites_nf_work_LDADD = $(GLIB_LIBS)

check_PROGRAMS += tests/sites/nf-lock
tests_sites_nf_lock_SOURCES = tests/sites/nf-lock.c
tests_sites_nf_lock_LDADD = $(GLIB_LIBS)

# The whole, with several sites. "make check-long" runs the same with larger figures.
test_data += tests/sites/stage.sh tests/sites/as-user.sh tests/sites/own-mounts.sh tests/sites/load.sh tests/sites/material.sh tests/sites/badinput-disk.sh \
	tests/sites/badinput-peer.sh
site_tests = tests/sites/fsck.sh tests/sites/none.sh tests/sites/programs.sh tests/sites/kill.sh tests/sites/order.sh \
	tests/sites/badinput.sh tests/sites/random.sh tests/sites/fill.sh tests/sites/personal.sh \
	tests/sites/maildir.sh tests/sites/bulk.sh tests/sites/cut.sh tests/sites/locks.sh tests/sites/passthrough.sh
site_tests += tests/faults/power.sh tests/faults/points.sh tests/faults/eio.sh tests/faults/journal.sh
test_data += tests/faults/disk.sh
script_tests += $(site_tests)
long_tests += $(site_tests)

# The work that "make bench" measures.
bench_helpers += tests/bench/nf-bench
tests_bench_nf_bench_SOURCES = tests/bench/nf-bench.c tests/bench/nf-bench.h tests/bench/nf-bench-read.c \
	tests/bench/nf-bench-names.c tests/bench/nf-bench-write.c
tests_bench_nf_bench_LDADD = $(GLIB_LIBS)
bench_scripts += tests/bench/reads.sh tests/bench/metadata.sh tests/bench/objects.sh tests/bench/programs.sh \
	tests/bench/writes.sh tests/bench/remote.sh tests/bench/fill.sh tests/bench/arrival.sh tests/bench/memory.sh \
	tests/bench/idle.sh tests/bench/fsck.sh tests/bench/plot.sh
test_data += tests/bench/run.sh tests/bench/lib.sh tests/bench/peer.sh tests/bench/requests.sh tests/bench/remote-work.sh \
	tests/bench/report.pl

unit_tests += tests/test-pool tests/test-policy
tests_test_pool_SOURCES = tests/test-pool.c
tests_test_pool_LDADD = $(FS_UNIT)
tests_test_policy_SOURCES = tests/test-policy.c
tests_test_policy_LDADD = $(FS_UNIT)

unit_tests += tests/test-replica
tests_test_replica_SOURCES = tests/test-replica.c $(SIM)
tests_test_replica_LDADD = $(SYNC_UNIT)

unit_tests += tests/test-passed
tests_test_passed_SOURCES = tests/test-passed.c $(SIM)
tests_test_passed_LDADD = $(SYNC_UNIT)

unit_tests += tests/test-own-changes
tests_test_own_changes_SOURCES = tests/test-own-changes.c $(SIM)
tests_test_own_changes_LDADD = $(SYNC_UNIT)

unit_tests += tests/test-check
tests_test_check_SOURCES = tests/test-check.c tests/own-mounts.c tests/own-mounts.h $(SIM)
tests_test_check_LDADD = $(SYNC_UNIT)

unit_tests += tests/test-reboot
tests_test_reboot_SOURCES = tests/test-reboot.c $(SIM)
tests_test_reboot_LDADD = $(SYNC_UNIT)

unit_tests += tests/test-backup
tests_test_backup_SOURCES = tests/test-backup.c $(SIM)
tests_test_backup_LDADD = $(SYNC_UNIT)

unit_tests += tests/test-restore
tests_test_restore_SOURCES = tests/test-restore.c $(SIM)
tests_test_restore_LDADD = $(SYNC_UNIT)

unit_tests += tests/test-unsynced
tests_test_unsynced_SOURCES = tests/test-unsynced.c
tests_test_unsynced_LDADD = $(SYNC_UNIT)

unit_tests += tests/test-lock-table
tests_test_lock_table_SOURCES = tests/test-lock-table.c
tests_test_lock_table_LDADD = $(SYNC_UNIT)

unit_tests += tests/test-linger
tests_test_linger_SOURCES = tests/test-linger.c $(SIM)
tests_test_linger_LDADD = $(SYNC_UNIT)

unit_tests += tests/test-intents
tests_test_intents_SOURCES = tests/test-intents.c $(SIM)
tests_test_intents_LDADD = $(SYNC_UNIT)

unit_tests += tests/test-at-hand
tests_test_at_hand_SOURCES = tests/test-at-hand.c
tests_test_at_hand_LDADD = $(SYNC_UNIT)

unit_tests += tests/test-recent
tests_test_recent_SOURCES = tests/test-recent.c
tests_test_recent_LDADD = $(SYNC_UNIT)

unit_tests += tests/test-locks
tests_test_locks_SOURCES = tests/test-locks.c $(WORLD)
tests_test_locks_LDADD = $(SYNC_UNIT)

unit_tests += tests/test-creds
tests_test_creds_SOURCES = tests/test-creds.c
tests_test_creds_LDADD = $(SYNC_UNIT)

unit_tests += tests/test-pair
tests_test_pair_SOURCES = tests/test-pair.c $(WORLD)
tests_test_pair_LDADD = $(SYNC_UNIT)

unit_tests += tests/test-blocked tests/test-segments
tests_test_blocked_SOURCES = tests/test-blocked.c
tests_test_blocked_LDADD = $(SYNC_UNIT)
tests_test_segments_SOURCES = tests/test-segments.c
tests_test_segments_LDADD = $(SYNC_UNIT)

stress_programs += tests/stress-pool
tests_stress_pool_SOURCES = tests/stress-pool.c
tests_stress_pool_LDADD = $(FS_LIBS)

unit_tests += tests/test-record tests/test-journal tests/test-index tests/test-tree \
	tests/test-tree-names tests/test-tree-attr
tests_test_record_SOURCES = tests/test-record.c
tests_test_record_LDADD = $(SYNC_UNIT)
tests_test_journal_SOURCES = tests/test-journal.c
tests_test_journal_LDADD = $(SYNC_UNIT)
tests_test_index_SOURCES = tests/test-index.c
tests_test_index_LDADD = $(SYNC_UNIT)
unit_tests += tests/test-index-room
tests_test_index_room_SOURCES = tests/test-index-room.c tests/sim-disk.c tests/sim-disk.h tests/own-mounts.c tests/own-mounts.h tests/sim-eio.c tests/sim-eio.h
tests_test_index_room_LDADD = $(SYNC_UNIT)
tests_test_index_room_LDFLAGS = $(tests_test_histories_LDFLAGS)
tests_test_tree_SOURCES = tests/test-tree.c tests/tree-help.c tests/tree-help.h
tests_test_tree_LDADD = $(SYNC_UNIT)
tests_test_tree_names_SOURCES = tests/test-tree-names.c tests/tree-help.c tests/tree-help.h
tests_test_tree_names_LDADD = $(SYNC_UNIT)
tests_test_tree_attr_SOURCES = tests/test-tree-attr.c tests/tree-help.c tests/tree-help.h
tests_test_tree_attr_LDADD = $(SYNC_UNIT)

unit_tests += tests/test-buf tests/test-rtt tests/test-proto tests/test-hub tests/test-accept
tests_test_accept_SOURCES = tests/test-accept.c tests/net-help.c tests/net-help.h
tests_test_accept_LDADD = $(NET_UNIT)
tests_test_buf_SOURCES = tests/test-buf.c
tests_test_buf_LDADD = $(NET_UNIT)
tests_test_rtt_SOURCES = tests/test-rtt.c
tests_test_rtt_LDADD = $(NET_UNIT)
tests_test_proto_SOURCES = tests/test-proto.c
tests_test_proto_LDADD = $(NET_UNIT)
tests_test_hub_SOURCES = tests/test-hub.c tests/net-help.c tests/net-help.h
tests_test_hub_LDADD = $(NET_UNIT)

stress_programs += tests/stress-net
tests_stress_net_SOURCES = tests/stress-net.c tests/net-help.c tests/net-help.h
tests_stress_net_LDADD = $(NET_LIBS)

# Two hubs over a real sshd.
script_tests += tests/test-net-ssh.sh
check_PROGRAMS += tests/hub-peer
tests_hub_peer_SOURCES = tests/hub-peer.c tests/net-help.c tests/net-help.h
tests_hub_peer_LDADD = $(NET_LIBS)

fuzz_programs += tests/fuzz/fuzz-proto tests/fuzz/fuzz-relay
tests_fuzz_fuzz_proto_SOURCES = tests/fuzz/fuzz-proto.c
tests_fuzz_fuzz_proto_LDADD = $(NET_LIBS) $(FUZZ_MAIN)
tests_fuzz_fuzz_relay_SOURCES = tests/fuzz/fuzz-relay.c
tests_fuzz_fuzz_relay_LDADD = $(NET_LIBS) $(FUZZ_MAIN)
test_data += tests/fuzz/seeds/fuzz-proto/answer tests/fuzz/seeds/fuzz-proto/fetched \
	tests/fuzz/seeds/fuzz-proto/hello tests/fuzz/seeds/fuzz-proto/listed \
	tests/fuzz/seeds/fuzz-proto/op tests/fuzz/seeds/fuzz-proto/rename \
	tests/fuzz/seeds/fuzz-proto/setattr tests/fuzz/seeds/fuzz-proto/setxattr \
	tests/fuzz/seeds/fuzz-proto/subscribe tests/fuzz/seeds/fuzz-proto/write \
	tests/fuzz/seeds/fuzz-relay/messages tests/fuzz/seeds/fuzz-relay/two-lanes

# The daemon and the verbs, at two sites.
script_tests += tests/sites/verbs.sh

fuzz_programs += tests/fuzz/fuzz-record tests/fuzz/fuzz-journal
tests_fuzz_fuzz_record_SOURCES = tests/fuzz/fuzz-record.c
tests_fuzz_fuzz_record_LDADD = $(SYNC_LIBS) $(FUZZ_MAIN)
tests_fuzz_fuzz_journal_SOURCES = tests/fuzz/fuzz-journal.c
tests_fuzz_fuzz_journal_LDADD = $(SYNC_LIBS) $(FUZZ_MAIN)
test_data += tests/fuzz/seeds/fuzz-record/abort tests/fuzz/seeds/fuzz-record/attr \
	tests/fuzz/seeds/fuzz-record/creates tests/fuzz/seeds/fuzz-record/data \
	tests/fuzz/seeds/fuzz-record/epoch tests/fuzz/seeds/fuzz-record/rename \
	tests/fuzz/seeds/fuzz-record/symlink tests/fuzz/seeds/fuzz-record/xattr \
	tests/fuzz/seeds/fuzz-journal/junk tests/fuzz/seeds/fuzz-journal/records \
	tests/fuzz/seeds/fuzz-journal/torn

PRIMARY_HELP = tests/primary-help.c tests/primary-help.h $(SIM)
unit_tests += tests/test-primary tests/test-primary-data tests/test-primary-sites \
	tests/test-primary-serve tests/test-primary-crash
tests_test_primary_SOURCES = tests/test-primary.c $(PRIMARY_HELP)
tests_test_primary_LDADD = $(SYNC_UNIT)
tests_test_primary_data_SOURCES = tests/test-primary-data.c $(PRIMARY_HELP)
tests_test_primary_data_LDADD = $(SYNC_UNIT)
tests_test_primary_serve_SOURCES = tests/test-primary-serve.c $(PRIMARY_HELP)
tests_test_primary_serve_LDADD = $(SYNC_UNIT)
tests_test_primary_sites_SOURCES = tests/test-primary-sites.c $(PRIMARY_HELP)
tests_test_primary_sites_LDADD = $(SYNC_UNIT)
tests_test_primary_crash_SOURCES = tests/test-primary-crash.c $(PRIMARY_HELP)
tests_test_primary_crash_LDADD = $(SYNC_UNIT)

stress_programs += tests/stress-store
tests_stress_store_SOURCES = tests/stress-store.c
tests_stress_store_LDADD = $(SYNC_LIBS)

stress_programs += tests/stress-primary
tests_stress_primary_SOURCES = tests/stress-primary.c
tests_stress_primary_LDADD = $(SYNC_LIBS)

# The mount alone, on shares of the tests' own, and a site that is primary.
unit_tests += tests/test-inode tests/test-namespace
tests_test_inode_SOURCES = tests/test-inode.c
tests_test_inode_LDADD = $(FS_UNIT)
tests_test_namespace_SOURCES = tests/test-namespace.c
tests_test_namespace_LDADD = $(FS_UNIT)
unit_tests += tests/test-near
tests_test_near_SOURCES = tests/test-near.c
tests_test_near_LDADD = $(FS_UNIT)
unit_tests += tests/test-habit
tests_test_habit_SOURCES = tests/test-habit.c
tests_test_habit_LDADD = $(FS_UNIT)
unit_tests += tests/test-readers
tests_test_readers_SOURCES = tests/test-readers.c tests/readers-help.c tests/readers-help.h
tests_test_readers_LDADD = $(FS_UNIT)
stress_programs += tests/stress-readers
tests_stress_readers_SOURCES = tests/stress-readers.c tests/readers-help.c tests/readers-help.h
tests_stress_readers_LDADD = $(FS_LIBS)
check_PROGRAMS += tests/mount/nf-fake-mount tests/mount/nf-calls
tests_mount_nf_fake_mount_SOURCES = tests/mount/nf-fake-mount.c tests/mount/fake-share.c \
	tests/mount/fake-share.h
tests_mount_nf_fake_mount_LDADD = $(FS_LIBS)
tests_mount_nf_calls_SOURCES = tests/mount/nf-calls.c
tests_mount_nf_calls_LDADD = $(GLIB_LIBS)
script_tests += tests/mount/primary.sh tests/mount/fake.sh tests/mount/stress.sh tests/mount/passthrough.sh
check_PROGRAMS += tests/mount/nf-pass
tests_mount_nf_pass_SOURCES = tests/mount/nf-pass.c
tests_mount_nf_pass_LDADD = $(GLIB_LIBS)
long_tests += tests/mount/fake.sh tests/mount/stress.sh
test_data += tests/mount/lib.sh

bench_programs += tests/bench-primary
tests_bench_primary_SOURCES = tests/bench-primary.c
tests_bench_primary_LDADD = $(SYNC_LIBS)

unit_tests += tests/test-order
tests_test_order_SOURCES = tests/test-order.c
tests_test_order_LDADD = $(SYNC_UNIT)

unit_tests += tests/test-object-locks
tests_test_object_locks_SOURCES = tests/test-object-locks.c
tests_test_object_locks_LDADD = $(SYNC_UNIT)

# The same calls on a disk and on the mounts, with the same outcome.
check_PROGRAMS += tests/posix/nf-posix
tests_posix_nf_posix_SOURCES = tests/posix/nf-posix.c tests/posix/nf-posix.h tests/posix/posix-names.c \
	tests/posix/posix-files.c tests/posix/posix-random.c
tests_posix_nf_posix_LDADD = $(GLIB_LIBS)
script_tests += tests/posix/posix.sh
long_tests += tests/posix/posix.sh tests/posix/stressors.sh
test_data += tests/posix/names.calls tests/posix/data.calls tests/posix/attrs.calls tests/posix/users.calls \
	tests/posix/locks.calls
