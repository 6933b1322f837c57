# SPDX-License-Identifier: GPL-2.0-or-later
# One row of a benchmark: reads lines of "run name value", prints the row and appends it to the table for programs.
use strict;
use warnings;

my ($area, $label, $unit, $least, $names, $judges, $table) = @ARGV;
my @names = split ' ', $names;
my %counts = map { $_ => 1 } $judges ? split ' ', $judges : grep { $_ ne 'nearfs' } @names;
my $lower_is_better = $unit =~ /^(s|ms|us|requests)$/;
my (%of, %by_run);

while (<STDIN>) {
  my ($run, $name, $value) = split;
  push @{$of{$name}}, $value;
  $by_run{$run}{$name} = $value;
}

sub median { my @s = sort { $a <=> $b } @_; return $s[$#s / 2] }
sub short { my $x = shift; return $x >= 100 ? sprintf '%.0f', $x : sprintf '%.3g', $x }
# Above 1: the first is better.
sub better { my ($x, $y) = @_; return $lower_is_better ? $y / ($x || 1e-9) : $x / ($y || 1e-9) }

my $row = sprintf '%-54s', "$label, $unit";
$row .= sprintf ' %10s', $of{$_} ? short (median (@{$of{$_}})) : '-' for @names;

my @judges = grep { $counts{$_} && $of{$_} } @names;
my $best;
for my $name (@judges) {
  $best = $name if !$best || better (median (@{$of{$name}}), median (@{$of{$best}})) > 1;
}
# What each peer is judged by: the best by one figure, or each by its own.
my %least = $least =~ /=/ ? map { split /=/ } split ' ', $least : $best ? ($best => $least) : ();

open my $out, '>>', $table or die "$table: $!";
for my $name (grep { $_ ne 'nearfs' } @names) {
  my $wanted = $least{$name} // '-';
  my @row = ($area, $label, $unit);
  my @ratios = map { better ($_->{nearfs}, $_->{$name}) } grep { defined $_->{$name} && defined $_->{nearfs} } values %by_run;
  if (!@ratios) {
    print $out join ("\t", @row, '-', median (@{$of{nearfs}}), ('-') x 3, $name, $wanted, 'no peer'), "\n";
    next;
  }
  my @sorted = sort { $a <=> $b } @ratios;
  my $ratio = median (@ratios);
  my $verdict = $wanted eq '-' ? '-' : $ratio >= $wanted ? 'met' : 'missed';
  print $out join ("\t", @row, median (@{$of{$name}}), median (@{$of{nearfs}}),
    (map { sprintf '%.3f', $_ } $ratio, $sorted[0], $sorted[-1]), $name, $wanted, $verdict), "\n";
  next unless exists $least{$name};
  $row .= sprintf '  %.2f (%.2f to %.2f)', $ratio, $sorted[0], $sorted[-1];
  $row .= " of $name" if @judges > 1;
  $row .= ", to reach $wanted: $verdict" if $wanted ne '-';
}
$row .= '  no peer to compare with' if !@judges;
print "$row\n";
