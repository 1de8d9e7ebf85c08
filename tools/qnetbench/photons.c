/* SPDX-License-Identifier: Apache-2.0 */
/* In this process: clicks of the detectors of published links, and what the source sent at them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "link/detect.h"
#include "node/bb84_plan.h"

enum { CLICKS = 1000000 };

struct photons {
    struct qn_optics optics;
    struct qn_detector *detector;
    struct qn_stream stream;
    struct qn_detections found;
    uint64_t pulses, train;
    uint64_t *planes;
    bool failed;
};

static void detect(void *context) {
    struct photons *photons = context;
    uint8_t key[32] = {0};
    uint64_t next = 0;
    memcpy(key, &photons->train, sizeof photons->train);
    photons->found.len = 0;
    qn_detector_start(photons->detector, &photons->optics, key, 1, photons->train++);
    qn_detector_run(photons->detector, 0, &next, photons->pulses, &photons->found);
    if (next < photons->pulses) photons->failed = true;
}

static void look_up(void *context) {
    struct photons *photons = context;
    size_t words = photons->found.cap / 64;
    const struct qn_choice_planes planes = {
        photons->planes, photons->planes + words, {photons->planes + 2 * words, photons->planes + 3 * words, NULL}};
    qn_choices_at(&photons->stream, &photons->optics.source, 0, photons->found.offset, photons->found.len, &planes);
}

/* False without memory, or if the link is none. */
static bool photons_init(struct photons *photons, const char *link) {
    char yaml[512];
    struct qn_topology topology;
    struct qn_buf diagnostics = {0};
    struct qn_source source;
    struct qn_receiver receiver;
    struct qn_plan plan;
    const struct qn_attack none = {0};
    static const uint8_t key[32];
    int len = snprintf(yaml, sizeof yaml,
                       "version: 1\nnetwork: bench\nnodes:\n  a: {role: source}\n  b: {role: detector%s\n", link);
    *photons = (struct photons){0};
    if (qn_topology_parse("bench", yaml, (size_t)len, &topology, &diagnostics) < 0) return false;
    (void)bb84_plan(&topology, &topology.links[0], 1e6, &source, &receiver, &plan);
    qn_topology_release(&topology);
    qn_buf_release(&diagnostics);
    if (qn_optics_init(&photons->optics, &source, &receiver, &none) < 0) return false;
    photons->pulses = (uint64_t)(CLICKS / plan.click);
    if (photons->pulses > UINT64_C(1) << 32) photons->pulses = UINT64_C(1) << 32;
    photons->found.cap = qn_detections_bound(&photons->optics, photons->pulses);
    photons->found.offset = calloc(photons->found.cap, sizeof *photons->found.offset);
    photons->found.basis = calloc(photons->found.cap / 64, sizeof *photons->found.basis);
    photons->found.bit = calloc(photons->found.cap / 64, sizeof *photons->found.bit);
    photons->planes = calloc(photons->found.cap / 16, sizeof *photons->planes);
    photons->detector = qn_detector_new();
    qn_stream_init(&photons->stream, key);
    return photons->found.offset != NULL && photons->found.basis != NULL && photons->found.bit != NULL &&
           photons->planes != NULL && photons->detector != NULL;
}

static void photons_release(struct photons *photons) {
    free(photons->found.offset);
    free(photons->found.basis);
    free(photons->found.bit);
    free(photons->planes);
    qn_detector_free(photons->detector);
}

int bench_photons(struct bench *bench) {
    static const struct {
        const char *name, *link, *note;
    } rows[] = {
        {"clicks-yuan2018", "}\nlinks:\n  l: {between: [a, b], preset: yuan2018, length: 10km}",
         "one processor; needs 77 x 10^6 for real time"},
        {"clicks-li2023", "}\nlinks:\n  l: {between: [a, b], preset: li2023, length: 10km}",
         "one processor; needs 333 x 10^6 for real time"},
        {"clicks-lim2014", "}\nlinks:\n  l: {between: [a, b], preset: lim2014, length: 100km}",
         "one processor; three intensities: 3.3 candidates a click"},
        {"clicks-pixels",
         ", pixels: 8, dead_time: 10ns, afterpulse: 1%}\nlinks:\n  l: {between: [a, b], preset: li2023, length: 10km}",
         "one processor; li2023 with dead time and afterpulses, one by one"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct photons photons;
        bool ready = photons_init(&photons, rows[i].link);
        double rate = 0, lookups = 0;
        if (ready) {
            detect(&photons);
            rate = bench_rate(bench, detect, &photons, 1) * (double)photons.found.len;
            if (i == 0) lookups = bench_rate(bench, look_up, &photons, 1) * (double)photons.found.len;
        }
        photons_release(&photons);
        if (!ready) return bench_fail(bench, "no memory");
        if (photons.failed) return bench_fail(bench, "a train did not end");
        bench_row(bench, rows[i].name, rate / 1e6, "10^6/s", "", rows[i].note);
        if (i == 0)
            bench_row(bench, "lookups", lookups / 1e6, "10^6/s", "", "one processor; the source's choices at clicks");
    }
    return 0;
}
