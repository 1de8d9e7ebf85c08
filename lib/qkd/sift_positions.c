/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>

#include "base/err.h"
#include "qkd/pack.h"
#include "qkd/sift_with.h"

/* Gaps of one byte each are the common case where clicks are dense, and are dealt with many at a time. */

enum { GROUP = 64, LONG_AT_ONCE = 8, LEB32_MAX = 5 }; /* 5: a 32-bit number at its longest. */

/* The gaps of a group whose first click has one before it. False, nothing written, unless each takes one byte. In a
 * form that compilers turn into vector instructions. */
static bool plain_short(const uint32_t *offset, uint8_t *out) {
    uint32_t gaps[GROUP], all = 0;
    for (size_t i = 0; i < GROUP; i++) gaps[i] = offset[i] - *(offset + i - 1);
    for (size_t i = 0; i < GROUP; i++) all |= gaps[i];
    if (all >= 0x80) return false;
    for (size_t i = 0; i < GROUP; i++) out[i] = (uint8_t)gaps[i];
    return true;
}

/* Offsets after *last by gaps of one byte, none of them 0, as long as eight and more of them follow, at most n; returns
 * how many, and moves *last. The offsets count only if *last still is one. */
static size_t plain_decode(const uint8_t *bytes, size_t n, uint64_t *last, uint32_t *ret_offset) {
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        uint64_t eight = load_le64(bytes + i);
        if (((eight | (eight - UINT64_C(0x0101010101010101))) & UINT64_C(0x8080808080808080)) != 0) break;
        for (unsigned k = 0; k < 8; k++, eight >>= 8) ret_offset[i + k] = (uint32_t)(*last += eight & 0x7f);
    }
    return i;
}

#ifdef __x86_64__
#include <immintrin.h>

#define WIDE __attribute__((target("avx512f,avx512bw,avx512vl")))

static WIDE bool wide_short(const uint32_t *offset, uint8_t *out) {
    __m512i gaps[GROUP / 16], all = _mm512_setzero_si512();
    for (int i = 0; i < GROUP / 16; i++) {
        gaps[i] = _mm512_sub_epi32(_mm512_loadu_si512(offset + 16 * i), _mm512_loadu_si512(offset + 16 * i - 1));
        all = _mm512_or_si512(all, gaps[i]);
    }
    if (_mm512_test_epi32_mask(all, _mm512_set1_epi32(~0x7f)) != 0) return false;
    for (int i = 0; i < GROUP / 16; i++)
        _mm_storeu_si128((__m128i *)(void *)(out + 16 * i), _mm512_cvtepi32_epi8(gaps[i]));
    return true;
}

static WIDE size_t wide_decode(const uint8_t *bytes, size_t n, uint64_t *last, uint32_t *ret_offset) {
    const __m512i zero = _mm512_setzero_si512();
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        __m128i gaps = _mm_loadu_si128((const __m128i *)(const void *)(bytes + i));
        if (_mm_cmpgt_epi8_mask(gaps, _mm_setzero_si128()) != 0xffff) break; /* 1 to 127. */
        __m128i halves = _mm_sad_epu8(gaps, _mm_setzero_si128());
        __m512i sum = _mm512_cvtepu8_epi32(gaps);
        sum = _mm512_add_epi32(sum, _mm512_alignr_epi32(sum, zero, 15));
        sum = _mm512_add_epi32(sum, _mm512_alignr_epi32(sum, zero, 14));
        sum = _mm512_add_epi32(sum, _mm512_alignr_epi32(sum, zero, 12));
        sum = _mm512_add_epi32(sum, _mm512_alignr_epi32(sum, zero, 8));
        _mm512_storeu_si512(ret_offset + i, _mm512_add_epi32(sum, _mm512_set1_epi32((int)(uint32_t)*last)));
        *last += (uint64_t)_mm_cvtsi128_si64(halves) + (uint64_t)_mm_extract_epi64(halves, 1);
    }
    return i + plain_decode(bytes + i, n - i, last, ret_offset + i);
}

static bool has_wide(void) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl");
}
#else
#define wide_short plain_short
#define wide_decode plain_decode
static bool has_wide(void) { return false; }
#endif

int qn_sift_encode_with(const uint32_t *offset, size_t first, size_t n, struct qn_buf *ret_positions, size_t *ret_count,
                        bool portable) {
    bool (*encode_short)(const uint32_t *offset, uint8_t *out) = !portable && has_wide() ? wide_short : plain_short;
    assert(first <= n);
    size_t room = n - first < QN_SIFT_PIECE_CLICKS ? n - first : QN_SIFT_PIECE_CLICKS, count = 0;
    int rc = qn_buf_reserve(ret_positions, QN_SIFT_PIECE_BYTES);
    if (rc < 0) return rc;
    uint8_t *begin = ret_positions->data + ret_positions->len, *at = begin;
    while (count < room && (size_t)(at - begin) + GROUP * LEB32_MAX <= QN_SIFT_PIECE_BYTES) { /* A group at a time. */
        size_t end = room - count < GROUP ? room : count + GROUP;
        if (end - count == GROUP && count > 0 && encode_short(offset + first + count, at)) {
            at += GROUP;
            count = end;
            continue;
        }
        for (; count < end; count++) {
            uint32_t last = count == 0 ? 0 : offset[first + count - 1];
            at += leb_write(at, offset[first + count] - last);
        }
    }
    ret_positions->len += (size_t)(at - begin);
    *ret_count = count;
    return 0;
}

int qn_sift_encode(const uint32_t *offset, size_t first, size_t n, struct qn_buf *ret_positions, size_t *ret_count) {
    return qn_sift_encode_with(offset, first, n, ret_positions, ret_count, false);
}

int qn_sift_decode_with(const uint8_t *positions, size_t len, size_t count, uint64_t least, uint64_t pulses,
                        uint32_t *ret_offset, bool portable) {
    size_t (*decode_short)(const uint8_t *bytes, size_t n, uint64_t *last, uint32_t *ret_offset) =
        !portable && has_wide() ? wide_decode : plain_decode;
    uint64_t value, last;
    assert(pulses <= UINT64_C(1) << 32);
    if (count == 0 || len == 0) return count == 0 && len == 0 ? 0 : -QN_EPROTOCOL; /* Then there may be no bytes. */
    struct leb_reader reader = {positions, positions + len};
    if (leb_read(&reader, &value) < 0 || value < least || value >= pulses) return -QN_EPROTOCOL;
    ret_offset[0] = (uint32_t)(last = value);
    size_t i = 1;
    while (i < count) {
        size_t left = (size_t)(reader.end - reader.at);
        size_t done = decode_short(reader.at, left < count - i ? left : count - i, &last, ret_offset + i);
        if (last >= pulses) return -QN_EPROTOCOL;
        reader.at += done;
        i += done;
        for (size_t end = count - i < LONG_AT_ONCE ? count : i + LONG_AT_ONCE; i < end; i++) {
            if (leb_read(&reader, &value) < 0 || value == 0 || value >= pulses || last >= pulses - value)
                return -QN_EPROTOCOL;
            ret_offset[i] = (uint32_t)(last += value);
        }
    }
    return reader.at == reader.end ? 0 : -QN_EPROTOCOL;
}

int qn_sift_decode(const uint8_t *positions, size_t len, size_t count, uint64_t least, uint64_t pulses,
                   uint32_t *ret_offset) {
    return qn_sift_decode_with(positions, len, count, least, pulses, ret_offset, false);
}
