#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Throughput over the round trip, of small files and of a large one, for nearfs and its peers: bench-rtt.svg of the build
# directory.  NF_PLOT_RTTS (default "0 10 20 50 100"), NF_PLOT_MB: the large file (default 64),
# NF_RUNS_PLOT (default 1).
# shellcheck source=tests/bench/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=tests/bench/remote-work.sh
. "$(dirname "$0")/remote-work.sh"

area plot "Throughput over the round trip; the large file has ${NF_PLOT_MB:=64} MiB"

RUNS=${NF_RUNS_PLOT:-1}
PLOT=$NF_BUILD/bench-rtt.svg

remote_stage
random_file "$NF_TMP/bulk" "$NF_PLOT_MB"
for RTT in ${NF_PLOT_RTTS:-0 10 20 50 100}; do
  all_links_delay $((RTT / 2))
  files=$((RTT > 0 ? 500 / RTT + 5 : 200))
  NAMES=("${SMALL_NAMES[@]}")
  title "Round trip $RTT ms"
  measure "small files, $RTT ms" files/s - one_by_one create "$files" 4096
  measure "small files by $PROCESSES processes, $RTT ms" files/s - in_parallel "$files"
  NAMES=("${BULK_NAMES[@]}")
  measure "a large file, $RTT ms" MB/s - bulk "$(perl -e 'print $ARGV[0] * 1.048576' "$NF_PLOT_MB")"
  clear_away
done

# Columns: round trip, then what each of them does; "?" where one is missing.
points ()
{
  perl -e 'my ($label, $table, @names) = @ARGV; my %of;
    open my $in, "<", $table or die;
    while (<$in>) {
      my ($area, $what, undef, $peer, $nearfs, undef, undef, undef, $name) = split /\t/;
      next unless $area eq "plot" && $what =~ /^\Q$label\E, (\d+) ms$/;
      $of{$1}{nearfs} = $nearfs; $of{$1}{$name} = $peer;
    }
    for my $rtt (sort { $a <=> $b } keys %of) { print join ("\t", $rtt, map { $of{$rtt}{$_} // "?" } @names), "\n" }' \
    "$1" "$TABLE" "${@:2}"
}

if have 'the plot' gnuplot gnuplot-nox; then
  points 'small files' nearfs sshfs >"$NF_TMP/small.dat"
  points "small files by $PROCESSES processes" nearfs sshfs >"$NF_TMP/parallel.dat"
  points 'a large file' nearfs sshfs scp >"$NF_TMP/large.dat"
  gnuplot <<PLOT || fail 'gnuplot'
set terminal svg size 960,400 background rgb 'white' font 'sans,12'
set output '$PLOT'
set multiplot layout 1,2
set datafile missing '?'
set logscale y
set grid y
set xlabel 'round trip, ms'
set key top right
set xrange [0:*]
set title 'Small files: create, write 4 KiB, close'
set ylabel 'files/s'
plot '$NF_TMP/parallel.dat' using 1:2 with linespoints lw 2 lt 4 title 'nearfs, $PROCESSES processes', \
     '' using 1:3 with linespoints lw 2 lt 7 title 'sshfs, $PROCESSES processes', \
     '$NF_TMP/small.dat' using 1:2 with linespoints lw 2 lt 1 title 'nearfs', \
     '' using 1:3 with linespoints lw 2 lt 2 title 'sshfs'
set title 'One file of $NF_PLOT_MB MiB'
set ylabel 'MB/s'
plot '$NF_TMP/large.dat' using 1:2 with linespoints lw 2 lt 1 title 'nearfs', \
     '' using 1:3 with linespoints lw 2 lt 2 title 'sshfs', \
     '' using 1:4 with linespoints lw 2 lt 3 title 'scp'
PLOT
  out "plotted: $PLOT"
fi
area_end
