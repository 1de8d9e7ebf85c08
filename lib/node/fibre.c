/* SPDX-License-Identifier: Apache-2.0 */
/* From this node to a neighbour: whichever session is up, and for classical messages the light time of the link first.
 * What is beyond the limit is dropped; the channel sends it again. */
#include <stdlib.h>
#include <string.h>

#include "node/internal.h"

static void give(struct qn_node *node, uint16_t hop, enum qn_plane_id plane, const struct parcel *parcel) {
    struct qn_action action = {.type = QN_ACTION_SEND, .plane = plane, .peer = hop};
    if (parcel->item != NULL)
        node_act_kept(node, action, parcel->item, parcel->bytes, parcel->len);
    else
        node_act(node, action, parcel->bytes, parcel->len);
}

static void free_held(struct held *held) {
    if (held->item != NULL) qn_channel_drop(held->item);
    free(held);
}

static void release_held(struct qn_node *node, struct neighbour *neighbour) {
    while (neighbour->first != NULL && neighbour->first->due_ns <= node->now_ns) {
        struct held *held = neighbour->first;
        neighbour->first = held->next;
        if (neighbour->first == NULL) neighbour->last = NULL;
        neighbour->held_bytes -= held->len;
        if (neighbour->up[QN_CLASSICAL])
            give(node, neighbour->id, QN_CLASSICAL, &(struct parcel){held->bytes, held->len, held->item});
        free_held(held);
    }
    if (neighbour->first != NULL) node_timer(node, &neighbour->timer, neighbour->first->due_ns);
}

void fibre_on_due(void *context, struct qn_timer *timer) {
    release_held(context, CONTAINER_OF(timer, struct neighbour, timer));
}

static struct held *hold(const struct parcel *parcel) { /* NULL: no memory. */
    struct held *held = malloc(sizeof *held + (parcel->item == NULL ? parcel->len : 0));
    if (held == NULL) return NULL;
    *held = (struct held){.item = parcel->item, .bytes = parcel->bytes, .len = parcel->len};
    if (parcel->item != NULL) {
        qn_channel_keep(parcel->item);
    } else {
        memcpy(held->own, parcel->bytes, parcel->len);
        held->bytes = held->own;
    }
    return held;
}

static void send_classical(struct qn_node *node, struct neighbour *neighbour, const struct parcel *parcel) {
    uint64_t delay = neighbour->delay_ns + neighbour->extra_delay_ns;
    if (delay == 0 && neighbour->first == NULL) {
        give(node, neighbour->id, QN_CLASSICAL, parcel);
        return;
    }
    struct held *held = neighbour->held_bytes + parcel->len > FIBRE_HOLDS ? NULL : hold(parcel);
    if (held == NULL) { /* The channel sends it again. */
        node->n_dropped++;
        return;
    }
    held->due_ns = node->now_ns + delay;
    if (neighbour->last != NULL && held->due_ns < neighbour->last->due_ns) held->due_ns = neighbour->last->due_ns;
    if (neighbour->last != NULL)
        neighbour->last->next = held;
    else {
        neighbour->first = held;
        node_timer(node, &neighbour->timer, held->due_ns);
    }
    neighbour->last = held;
    neighbour->held_bytes += held->len;
}

bool fibre_send(struct qn_node *node, uint16_t hop, enum qn_plane_id plane, const struct parcel *parcel) {
    struct neighbour *neighbour = node_neighbour(node, hop);
    if (neighbour == NULL) return false;
    if (plane == QN_CLASSICAL) {
        if (!neighbour->up[QN_CLASSICAL]) return false;
        send_classical(node, neighbour, parcel);
        return true;
    }
    for (int session = QN_QUANTUM; session >= QN_CLASSICAL; session--) {
        if (!neighbour->up[session]) continue;
        give(node, hop, (enum qn_plane_id)session, parcel);
        return true;
    }
    return false;
}

bool fibre_is_up(const struct qn_node *node, uint16_t hop, enum qn_plane_id plane) {
    const struct neighbour *neighbour = node_neighbour(node, hop);
    return neighbour != NULL && (neighbour->up[QN_CLASSICAL] || (plane == QN_QUANTUM && neighbour->up[QN_QUANTUM]));
}

void fibre_free(struct held *held) {
    while (held != NULL) {
        struct held *next = held->next;
        free_held(held);
        held = next;
    }
}
