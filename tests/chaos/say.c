/* SPDX-License-Identifier: Apache-2.0 */
/* What the quantum plane of a node still waits for, in words; apart, as its structures have names that the node's have.
 */
#include <stdio.h>

#include "plane/internal.h"
#include "qnet/v1/envelope.pb-c.h"
#include "say.h"

void say_plane(const struct qn_plane *plane) {
    static const char *const states[] = {"queued", "frozen", "asked", "fetch", "push", "held", "recover"};
    void *value;
    fprintf(stderr, "  node %u: %zu deferred, %zu out, %zu results, %zu arrivals\n", plane->config.self,
            plane->n_deferred, plane->n_out, plane->results.len, plane->arrivals.len);
    for (size_t i = 0; qn_map_next(&plane->pending, &i, NULL, &value);) {
        const struct pending *p = value;
        fprintf(stderr, "  operation %llx kind %d %s on %llx %llx\n", (unsigned long long)p->op.id, (int)p->op.kind,
                states[p->state], (unsigned long long)p->op.qubits[0],
                (unsigned long long)(p->op.n_qubits > 1 ? p->op.qubits[1] : 0));
    }
    for (size_t i = 0; qn_map_next(&plane->frozen, &i, NULL, &value);) {
        const struct frozen *f = value;
        fprintf(stderr, "  shipment %llx to %u kind %d of group %llx\n", (unsigned long long)f->transfer, f->to,
                (int)f->kind, (unsigned long long)f->group->id);
    }
    for (size_t i = 0; qn_map_next(&plane->probation, &i, NULL, &value);) {
        const struct group *g = value;
        fprintf(stderr, "  probation %llx from %u group %llx\n", (unsigned long long)g->transfer, g->peer,
                (unsigned long long)g->id);
    }
    for (size_t i = 0; qn_map_next(&plane->qubits, &i, NULL, &value);) {
        const struct qubit *q = value;
        if (q->in_history) continue;
        fprintf(stderr, "  qubit %llx%s%s%s%s%s, hint %u v%u%s%s\n", (unsigned long long)q->id,
                q->owned ? " owned" : "", q->announced ? " announced" : "", q->doomed ? " doomed" : "",
                q->group != NULL ? " hosted" : "", q->moved ? " moved" : "", q->hint_host, q->hint_version,
                q->deferred.first != NULL ? ", deferred" : "",
                q->inquiry == NULL    ? ""
                : q->inquiry->id == 0 ? ", waits for news"
                                      : ", asked for");
        if (q->inquiry != NULL) fprintf(stderr, "    %zu answers missing\n", q->inquiry->n_missing);
        for (const struct deferred *d = q->deferred.first; d != NULL; d = d->next)
            fprintf(stderr, "    deferred %d from %u\n", (int)d->kind,
                    d->kind == DEFERRED_REQUEST    ? d->request.op.requester
                    : d->kind == DEFERRED_SHIPMENT ? d->shipment.from
                                                   : d->who_has.asker);
    }
    for (const struct deferred *d = plane->inquiries.first; d != NULL; d = d->next)
        fprintf(stderr, "  who-has of %u about %llx, cause %u\n", d->who_has.asker,
                (unsigned long long)d->who_has.qubit, d->who_has.n_causes > 0 ? d->who_has.causes[0] : 0);
}

/* ---- messages ---- */

static unsigned long long first_number(const ProtobufCMessage *m) { /* Most begin with what they are about. */
    const ProtobufCFieldDescriptor *field = m->descriptor->n_fields > 0 ? &m->descriptor->fields[0] : NULL;
    if (field == NULL || field->label == PROTOBUF_C_LABEL_REPEATED) return 0;
    const char *at = (const char *)m + field->offset;
    switch (field->type) {
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
        return *(const uint64_t *)(const void *)at;
    case PROTOBUF_C_TYPE_UINT32:
        return *(const uint32_t *)(const void *)at;
    default:
        return 0;
    }
}

static const ProtobufCMessage *chosen(const ProtobufCMessage *m) { /* Of its oneof. NULL if there is none. */
    for (unsigned i = 0; i < m->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &m->descriptor->fields[i];
        if ((field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) == 0) continue;
        if (*(const uint32_t *)(const void *)((const char *)m + field->quantifier_offset) != field->id) continue;
        return *(const ProtobufCMessage *const *)(const void *)((const char *)m + field->offset);
    }
    return NULL;
}

void say_envelope(const uint8_t *bytes, size_t len) {
    Qnet__V1__Envelope *e = qnet__v1__envelope__unpack(NULL, len, bytes);
    if (e == NULL) return;
    printf("    %u -> %u seq %llu ack %llu", e->from, e->to, (unsigned long long)e->seq, (unsigned long long)e->ack);
    for (const ProtobufCMessage *m = chosen(&e->base); m != NULL; m = chosen(m))
        printf(" %s %llx", m->descriptor->short_name, first_number(m));
    if (e->body_case == QNET__V1__ENVELOPE__BODY_PLANE && e->plane->body_case == QNET__V1__PLANE_MESSAGE__BODY_SHIP)
        for (size_t i = 0; i < e->plane->ship->n_members; i++)
            printf(" [%llx]", (unsigned long long)e->plane->ship->members[i]->qubit);
    if (e->body_case == QNET__V1__ENVELOPE__BODY_PLANE && e->plane->body_case == QNET__V1__PLANE_MESSAGE__BODY_OP)
        for (size_t i = 0; i < e->plane->op->op->n_qubits; i++)
            printf(" [%llx]", (unsigned long long)e->plane->op->op->qubits[i]);
    putchar('\n');
    qnet__v1__envelope__free_unpacked(e, NULL);
}
