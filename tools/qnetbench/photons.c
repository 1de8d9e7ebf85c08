/* SPDX-License-Identifier: Apache-2.0 */
/* In this process: clicks of the detectors of published links, and what the source sent at them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "link/detect.h"
#include "node/bb84_plan.h"
#include "node/bb84_work.h"

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

/* ---- Trains: what both ends do with clicks until their bits are sifted ---- */

enum { DETECT, MATCH, KEEP, STEPS };

static struct bb84_data *train_new(const struct photons *photons) {
    struct bb84_data *data = calloc(1, sizeof *data);
    if (data == NULL) abort();
    data->optics = photons->optics;
    data->pulses = photons->pulses;
    data->index = photons->train;
    data->classes = photons->optics.source.n;
    data->planes = data->classes > 2 ? 2 : data->classes > 1 ? 1 : 0;
    memcpy(data->stream_key, &photons->train, sizeof photons->train);
    return data;
}

static double step(void (*work)(struct bb84_data *data), struct bb84_data *data) {
    double start = bench_processor_s();
    work(data);
    return bench_processor_s() - start;
}

static int train_rows(struct bench *bench, struct photons *photons) {
    static const char *const names[STEPS] = {"train-detect", "train-match", "train-keep"};
    static const char *const notes[STEPS] = {"one processor; the detector's clicks, packed",
                                             "the source's bits and answer", "the detector's bits"};
    double took[STEPS] = {0}, clicks = 0;
    int error = 0;
    while (took[DETECT] + took[MATCH] + took[KEEP] < bench->seconds && error == 0) {
        photons->train++;
        struct bb84_data *detector = train_new(photons), *source = train_new(photons);
        took[DETECT] += step(bb84_detect, detector);
        clicks += (double)detector->clicks;
        source->clicks = detector->clicks;
        source->in = detector->out;
        source->pieces = detector->pieces;
        detector->out = detector->pieces = (struct qn_buf){0};
        took[MATCH] += step(bb84_match, source);
        detector->in = source->out;
        source->out = (struct qn_buf){0};
        took[KEEP] += step(bb84_keep, detector);
        error = detector->error != 0 ? detector->error : source->error;
        bb84_data_free(detector);
        bb84_data_free(source);
    }
    if (error != 0) return bench_fail(bench, "a train failed");
    for (int i = 0; i < STEPS; i++) bench_row(bench, names[i], clicks / took[i] / 1e6, "10^6/s", "", notes[i]);
    return 0;
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
        int rc = 0;
        if (ready) {
            detect(&photons);
            rate = bench_rate(bench, detect, &photons, 1) * (double)photons.found.len;
            if (i == 0) lookups = bench_rate(bench, look_up, &photons, 1) * (double)photons.found.len;
        }
        if (!ready || photons.failed) {
            photons_release(&photons);
            return bench_fail(bench, ready ? "a train did not end" : "no memory");
        }
        bench_row(bench, rows[i].name, rate / 1e6, "10^6/s", "", rows[i].note);
        if (i == 0) {
            bench_row(bench, "lookups", lookups / 1e6, "10^6/s", "", "one processor; the source's choices at clicks");
            rc = train_rows(bench, &photons);
        }
        photons_release(&photons);
        if (rc < 0) return rc;
    }
    return 0;
}
