/* SPDX-License-Identifier: Apache-2.0 */
#include "node/bb84_work.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "qkd/amplify.h"

#define CLICKS_MAX                                                                                                     \
    ((size_t)6 << 20) /* Of a train. What is beyond is not looked at, as by a receiver that is too slow. */

#define PAIRS_SPAN (UINT64_C(1) << 32) /* Numbers of a train's pairs, those that were lost included. */

void bb84_data_free(struct bb84_data *data) {
    if (data == NULL) return;
    qn_bits_release(&data->bits);
    qn_bits_release(&data->bases);
    qn_sifted_release(&data->sifted);
    qn_reconcile_free(data->corrector);
    qn_reconcile_source_free(data->answerer);
    if (data->in.data != NULL) sodium_memzero(data->in.data, data->in.len);
    if (data->own.data != NULL) sodium_memzero(data->own.data, data->own.len);
    qn_buf_release(&data->own);
    qn_buf_release(&data->bell.positions);
    qn_bits_release(&data->bell.axes);
    qn_bits_release(&data->bell.bits);
    qn_buf_release(&data->in);
    qn_buf_release(&data->out);
    qn_buf_release(&data->pieces);
    sodium_memzero(data, sizeof *data);
    free(data);
}

static void count_classes(struct bb84_data *data) {
    for (unsigned k = 0; k < data->classes; k++) {
        data->counts.key_n[k] = qn_sift_count(data->sifted.key_plane, data->planes, data->sifted.key.len, k, NULL);
        data->counts.test_n[k] = qn_sift_count(data->sifted.test_plane, data->planes, data->sifted.test.len, k, NULL);
    }
}

/* ---- transmission and sifting ---- */

/* A piece of the clicks from number `done` on, `n` of them, whose offsets these are; as many as make a piece. */
static int encode_piece(struct bb84_data *data, size_t done, const uint32_t *offset, size_t n, size_t *ret_count) {
    struct bb84_piece piece = {.len = data->out.len};
    int rc = qn_sift_encode(offset, 0, n, &data->out, ret_count);
    if (rc < 0) return rc;
    piece.len = data->out.len - piece.len;
    piece.count = (uint32_t)*ret_count;
    piece.bases_len = data->out.len;
    rc = qn_bits_to_bytes(&data->bases, done, *ret_count, &data->out);
    piece.bases_len = data->out.len - piece.bases_len;
    return rc < 0 ? rc : qn_buf_append(&data->pieces, &piece, sizeof piece);
}

/* At once what it takes where clicks are dense: a byte and a bit each. */
static int reserve_out(struct bb84_data *data, size_t clicks) {
    data->out.len = data->pieces.len = 0;
    return qn_buf_reserve(&data->out, clicks + clicks / 8 + 2 * QN_SIFT_PIECE_BYTES);
}

static int encode(struct bb84_data *data, const uint32_t *offset) {
    size_t first = 0, count = 0;
    int rc = reserve_out(data, data->clicks);
    if (rc < 0) return rc;
    do { /* A train without clicks is one empty piece. */
        rc = encode_piece(data, first, offset + first, data->clicks - first, &count);
        first += count;
    } while (rc == 0 && first < data->clicks);
    return rc;
}

static void count_clicks(struct bb84_data *data) {
    data->basis_clicks[1] = qn_bits_count(&data->bases);
    data->basis_clicks[0] = data->clicks - data->basis_clicks[1];
    data->ones[1] = qn_bits_common(&data->bits, &data->bases);
    data->ones[0] = qn_bits_count(&data->bits) - data->ones[1];
}

/* Clicks on their way into pieces: few enough that they stay near the processor. */
enum { SOME_CLICKS = 8192, WAITING_CLICKS = QN_SIFT_PIECE_CLICKS + SOME_CLICKS };
struct spool {
    uint32_t offset[WAITING_CLICKS]; /* Those that wait, and what is being found. */
    size_t waiting;
    uint64_t basis[SOME_CLICKS / 64], bit[SOME_CLICKS / 64]; /* What is being found. */
};

static int detect_some(struct bb84_data *data, struct qn_detector *detector, uint64_t *next, struct spool *spool) {
    struct qn_detections found = {
        .offset = spool->offset + spool->waiting, .basis = spool->basis, .bit = spool->bit, .cap = SOME_CLICKS};
    qn_detector_run(detector, 0, next, data->pulses, &found);
    const struct qn_bits bits = {.words = found.bit, .len = found.len, .cap = SOME_CLICKS / 64};
    const struct qn_bits bases = {.words = found.basis, .len = found.len, .cap = SOME_CLICKS / 64};
    int rc = qn_bits_append(&data->bits, &bits, 0, found.len);
    if (rc == 0) rc = qn_bits_append(&data->bases, &bases, 0, found.len);
    for (int basis = 0; basis < 2; basis++) data->doubles[basis] += found.doubles[basis];
    spool->waiting += found.len;
    data->clicks += found.len;
    return rc;
}

/* Whole pieces of what waits; at the end all of it. */
static int encode_waiting(struct bb84_data *data, struct spool *spool, bool is_end) {
    size_t first = 0, count = 0;
    int rc = 0;
    while (rc == 0 && (spool->waiting - first >= QN_SIFT_PIECE_CLICKS ||
                       (is_end && (first < spool->waiting || data->pieces.len == 0)))) {
        size_t left = spool->waiting - first;
        rc = encode_piece(data, data->clicks - left, spool->offset + first, left, &count);
        first += count;
    }
    memmove(spool->offset, spool->offset + first, (spool->waiting - first) * sizeof *spool->offset);
    spool->waiting -= first;
    return rc;
}

void bb84_detect(struct bb84_data *data) {
    size_t bound = qn_detections_bound(&data->optics, data->pulses);
    if (bound > CLICKS_MAX) bound = CLICKS_MAX;
    struct spool *spool = malloc(sizeof *spool);
    struct qn_detector *detector = qn_detector_new();
    data->error = spool == NULL || detector == NULL ? -QN_ENOMEM : qn_bits_reserve(&data->bits, bound);
    if (data->error == 0) data->error = qn_bits_reserve(&data->bases, bound);
    if (data->error == 0) data->error = reserve_out(data, bound);
    if (data->error == 0) {
        uint64_t next = 0;
        bool is_end = false;
        spool->waiting = 0;
        qn_detector_start(detector, &data->optics, data->stream_key, data->seed, data->index);
        while (data->error == 0 && !is_end) {
            data->error = detect_some(data, detector, &next, spool);
            is_end = next == data->pulses || data->clicks > CLICKS_MAX - SOME_CLICKS;
            if (data->error == 0) data->error = encode_waiting(data, spool, is_end);
        }
        count_clicks(data);
    }
    sodium_memzero(data->stream_key, sizeof data->stream_key); /* The photons are gone. */
    if (spool != NULL) sodium_memzero(spool->bit, sizeof spool->bit);
    qn_detector_free(detector);
    free(spool);
}

/* ---- entangled pairs ---- */

static int by_pair(const void *a, const void *b) {
    uint64_t x = ((const struct bb84_outcome *)a)->pair, y = ((const struct bb84_outcome *)b)->pair;
    return (x > y) - (x < y);
}

static struct bb84_outcome *sorted(const struct bb84_data *data, size_t *ret_n) {
    struct bb84_outcome *own = (struct bb84_outcome *)(void *)data->own.data;
    *ret_n = data->own.len / sizeof *own;
    if (*ret_n > 0) qsort(own, *ret_n, sizeof *own, by_pair);
    return own;
}

/* One piece; what does not fit it is not used. */
static int encode_bell(struct bb84_data *data, const uint32_t *offset, size_t n) {
    size_t count;
    if (n == 0) return 0;
    int rc = qn_sift_encode(offset, 0, n, &data->bell.positions, &count);
    if (rc < 0) return rc;
    data->bell.count = (uint32_t)count;
    rc = qn_bits_resize(&data->bell.axes, count);
    return rc < 0 ? rc : qn_bits_resize(&data->bell.bits, count);
}

void bb84_collect(struct bb84_data *data) {
    size_t n, n_bell = 0;
    const struct bb84_outcome *own = sorted(data, &n);
    uint32_t *offset = malloc((n + 1) * sizeof *offset), *bell = malloc((n + 1) * sizeof *bell);
    data->error = offset == NULL || bell == NULL ? -QN_ENOMEM : 0;
    data->first_pair = n > 0 ? own[0].pair : 0;
    for (size_t i = 0; i < n && data->error == 0; i++) {
        if (own[i].pair - data->first_pair >= PAIRS_SPAN || (i > 0 && own[i].pair == own[i - 1].pair)) continue;
        uint32_t place = (uint32_t)(own[i].pair - data->first_pair);
        if (own[i].basis > 1) {
            bell[n_bell++] = place;
            data->error = qn_bits_push(&data->bell.axes, own[i].basis == 3);
            if (data->error == 0) data->error = qn_bits_push(&data->bell.bits, own[i].bit != 0);
            continue;
        }
        offset[data->clicks++] = place;
        data->error = qn_bits_push(&data->bits, own[i].bit != 0);
        if (data->error == 0) data->error = qn_bits_push(&data->bases, own[i].basis != 0);
    }
    if (data->error == 0) {
        count_clicks(data);
        data->error = encode(data, offset);
    }
    if (data->error == 0) data->error = encode_bell(data, bell, n_bell);
    free(bell);
    if (n > 0) sodium_memzero(data->own.data, data->own.len);
    qn_buf_release(&data->own);
    free(offset);
}

/* The source's outcomes at the detector's pairs. Of a pair that only the detector has the basis is taken to differ. */
static void look_up(const struct bb84_data *data, const uint32_t *offset, struct qn_bits *basis, struct qn_bits *bit) {
    size_t n, at = 0;
    const struct bb84_outcome *own = sorted(data, &n);
    for (size_t i = 0; i < data->clicks; i++) {
        uint64_t pair = data->first_pair + offset[i];
        while (at < n && own[at].pair < pair) at++;
        bool is_here = at < n && own[at].pair == pair;
        qn_bits_set(basis, i, is_here ? own[at].basis != 0 : !qn_bits_get(&data->bases, i));
        qn_bits_set(bit, i, is_here && own[at].bit != 0);
    }
}

static int correlate(struct bb84_data *data) {
    size_t n, at = 0;
    const struct bb84_outcome *own = sorted(data, &n);
    uint32_t *offset = malloc(((size_t)data->bell.count + 1) * sizeof *offset);
    int rc = offset == NULL ? -QN_ENOMEM
                            : qn_sift_decode(data->bell.positions.data, data->bell.positions.len, data->bell.count, 0,
                                             PAIRS_SPAN, offset);
    for (size_t i = 0; rc == 0 && i < data->bell.count; i++) {
        uint64_t pair = data->first_pair + offset[i];
        while (at < n && own[at].pair < pair) at++;
        if (at == n || own[at].pair != pair) continue;
        unsigned basis = own[at].basis & 1, axis = qn_bits_get(&data->bell.axes, i);
        data->bell.trials[basis][axis]++;
        data->bell.sums[basis][axis] += qn_bits_get(&data->bell.bits, i) == (own[at].bit != 0) ? 1 : -1;
    }
    free(offset);
    return rc;
}

/* ---- sifting ---- */

/* The source's own choices at clicks. Strings have room for them. */
struct choices {
    struct qn_bits basis, bit, plane[QN_SIFT_PLANES];
};

static int choices_room(struct choices *choices, unsigned n_planes, size_t clicks) {
    int rc = qn_bits_reserve(&choices->basis, clicks);
    if (rc == 0) rc = qn_bits_reserve(&choices->bit, clicks);
    for (unsigned i = 0; rc == 0 && i < n_planes; i++) rc = qn_bits_reserve(&choices->plane[i], clicks);
    return rc;
}

static int choices_resize(struct choices *choices, unsigned n_planes, size_t clicks) {
    int rc = qn_bits_resize(&choices->basis, clicks);
    if (rc == 0) rc = qn_bits_resize(&choices->bit, clicks);
    for (unsigned i = 0; rc == 0 && i < n_planes; i++) rc = qn_bits_resize(&choices->plane[i], clicks);
    return rc;
}

static int choices_append(struct choices *to, const struct choices *from, unsigned n_planes) {
    int rc = qn_bits_append(&to->basis, &from->basis, 0, from->basis.len);
    if (rc == 0) rc = qn_bits_append(&to->bit, &from->bit, 0, from->bit.len);
    for (unsigned i = 0; rc == 0 && i < n_planes; i++)
        rc = qn_bits_append(&to->plane[i], &from->plane[i], 0, from->plane[i].len);
    return rc;
}

static void choices_release(struct choices *choices) {
    qn_bits_release(&choices->basis);
    qn_bits_release(&choices->bit);
    for (unsigned i = 0; i < QN_SIFT_PLANES; i++) qn_bits_release(&choices->plane[i]);
}

/* Of one piece's clicks, by way of `some`. */
static int choose(const struct bb84_data *data, const struct qn_stream *stream, const uint32_t *offset, size_t n,
                  struct choices *some, struct choices *choices) {
    int rc = choices_resize(some, data->planes, n);
    if (rc < 0) return rc;
    struct qn_choice_planes planes = {.bit = some->bit.words, .basis = some->basis.words};
    for (unsigned i = 0; i < data->planes; i++) planes.intensity[i] = some->plane[i].words;
    qn_choices_at(stream, &data->optics.source, 0, offset, n, &planes);
    return choices_append(choices, some, data->planes);
}

/* The clicks of all pieces, and what was chosen at them, piece by piece. Of pairs all offsets are needed at once. */
static int look_up_pieces(struct bb84_data *data, const struct qn_stream *stream, uint32_t *offset,
                          struct choices *choices) {
    size_t at = 0, n = 0;
    uint64_t least = 0, end = data->pairs ? PAIRS_SPAN : data->pulses; /* Pairs that were lost leave gaps. */
    struct choices some = {0};
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < data->pieces.len; i += sizeof(struct bb84_piece)) {
        struct bb84_piece piece;
        memcpy(&piece, data->pieces.data + i, sizeof piece);
        uint32_t *found = data->pairs ? offset + n : offset;
        rc = qn_sift_decode(qn_buf_at(&data->in, at), piece.len, piece.count, least, end, found);
        at += piece.len;
        if (rc == 0) rc = qn_bits_append_bytes(&data->bases, qn_buf_at(&data->in, at), piece.bases_len, piece.count);
        at += piece.bases_len;
        n += piece.count;
        if (rc == 0 && piece.count > 0) least = (uint64_t)found[piece.count - 1] + 1;
        if (rc == 0 && !data->pairs) rc = choose(data, stream, found, piece.count, &some, choices);
    }
    choices_release(&some);
    if (rc < 0 || !data->pairs) return rc;
    rc = choices_resize(choices, data->planes, data->clicks);
    if (rc == 0) look_up(data, offset, &choices->basis, &choices->bit);
    return rc;
}

static size_t largest_piece(const struct bb84_data *data) {
    size_t most = 0;
    for (size_t i = 0; i < data->pieces.len; i += sizeof(struct bb84_piece)) {
        struct bb84_piece piece;
        memcpy(&piece, data->pieces.data + i, sizeof piece);
        if (piece.count > most) most = piece.count;
    }
    return most;
}

void bb84_match(struct bb84_data *data) {
    struct choices choices = {0};
    struct qn_stream stream;
    uint32_t *offset = malloc(((data->pairs ? data->clicks : largest_piece(data)) + 1) * sizeof *offset);
    data->error = offset == NULL ? -QN_ENOMEM : qn_bits_reserve(&data->bases, data->clicks);
    if (data->error == 0) data->error = choices_room(&choices, data->planes, data->clicks);
    qn_stream_init(&stream, data->stream_key);
    if (data->error == 0) data->error = look_up_pieces(data, &stream, offset, &choices);
    qn_stream_release(&stream);
    data->in.len = data->out.len = 0;
    if (data->error == 0)
        data->error = qn_sift_match(&data->bases, &choices.basis, &choices.bit, choices.plane, data->planes, &data->out,
                                    &data->sifted);
    data->basis_clicks[1] = qn_bits_count(&data->bases);
    data->basis_clicks[0] = data->clicks - data->basis_clicks[1];
    count_classes(data);
    if (data->error == 0 && data->bell.count > 0) data->error = correlate(data);
    sodium_memzero(data->stream_key, sizeof data->stream_key);
    qn_bits_release(&data->bases);
    choices_release(&choices);
    free(offset);
}

void bb84_keep(struct bb84_data *data) {
    data->error = qn_sift_read(&data->bases, &data->bits, data->planes, data->in.data, data->in.len, &data->sifted);
    data->in.len = data->out.len = 0;
    qn_bits_release(&data->bits);
    qn_bits_release(&data->bases);
    if (data->error < 0) return;
    count_classes(data);
    data->error = qn_bits_to_bytes(&data->sifted.test, 0, data->sifted.test.len, &data->out);
}

void bb84_compare(struct bb84_data *data) {
    struct qn_bits theirs = {0};
    data->error = data->in_count != data->sifted.test.len
                      ? -QN_EPROTOCOL
                      : qn_bits_append_bytes(&theirs, data->in.data, data->in.len, data->in_count);
    data->in.len = 0;
    if (data->error == 0) {
        qn_bits_xor(&theirs, &data->sifted.test);
        for (unsigned k = 0; k < data->classes; k++)
            data->counts.test_m[k] = qn_sift_count(data->sifted.test_plane, data->planes, theirs.len, k, &theirs);
        qn_bits_release(&data->sifted.test); /* Told: of no more use. */
    }
    qn_bits_release(&theirs);
}

/* ---- reconciliation ---- */

static void plan(const struct bb84_data *data, struct qn_reconcile_config *config) {
    *config = (struct qn_reconcile_config){.method = data->method};
    config->qber = (double)(data->expected_errors + 1) / (double)(data->expected_of + 2); /* Laplace: never 0. */
    memcpy(config->seed, data->seed_bytes, sizeof config->seed);
}

/* The corrected key replaces the raw one; what differed is counted by intensity first. */
static int finish(struct bb84_data *data) {
    struct qn_reconcile_report report;
    struct qn_bits corrected = {0};
    qn_reconcile_get_report(data->corrector, &report);
    data->disclosed = report.disclosed;
    data->corrected = report.corrected;
    data->failed_frames = report.failed;
    int rc = qn_reconcile_key(data->corrector, &corrected);
    if (rc < 0) return rc;
    qn_bits_xor(&data->sifted.key, &corrected);
    for (unsigned k = 0; k < data->classes; k++)
        data->counts.key_m[k] =
            qn_sift_count(data->sifted.key_plane, data->planes, corrected.len, k, &data->sifted.key);
    qn_bits_release(&data->sifted.key);
    data->sifted.key = corrected;
    qn_reconcile_free(data->corrector);
    data->corrector = NULL;
    qn_hash(data->hash_seed, &data->sifted.key, data->tag);
    return 0;
}

static void ask(struct bb84_data *data) {
    data->out.len = data->pieces.len = 0;
    while (data->error == 0) {
        struct bb84_piece piece = {.len = data->out.len};
        data->error = qn_reconcile_ask(data->corrector, &data->out, &piece.count);
        if (data->error < 0 || piece.count == 0) break;
        piece.len = data->out.len - piece.len;
        data->error = qn_buf_append(&data->pieces, &piece, sizeof piece);
    }
    data->reconciled = qn_reconcile_is_done(data->corrector);
    if (data->reconciled && data->error == 0) data->error = finish(data);
}

void bb84_start_asking(struct bb84_data *data) {
    struct qn_reconcile_config config;
    plan(data, &config);
    data->error = qn_reconcile_new(&config, &data->sifted.key, &data->corrector);
    if (data->error == 0) ask(data);
}

void bb84_go_on_asking(struct bb84_data *data) {
    data->error = qn_reconcile_tell(data->corrector, data->in.data, data->in.len, data->in_count);
    if (data->error == 0) {
        ask(data);
    } else if (data->error == -QN_EPROTOCOL) { /* Answers that contradict each other: someone changed them. Go on to */
        data->out.len = data->pieces.len = 0;  /* the hash, which will differ, and to the tags, which tell who. */
        data->reconciled = true;
        data->error = finish(data);
    }
}

void bb84_start_answering(struct bb84_data *data) {
    struct qn_reconcile_config config;
    plan(data, &config);
    data->error = qn_reconcile_source_new(&config, &data->sifted.key, &data->answerer);
}

void bb84_go_on_answering(struct bb84_data *data) {
    data->out.len = 0;
    data->error = qn_reconcile_answer(data->answerer, data->in.data, data->in.len, data->in_count, &data->out);
    data->disclosed = qn_reconcile_source_disclosed(data->answerer);
}

void bb84_hash_key(struct bb84_data *data) {
    qn_reconcile_source_free(data->answerer);
    data->answerer = NULL;
    qn_hash(data->hash_seed, &data->sifted.key, data->tag);
    data->error = 0;
}

/* ---- the key of a block ---- */

struct bb84_key *bb84_key_new(uint32_t n_parts) {
    struct bb84_key *key = calloc(1, sizeof *key);
    struct qn_bits *parts = calloc(n_parts, sizeof *parts);
    if (key == NULL || parts == NULL) {
        free(key);
        free(parts);
        return NULL;
    }
    *key = (struct bb84_key){.parts = parts, .n_parts = n_parts};
    return key;
}

static void release_parts(struct bb84_key *key) {
    for (uint32_t i = 0; i < key->n_parts; i++) qn_bits_release(&key->parts[i]);
}

void bb84_key_free(struct bb84_key *key) {
    if (key == NULL) return;
    release_parts(key);
    free(key->parts);
    if (key->secret.data != NULL) sodium_memzero(key->secret.data, key->secret.cap);
    qn_buf_release(&key->secret);
    sodium_memzero(key, sizeof *key);
    free(key);
}

void bb84_amplify(struct bb84_key *key) {
    struct qn_bits all = {0}, secret = {0};
    size_t len = 0;
    for (uint32_t i = 0; i < key->n_parts; i++) len += key->parts[i].len;
    key->error = qn_bits_reserve(&all, len);
    for (uint32_t i = 0; i < key->n_parts && key->error == 0; i++)
        key->error = qn_bits_append(&all, &key->parts[i], 0, key->parts[i].len);
    release_parts(key);
    if (key->error == 0) key->error = qn_amplify(&all, key->seed, key->secret_bits, &secret);
    if (key->error == 0) key->error = qn_bits_to_bytes(&secret, 0, secret.len, &key->secret);
    if (key->error == 0) {
        uint8_t digest[32];
        crypto_generichash(digest, sizeof digest, key->secret.data, key->secret.len, key->name, sizeof key->name);
        memcpy(key->check, digest, sizeof key->check);
    }
    qn_bits_release(&all);
    qn_bits_release(&secret);
}
