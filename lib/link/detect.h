/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_LINK_DETECT_H
#define QN_LINK_DETECT_H

#include <stddef.h>
#include <stdint.h>

#include "link/receiver.h"

/* Sampling of clicks, at a cost that is theirs and not the pulses': gaps between candidates come at once, from the gain
 * of the brightest choice; the source's stream says what each candidate was, and a table of that choice whether it
 * clicks and as what. Exact for the model of receiver.h. Batches, structure of arrays. The same seed gives the same
 * bytes under every compiler and instruction set. */

struct qn_detections {   /* Arrays are the caller's. Of a train that begins at pulse `first`. */
    uint32_t *offset;    /* [cap] Pulse - first; rises strictly. */
    uint64_t *basis;     /* [cap / 64] The detector's basis of click i is bit i % 64 of word i / 64. */
    uint64_t *bit;       /* [cap / 64] What it read. Secret. */
    size_t len, cap;     /* cap is a multiple of 64. Beyond len, the bits of the last word are 0. */
    uint64_t doubles[2]; /* Double clicks so far by basis; they are in the arrays with a random bit. */
};

enum { QN_DETECT_BATCH = 1024 + 64 }; /* A step needs room for this many, or stops. */

struct qn_detector;                                  /* Tables, generator and pixels: some 30 KB, not for the stack. */
struct qn_detector *qn_detector_new(void);           /* NULL: no memory. */
void qn_detector_free(struct qn_detector *detector); /* Wipes. NULL is fine. */

/* Points it at a train: `key` is the source's stream, `seed` and `index` make the physics. All pixels are ready. */
void qn_detector_start(struct qn_detector *detector, const struct qn_optics *optics, const uint8_t key[32],
                       uint64_t seed, uint64_t index);
/* Samples the clicks of pulses [*next, end) into `out` and moves *next to `end`, or to where it stopped because `out`
 * has no room for another batch: go on with an empty one (and the same `first`). end - first <= 2^32. */
void qn_detector_run(struct qn_detector *detector, uint64_t first, uint64_t *next, uint64_t end,
                     struct qn_detections *out);

/* Room for the clicks of so many pulses, ten standard deviations and a batch included; a multiple of 64. */
size_t qn_detections_bound(const struct qn_optics *optics, uint64_t pulses);

#endif
