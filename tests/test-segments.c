// SPDX-License-Identifier: GPL-2.0-or-later
#include "config.h"

#include <criterion/criterion.h>
#include <string.h>

#include "sync/segments.h"

#define SPACE 64

typedef struct
{
  gboolean wanted[SPACE]; /* at all */
  guint64 need[SPACE];
  guint64 stamp[SPACE]; /* 0: not here */
} Model;

static void
model_want (Model *model, guint64 start, guint64 end, guint64 need)
{
  for (guint64 i = start; i < end; i++)
    {
      model->wanted[i] = TRUE;
      model->need[i] = MAX (model->need[i], need);
    }
}

static void
model_got (Model *model, guint64 start, guint64 end, guint64 stamp)
{
  for (guint64 i = start; i < end; i++)
    if (model->wanted[i] && model->stamp[i] < model->need[i])
      model->stamp[i] = MAX (model->stamp[i], stamp);
}

static void
check (const NfSegments *segments, const Model *model)
{
  guint64 offset = 0;

  for (guint i = 0; i < nf_segments_count (segments); i++)
    {
      const NfSegment *segment = nf_segments_at (segments, i);
      cr_assert_lt (segment->start, segment->end);
      cr_assert_geq (segment->start, offset, "segments overlap");
      for (; offset < segment->start; offset++)
        cr_assert_not (model->wanted[offset]);
      for (; offset < segment->end; offset++)
        {
          cr_assert (model->wanted[offset]);
          cr_assert_eq (nf_segment_is_wanted (segment), model->stamp[offset] < model->need[offset],
                        "at %d", (int)offset);
          cr_assert_eq (segment->stamp, model->stamp[offset]);
        }
    }
  for (; offset < SPACE; offset++)
    cr_assert_not (model->wanted[offset]);
}

Test (segments, they_do_as_a_table_of_bytes_would)
{
  g_autoptr (GRand) rand = g_rand_new_with_seed (1);

  for (guint round = 0; round < 200; round++)
    {
      Model model = { 0 };
      NfSegments segments;
      nf_segments_init (&segments);
      for (guint64 seq = 1; seq < 60; seq++)
        {
          guint64 start = (guint64)g_rand_int_range (rand, 0, SPACE);
          guint64 end = start + (guint64)g_rand_int_range (rand, 0, SPACE + 1 - (gint)start);
          guint64 as_of = seq - MIN (seq - 1, (guint64)g_rand_int_range (rand, 0, 5));
          if (g_rand_boolean (rand))
            {
              nf_segments_want (&segments, start, end, seq);
              model_want (&model, start, end, seq);
            }
          else
            {
              nf_segments_got (&segments, start, end, as_of, NF_SEG_STAGED);
              model_got (&model, start, end, as_of);
            }
          check (&segments, &model);
        }
      nf_segments_clear (&segments);
    }
}

Test (segments, each_part_is_asked_for_once)
{
  NfSegments segments;
  guint64 start, end;

  nf_segments_init (&segments);
  nf_segments_want (&segments, 0, 100, 1);
  cr_assert (nf_segments_ask (&segments, 60, 5, &start, &end));
  cr_assert (start == 0 && end == 60);
  cr_assert (nf_segments_ask (&segments, 60, 6, &start, &end));
  cr_assert (start == 60 && end == 100);
  cr_assert_not (nf_segments_ask (&segments, 60, 7, &start, &end));
  nf_segments_unask (&segments, 5);
  cr_assert (nf_segments_ask (&segments, 1000, 8, &start, &end));
  cr_assert (start == 0 && end == 60);
  cr_assert_eq (nf_segments_missing (&segments), 100);
  nf_segments_clear (&segments);
}

Test (segments, the_whole_file_is_there_when_nothing_is_missing_up_to_its_end)
{
  NfSegments segments;

  nf_segments_init (&segments);
  cr_assert_not (nf_segments_whole (&segments, 1));
  nf_segments_want (&segments, 0, 10, 1);
  nf_segments_want (&segments, 10, 20, 2);
  nf_segments_got (&segments, 0, 10, 1, NF_SEG_STAGED);
  cr_assert_not (nf_segments_whole (&segments, 20));
  nf_segments_got (&segments, 10, 20, 2, NF_SEG_HOLE);
  cr_assert (nf_segments_whole (&segments, 20));
  cr_assert_not (nf_segments_whole (&segments, 21));
  cr_assert_eq (nf_segments_newest (&segments), 2);
  nf_segments_clear (&segments);
}
