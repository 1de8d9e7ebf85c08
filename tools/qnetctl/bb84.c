/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <string.h>

#include "command.h"
#include "target.h"

struct blocks {
    const struct ctl *ctl;
    uint32_t n;
};

static void print_block(const struct blocks *blocks, const Qnet__V1__Bb84Block *block) {
    const struct ctl *ctl = blocks->ctl;
    ctl_progress_end(ctl);
    if (blocks->n == 1) /* Fixed widths: rows come one at a time. */
        printf("%s%5s %12s %9s %9s %7s %10s %10s  %s%s\n", colour_start(ctl->out_colour, COLOUR_BOLD), "BLOCK",
               "PULSES", "CLICKS", "SIFTED", "QBER", "DISCLOSED", "SECRET", "KEY",
               colour_end(ctl->out_colour, COLOUR_BOLD));
    printf("%5" PRIu32 " %12" PRIu64 " %9" PRIu64 " %9" PRIu64 " %6.2f%% %10" PRIu64 " %10" PRIu64 "  ", block->block,
           block->pulses, block->clicks, block->sifted, block->qber * 100, block->disclosed, block->secret);
    if (block->failed[0] != '\0')
        printf("%s%s%s", colour_start(ctl->out_colour, COLOUR_RED), text_clean(block->failed),
               colour_end(ctl->out_colour, COLOUR_RED));
    for (size_t i = 0; i < block->key_id.len && block->failed[0] == '\0'; i++) printf("%02x", block->key_id.data[i]);
    putchar('\n');
    ctl_progress(ctl, "%" PRIu32 " blocks done", blocks->n);
}

static void print_summary(const struct ctl *ctl, const Qnet__V1__Bb84Summary *summary) {
    ctl_progress_end(ctl);
    double elapsed_s = (double)summary->elapsed_ns * 1e-9;
    printf("%" PRIu64 " secret bits of %" PRIu64 " sifted ones, %" PRIu32 " blocks", summary->secret, summary->sifted,
           summary->blocks);
    if (summary->aborted > 0) printf(" (%" PRIu32 " without a key)", summary->aborted);
    printf(", in %s of emulated time", text_duration(elapsed_s));
    if (elapsed_s > 0) printf(" (%.4g bit/s)", (double)summary->secret / elapsed_s);
    printf("\n  error rate: %.2f%% measured (%" PRIu64 " of %" PRIu64
           " compared bits), %.2f%% expected of the hardware\n",
           summary->qber * 100, summary->errors, summary->sampled, summary->expected_qber * 100);
}

static int take_block(void *context, const struct target *target, const Qnet__V1__ControlResponse *response) {
    struct blocks *blocks = context;
    const struct ctl *ctl = blocks->ctl;
    bool is_block = response->body_case == QNET__V1__CONTROL_RESPONSE__BODY_BB84_BLOCK;
    if (!is_block && response->body_case != QNET__V1__CONTROL_RESPONSE__BODY_BB84_SUMMARY) return 0;
    blocks->n += is_block;
    if (ctl->json) {
        json_t *object = body_to_json(target, is_block ? &response->bb84_block->base : &response->bb84_summary->base);
        json_object_set_new(object, "type", json_string(is_block ? "block" : "summary"));
        return ctl_json(ctl, object);
    }
    if (is_block)
        print_block(blocks, response->bb84_block);
    else
        print_summary(ctl, response->bb84_summary);
    return 0;
}

int run_bb84(struct ctl *ctl, const struct args *args) {
    Qnet__V1__ControlRequest request = QNET__V1__CONTROL_REQUEST__INIT;
    Qnet__V1__Bb84Request body = QNET__V1__BB84_REQUEST__INIT;
    struct targets targets;
    uint64_t n_blocks = 0;
    int status = args_u64(ctl, args, "bits", 1, UINT64_C(1) << 50, &body.secret_bits);
    if (status == STATUS_OK) status = args_u64(ctl, args, "blocks", 1, 1000000, &n_blocks);
    if (status == STATUS_OK) status = args_u64(ctl, args, "block-pulses", 1, UINT64_C(1) << 50, &body.block_pulses);
    if (status == STATUS_OK) status = args_quantity(ctl, args, "qber-limit", QN_DIM_FRACTION, &body.qber_limit);
    if (status == STATUS_OK) status = targets_find_one(ctl, &targets);
    if (status != STATUS_OK) return status;
    struct blocks blocks = {.ctl = ctl};
    body.peer = (char *)(uintptr_t)args->operands[0];
    if (n_blocks == 0 && body.secret_bits == 0) n_blocks = 1;
    body.blocks = (uint32_t)n_blocks;
    body.timeout_ns = request_timeout_ns(ctl);
    request.body_case = QNET__V1__CONTROL_REQUEST__BODY_BB84;
    request.bb84 = &body;
    ctl_progress(ctl, "sending pulses to %s", body.peer);
    status = target_call(ctl, &targets.list[0], &request, PATIENCE_REQUEST, take_block, &blocks);
    targets_release(&targets);
    return status;
}
