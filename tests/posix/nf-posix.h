// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <glib.h>

/* The calls of tests/posix: a line is a call's name and its arguments; its outcome is a line, too. Two filesystems are alike if
 * the same lines have the same outcomes.
 *
 * Words are separated by spaces. In each word %N*TEXT% stands for N times TEXT, and _ alone for the empty text. @0 to @15 are
 * descriptors, flags are joined by |. After each call all that was named is looked at (lstat, fstat): the outcome has what
 * is the same on every filesystem of one kind, so inodes are numbered as they are met, and of times it says which have
 * changed since the last look. */

typedef struct NfPosix NfPosix;

/* In the current directory. */
NfPosix *nf_posix_new (void);
void nf_posix_free (NfPosix *posix);
/* What LINE has led to; NULL: nothing to be done. To be freed. Ends the program if the line is wrong. */
char *nf_posix_do (NfPosix *posix, const char *line);

/* One of the CALLS that nf_posix_do() knows, called with the words after its name. >= 0, or -1 with errno set. NOTE: what more
 * is to be compared. */
typedef struct
{
  const char *name;
  guint n_args; /* at least */
  long (*call) (NfPosix *posix, char **args, GString *note);
} NfPosixCall;

#define NF_POSIX_FDS 16

/* The descriptor that WORD names (@3), or AT_FDCWD's errors: -1 gives EBADF. */
int nf_posix_fd (NfPosix *posix, const char *word);
void nf_posix_set_fd (NfPosix *posix, const char *word, int fd);
long nf_posix_number (const char *word);
/* Flags by name, joined by |. */
long nf_posix_flags (const char *word);

extern const NfPosixCall nf_posix_name_calls[];
extern const NfPosixCall nf_posix_file_calls[];

/* A line by chance, to be freed. Depends on RAND alone. */
char *nf_posix_random_line (GRand *rand);
