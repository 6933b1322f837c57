# SPDX-License-Identifier: GPL-2.0-or-later
# How tests are run.  Which there are is in local.mk.

TEST_EXTENSIONS = .sh
SH_LOG_COMPILER = bash
AM_TESTS_ENVIRONMENT = \
	NF_SRC='$(abs_top_srcdir)'; NF_BUILD='$(abs_top_builddir)'; \
	LSAN_OPTIONS="suppressions=$(abs_top_srcdir)/tests/lsan.supp:print_suppressions=0:$$LSAN_OPTIONS"; \
	export NF_SRC NF_BUILD LSAN_OPTIONS;

check_PROGRAMS += $(unit_tests)
TESTS += $(unit_tests) $(script_tests)
EXTRA_PROGRAMS += $(stress_programs) $(bench_programs)
EXTRA_DIST += $(script_tests) $(long_tests) $(bench_scripts) $(test_data) tests/lsan.supp
CLEANFILES += $(stress_programs) $(bench_programs)

if !HAVE_CRITERION
check-local:
	@echo 'The unit tests need Criterion (libcriterion-dev) and a new ./configure.' >&2; exit 1
endif

check-long: all $(check_PROGRAMS)
	$(MAKE) check-TESTS TESTS='$(long_tests)' TEST_SUITE_LOG=test-suite-long.log

check-stress: $(stress_programs)
	@for program in $(stress_programs); do \
	  echo "$$program"; ./$$program || exit 1; \
	done

check-layering:
	@NF_SRC='$(abs_top_srcdir)' bash $(srcdir)/tests/layering.sh

bench: all $(bench_programs)
	@for bench in $(bench_programs); do ./$$bench || exit 1; done
	@NF_SRC='$(abs_top_srcdir)'; NF_BUILD='$(abs_top_builddir)'; export NF_SRC NF_BUILD; \
	for bench in $(bench_scripts); do bash $(srcdir)/$$bench || exit 1; done

.PHONY: check-long check-stress check-layering bench
