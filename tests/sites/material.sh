# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Trees to work on, the same at each call.  To be sourced.

# make_repository DIR COMMITS: a bare git repository with the history of a growing C project.
make_repository ()
{
  git init -q --bare -b main "$1" || return
  perl - "$2" <<'PERL' | git -C "$1" fast-import --quiet
use strict;
my $commits = shift;
srand 1;
my (%version, $mark);
sub source
  {
    my ($file, $n) = @_;
    (my $id = $file) =~ s/\W/_/g;
    my $text = "/* $file, version $n */\n#include \"common.h\"\n\n";
    $text .= "static int\n${id}_$_ (int x)\n{\n  return x * $_ + $n;\n}\n\n" for 1 .. 5 + $n % 20;
    return $text;
  }
sub data { my $text = shift; print "data ", length $text, "\n$text\n" }
for my $commit (1 .. $commits)
  {
    my $time = 1500000000 + $commit * 3600;
    print "commit refs/heads/main\nmark :", ++$mark, "\n";
    print "author A. Writer <a\@example.org> $time +0000\n";
    print "committer A. Writer <a\@example.org> $time +0000\n";
    data ("area: Change number $commit\n\nWhy it was made.");
    print "from :", $mark - 1, "\n" if $commit > 1;
    for (1 .. 2 + int rand 5)
      {
        my $file = sprintf "%s/part%02d.c", (qw(base net disk view))[rand 4], rand 30;
        print "M 100644 inline $file\n";
        data (source ($file, ++$version{$file}));
      }
    if ($commit == 1)
      {
        print "M 100644 inline common.h\n"; data ("#pragma once\n");
        print "M 100755 inline configure\n"; data ("#!/bin/sh\nexit 0\n");
        print "M 120000 inline latest\n"; data ("base");
      }
    print "\n";
  }
PERL
}

# make_sources DIR FILES: a C project that can be built, FILES files in all.
make_sources ()
{
  perl - "$1" "$2" <<'PERL'
use strict; use File::Path 'make_path';
my ($dir, $files) = @ARGV;
my $units = 8 + int ($files / 100); # compiling takes longer than unpacking
sub put
  {
    my ($name, $text) = @_;
    (my $parent = "$dir/$name") =~ s{/[^/]*$}{};
    make_path ($parent);
    open my $f, '>', "$dir/$name" or die "$dir/$name: $!"; print $f $text; close $f;
    utime 1600000000, 1600000000 + $files, "$dir/$name";
    $files--;
  }
my @objects;
for my $i (0 .. $units - 1)
  {
    my $sub = 'src/' . chr (97 + $i % 4);
    put ("$sub/unit$i.h", "#pragma once\nint unit$i (int x);\n");
    put ("$sub/unit$i.c", "#include \"$sub/unit$i.h\"\nint unit$i (int x)\n{\n  return x + $i;\n}\n");
    push @objects, "$sub/unit$i.o";
  }
put ('src/main.c', "#include <stdio.h>\n"
  . join ('', map { "#include \"src/" . chr (97 + $_ % 4) . "/unit$_.h\"\n" } 0 .. $units - 1)
  . "int main (void)\n{\n  int x = 0;\n"
  . join ('', map { "  x = unit$_ (x);\n" } 0 .. $units - 1) . "  printf (\"%d\\n\", x);\n  return 0;\n}\n");
my $sum = $units * ($units - 1) / 2;
put ('Makefile', "CC = cc\nOBJECTS = src/main.o @objects\n\nprogram: \$(OBJECTS)\n\t\$(CC) -o \$@ \$(OBJECTS)\n\n"
  . "%.o: %.c\n\t\$(CC) -I. -c -o \$@ \$<\n\ncheck: program\n\ttest `./program` -eq $sum\n");
for (my $i = 0; $files > 0; $i++)
  {
    my $name = sprintf 'doc/%02d/chapter-%d/page-%d.txt', $i % 17, $i % 7, $i;
    put ($name, "Page $i.\n" . join ('', map { "Line $_ of page $i.\n" } 1 .. 1 + $i * $i % 211));
  }
PERL
}

# make_odd_tree DIR [FILES]: what rsync -aHAX has to carry: names, types, links, modes, ACLs, xattrs, holes.
make_odd_tree ()
{
  local dir=$1 files=${2:-0} long deep i
  long=$(printf '%0255d' 7)
  mkdir -p "$dir/sub/deeper" "$dir/empty" || return
  (
    cd "$dir" || exit
    printf 'plain\n' >plain
    : >'none'
    printf 'x' >$'new\nline' && printf 'x' >' leading and trailing ' && printf 'x' >-rf
    printf 'x' >$'not utf-8 \xff\xfe\x80' && printf 'x' >'ünïcödé 漢字' && printf 'x' >"quotes ' \" \\ \$x"
    printf 'x' >$'tab\there' && printf 'long' >"$long"
    ln plain hard && ln plain sub/hard-too && ln plain sub/deeper/third
    ln -s plain soft && ln -s /nonexistent/target dangling && ln -s . loop
    # Targets are bytes as well.
    ln -s $'\xff' odd-target && ln hard sub/' hard with blanks'
    mkfifo fifo && chmod 0621 fifo
    chmod 0600 none && chmod 0755 sub && chmod 1777 empty
    printf '#!/bin/sh\n' >tool && chmod 0755 tool
    # A hole, data, and a hole again.
    truncate -s 3M sparse && printf 'island' | dd of=sparse bs=1 seek=1048576 conv=notrunc status=none
    head -c 300000 /dev/zero | tr '\0' 'q' >bigger
    setfattr -n user.color -v blue plain && setfattr -n user.empty -v '' sub
    setfattr -n user.binary -v 0x00ff0100 bigger
    setfacl -m "u:$(id -u):rw-,u:65533:r--,m::rw-" bigger
    setfacl -d -m u:65533:r-x sub && setfacl -m g:65532:rwx sub
    deep=deep
    for i in 1 2 3 4 5 6 7 8 9 10; do
      deep+=/$(printf 'level-%d-%050d' "$i" 0)
    done
    mkdir -p "$deep" && printf 'down here\n' >"$deep/file"
    if [ "$(id -u)" -eq 0 ]; then
      printf 'x' >owned && chown 1234:5678 owned && mkdir theirs && chown 1234 theirs
    fi
    touch -d '2001-02-03 04:05:06.789012345' plain
    touch -h -d '2002-02-03 04:05:06.5' soft
    # shellcheck disable=SC2016 # Perl's
    [ "$files" -eq 0 ] || perl -e '
      for my $i (1 .. $ARGV[0])
        {
          my $d = sprintf "many/%02d", $i % 40; mkdir "many"; mkdir $d;
          open my $f, ">", "$d/file $i" or die $!; print $f "content $i\n" x ($i * 7 % 300); close $f;
          link "$d/file $i", "$d/link $i" if $i % 50 == 0;
        }' "$files"
    touch -d '2003-02-03 04:05:06' sub empty
  )
}
