# SPDX-License-Identifier: GPL-2.0-or-later
# How tests are run.  Which there are is in local.mk.

TEST_EXTENSIONS = .sh
SH_LOG_COMPILER = bash
AM_TESTS_ENVIRONMENT = \
	NF_SRC='$(abs_top_srcdir)'; NF_BUILD='$(abs_top_builddir)'; \
	LSAN_OPTIONS="suppressions=$(abs_top_srcdir)/tests/lsan.supp:print_suppressions=0:$$LSAN_OPTIONS"; \
	NF_FUZZERS='$(fuzz_programs)'; \
	export NF_SRC NF_BUILD LSAN_OPTIONS NF_FUZZERS;

check_PROGRAMS += $(unit_tests) $(fuzz_programs)
TESTS += $(unit_tests) $(script_tests)
EXTRA_PROGRAMS += $(stress_programs) $(bench_programs) $(bench_helpers)
EXTRA_DIST += $(script_tests) $(long_tests) $(bench_scripts) $(test_data) tests/lsan.supp
CLEANFILES += $(stress_programs) $(bench_programs) $(bench_helpers)

# main() of the fuzzers where there is no libFuzzer: runs the inputs that it is given.
check_LIBRARIES = tests/fuzz/libreplay.a
tests_fuzz_libreplay_a_SOURCES = tests/fuzz/replay.c
$(fuzz_programs): tests/fuzz/libreplay.a

if !HAVE_CRITERION
check-local:
	@echo 'The unit tests need Criterion (libcriterion-dev) and a new ./configure.' >&2; exit 1
endif

# One make after another: "all" is a make of its own, and beside one that builds the tests, both
# would make the same libraries at the same time.
build-tests:
	$(MAKE) all
	$(MAKE) $(check_PROGRAMS)

check-long: build-tests
	NF_LONG=1 $(MAKE) check-TESTS TESTS='$(long_tests)' TEST_SUITE_LOG=test-suite-long.log

# Tests with several sites that are worth repeating where programs are slow, as under a sanitizer.
few_site_tests = tests/sites/maildir.sh tests/sites/cut.sh tests/sites/none.sh \
	tests/sites/verbs.sh
one_site_tests = $(unit_tests) $(filter-out tests/sites/%,$(script_tests))

check-few: build-tests
	$(MAKE) check-TESTS TESTS='$(one_site_tests) $(few_site_tests)'

# "make distcheck" without the tests with several sites, and most of the histories, which "make check" has.
distcheck-few:
	NF_HISTORIES=300 $(MAKE) distcheck TESTS='$(one_site_tests)'

check-stress: $(stress_programs)
	@test -n "$(strip $(stress_programs))" || { echo 'There is no stress program.' >&2; exit 1; }
	@for program in $(stress_programs); do \
	  echo "$$program"; ./$$program || exit 1; \
	done

build-extra: $(stress_programs) $(bench_programs) $(bench_helpers)

# Needs CC=clang and ./configure --enable-fuzzing.
check-fuzz: $(fuzz_programs)
	@bash $(srcdir)/tests/fuzz/run.sh $(abs_top_srcdir) $(fuzz_programs)

check-layering:
	@NF_SRC='$(abs_top_srcdir)' bash $(srcdir)/tests/layering.sh

bench: build-tests
	$(MAKE) $(bench_programs) $(bench_helpers)
	@NF_SRC='$(abs_top_srcdir)' NF_BUILD='$(abs_top_builddir)' \
	  bash $(srcdir)/tests/bench/run.sh $(addprefix $(abs_top_builddir)/,$(bench_programs))

.PHONY: bench build-extra build-tests check-few check-fuzz check-layering check-long check-stress \
	distcheck-few
