/* SPDX-License-Identifier: Apache-2.0 */
/* R12: an outcome is released only when every owner whose will it changes has noted the new one. A host that sent both
 * at once and then crashed could have told the outcome and not the will, and the owner would go on from a marginal that
 * contradicts what is known.
 *
 * Owners acknowledge at once and unconditionally, and the dead need not, so nothing waits in a circle. Of pairs whose
 * states are Bell-diagonal no outcome says anything of a far qubit: then nothing is sent, and nothing waits. */
#include <stdlib.h>

#include "plane/internal.h"

void await_note(struct qn_plane *plane, uint64_t op_id, uint16_t owner, uint32_t life) {
    struct awaited *awaited = must(malloc(sizeof *awaited));
    *awaited = (struct awaited){plane->awaited, op_id, owner, life};
    plane->awaited = awaited;
}

static bool is_awaited(const struct qn_plane *plane, uint64_t op_id) {
    for (const struct awaited *a = plane->awaited; a != NULL; a = a->next)
        if (a->op_id == op_id) return true;
    return false;
}

bool withhold(struct qn_plane *plane, const struct answer *answer, const struct shipment *shipment, uint64_t group) {
    if (!is_awaited(plane, answer->op_id)) return false;
    struct withheld *withheld = must(calloc(1, sizeof *withheld));
    withheld->answer = *answer;
    withheld->in_ack = shipment != NULL;
    if (shipment != NULL) {
        withheld->shipment = *shipment;
        withheld->shipment.group = NULL;
        withheld->group = group;
    }
    withheld->next = plane->withheld;
    plane->withheld = withheld;
    return true;
}

static void release(struct qn_plane *plane) { /* What nothing is awaited for any more. */
    struct withheld **at = &plane->withheld;
    while (*at != NULL) {
        struct withheld *withheld = *at;
        if (is_awaited(plane, withheld->answer.op_id)) {
            at = &withheld->next;
            continue;
        }
        *at = withheld->next;
        if (withheld->in_ack)
            send_ship_ack(plane, &withheld->shipment, withheld->group, &withheld->answer);
        else
            answer_release(plane, &withheld->answer);
        free(withheld);
        at = &plane->withheld; /* Telling one may have caused others. */
    }
}

void r12_noted(struct qn_plane *plane, uint16_t owner, uint64_t op_id) {
    for (struct awaited **at = &plane->awaited; *at != NULL; at = &(*at)->next) {
        struct awaited *awaited = *at;
        if (awaited->owner != owner || awaited->op_id != op_id) continue;
        *at = awaited->next;
        free(awaited);
        break;
    }
    release(plane);
}

void r12_down(struct qn_plane *plane) { /* The dead leave nothing. */
    struct awaited **at = &plane->awaited;
    while (*at != NULL) {
        struct awaited *awaited = *at;
        if (!is_gone(plane, awaited->owner, awaited->life)) {
            at = &awaited->next;
            continue;
        }
        *at = awaited->next;
        free(awaited);
    }
    release(plane);
}

void mark_noting(const struct qn_plane *plane, bool *marks, uint64_t op_id) {
    for (const struct awaited *a = plane->awaited; a != NULL; a = a->next)
        if (op_id == 0 || a->op_id == op_id) marks[a->owner] = true;
}

void wills_free(struct qn_plane *plane) {
    while (plane->awaited != NULL) {
        struct awaited *next = plane->awaited->next;
        free(plane->awaited);
        plane->awaited = next;
    }
    while (plane->withheld != NULL) {
        struct withheld *next = plane->withheld->next;
        free(plane->withheld);
        plane->withheld = next;
    }
}
