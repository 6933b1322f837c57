#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The histories, which take longest, niced beside the scripts with several sites, which mostly wait. A script, as make begins
# with those: what is compiled waits for config.h to be looked at.
exec "${NF_BUILD:-.}/tests/test-histories"
