// SPDX-License-Identifier: GPL-2.0-or-later
/* main() for a fuzzer without libFuzzer: runs it once on each file named, so that what a fuzzer once
 * found is looked at by every "make check", with any compiler. */
#include "config.h"

#include <glib.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput (const guint8 *data, size_t size);

int
main (int argc, char **argv)
{
  for (int i = 1; i < argc; i++)
    {
      g_autofree char *data = NULL;
      gsize size;
      g_autoptr (GError) error = NULL;

      if (!g_file_get_contents (argv[i], &data, &size, &error))
        {
          (void)fprintf (stderr, "%s\n", error->message);
          return EXIT_FAILURE;
        }
      /* A copy of the exact size, so that reading past the end is seen by ASan and valgrind. */
      g_autofree guint8 *exact = g_memdup2 (data, size);
      (void)LLVMFuzzerTestOneInput (exact, size);
    }
  return EXIT_SUCCESS;
}
