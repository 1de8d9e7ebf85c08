/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <string.h>

#include "command.h"
#include "qkd/estimate.h"
#include "qkd/reconcile.h"
#include "target.h"

struct blocks {
    const struct ctl *ctl;
    uint32_t n;
};

/* Where the bits went, in lines below the row. */
static void print_account(const struct ctl *ctl, const Qnet__V1__Bb84Block *block) {
    const Qnet__V1__Bb84Account *account = block->account;
    if (account == NULL) return;
    if (account->detail[0] != '\0') printf("      %s\n", text_clean(account->detail));
    if (block->secret > 0 && strcmp(account->bound, "device-independent") == 0)
        printf(
            "      %s: %.0f bits, of which Eve knows %.3f of each at most; secrecy %g cost %.0f bits, correctness %g "
            "%.0f\n",
            text_clean(account->bound), account->single_clicks, qn_binary_entropy(account->phase_error),
            account->epsilon_secret, account->secrecy_bits, account->epsilon_correct, account->correctness_bits);
    else if (block->secret > 0)
        printf(
            "      %s: %.0f bits from single photons at least, phase error %.2f%% at most; secrecy %g cost %.0f bits, "
            "correctness %g %.0f\n",
            text_clean(account->bound), account->single_clicks, account->phase_error * 100, account->epsilon_secret,
            account->secrecy_bits, account->epsilon_correct, account->correctness_bits);
    if (block->bell_pairs > 0)
        printf("      Bell's inequality: S = %.3f +- %.3f of %" PRIu64 " pairs\n", block->bell_s, block->bell_error,
               block->bell_pairs);
    if (account->method[0] != '\0')
        printf("      %s: %" PRIu64 " errors (%.2f%%), %" PRIu64 " bits told (f = %.3f), %" PRIu64
               " more for comparing%s\n",
               text_clean(account->method), account->corrected, account->key_qber * 100, block->disclosed,
               block->efficiency, account->tag_bits, account->failed_frames > 0 ? "; some frames told in full" : "");
    if (account->wrong_trains > 0)
        printf("      %" PRIu32 " of %" PRIu32 " trains stayed different: %" PRIu64 " of their bits were dropped\n",
               account->wrong_trains, account->trains, account->dropped_bits);
    if (account->authenticated)
        printf("      authenticated: %" PRIu64 " bits used, %" PRIu64 " of the key kept for the pool, net %" PRId64
               " bits; forgery below %.1g; %" PRIu64 " bits left\n",
               account->pad_bits, account->pool_bits, account->net_bits, account->epsilon_authentication,
               account->pool_left);
    else
        printf("      not authenticated: no initial secret\n");
    if (account->public_seed) printf("      not secret: made from a seed that others know\n");
    for (size_t i = 0; i < account->n_alarms; i++) {
        const Qnet__V1__QkdAlarm *alarm = account->alarms[i];
        printf("      %salarm%s: %s in the %s basis is %.4g, expected %.4g: off by %.1f sigma\n",
               colour_start(ctl->out_colour, COLOUR_RED), colour_end(ctl->out_colour, COLOUR_RED),
               text_clean(alarm->observable), alarm->basis == 0 ? "key" : "test", alarm->observed, alarm->expected,
               alarm->sigma > 0 ? (alarm->observed - alarm->expected) / alarm->sigma : 0);
    }
}

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
    print_account(ctl, block);
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
    if (summary->authenticated) printf(", net of authentication %" PRId64, summary->net_bits);
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

static int read_method(const struct ctl *ctl, const char *name, uint32_t *ret_method) {
    enum qn_reconcile_method method;
    if (qn_reconcile_parse(name, &method) < 0)
        return ctl_usage(ctl,
                         "unknown method \"%s\"; valid: auto, cascade, cascade-fast, ldpc, ldpc-fast, or a published "
                         "variant of Cascade (cascade-original, cascade-yanetal, ...)",
                         name);
    *ret_method = method;
    return STATUS_OK;
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
    if (status == STATUS_OK) status = args_quantity(ctl, args, "bell", QN_DIM_FRACTION, &body.bell_share);
    if (status == STATUS_OK) status = read_method(ctl, args_text(args, "method", "auto"), &body.method);
    if (status == STATUS_OK) status = targets_find_one(ctl, &targets);
    if (status != STATUS_OK) return status;
    struct blocks blocks = {.ctl = ctl};
    body.peer = (char *)(uintptr_t)args->operands[0];
    if (n_blocks == 0 && body.secret_bits == 0) n_blocks = 1;
    body.blocks = (uint32_t)n_blocks;
    body.timeout_ns = request_timeout_ns(ctl);
    body.pairs = args_has(args, "pairs");
    body.device_independent = args_has(args, "device-independent");
    request.body_case = QNET__V1__CONTROL_REQUEST__BODY_BB84;
    request.bb84 = &body;
    ctl_progress(ctl, "making keys with %s", body.peer);
    status = target_call(ctl, &targets.list[0], &request, PATIENCE_REQUEST, take_block, &blocks);
    targets_release(&targets);
    return status;
}
