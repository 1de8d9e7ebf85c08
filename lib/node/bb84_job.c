/* SPDX-License-Identifier: Apache-2.0 */
/* Long steps on a train or on a block's key: the data go into a job, and back when it is done. Whoever was given up
 * meanwhile is not found again, and the data are freed. */
#include <math.h>
#include <stdlib.h>

#include "node/bb84.h"

#define NO_TRAIN UINT32_MAX
#define LOAD_SAMPLES 32

struct job {
    struct qn_job base;
    struct bb84_data *data;
    struct bb84_key *key;
    struct bb84_choice choice;
    void (*then_choice)(struct session *session, const struct bb84_choice *choice);
    void (*run_train)(struct bb84_data *data);
    void (*run_block)(struct bb84_key *key);
    void (*then_train)(struct train *train);
    void (*then_block)(struct block *block);
    uint32_t session, block, train;
    uint16_t peer;
};

static void job_run(struct qn_job *base) {
    struct job *job = (struct job *)(void *)base;
    if (job->then_choice != NULL)
        bb84_choice_run(&job->choice);
    else if (job->run_train != NULL)
        job->run_train(job->data);
    else
        job->run_block(job->key);
}

static void job_free(struct qn_job *base) {
    struct job *job = (struct job *)(void *)base;
    bb84_data_free(job->data);
    bb84_key_free(job->key);
    free(job);
}

static struct job *job_new(const struct session *session, uint32_t block, uint32_t train, uint64_t rank) {
    struct job *job = calloc(1, sizeof *job);
    if (job == NULL) return NULL;
    job->base = (struct qn_job){.run = job_run, .free = job_free, .id = ++session->node->next_job, .rank = rank};
    job->session = session->id;
    job->peer = session->peer;
    job->block = block;
    job->train = train;
    return job;
}

/* To the driver. The load is sampled when work comes. */
static void submit(struct qn_node *node, struct job *job) {
    double now = node->threads > 0 ? (double)node->n_jobs / node->threads : 0;
    node->load += (now - node->load) / LOAD_SAMPLES;
    node->n_jobs++;
    node_act(node, (struct qn_action){.type = QN_ACTION_JOB, .job = &job->base}, NULL, 0);
}

uint32_t bb84_load_said(const struct qn_node *node) { return (uint32_t)(1000 * fmin(node->load, 1000)); }

void bb84_work_choice(struct session *session, void (*then)(struct session *, const struct bb84_choice *)) {
    struct job *job = job_new(session, 0, NO_TRAIN, 0);
    if (job == NULL) {
        bb84_session_fail(session, -QN_ENOMEM, "");
        return;
    }
    job->choice.topology = session->node->topology;
    job->choice.link = &session->node->topology->links[session->link_index];
    job->then_choice = then;
    submit(session->node, job);
}

void bb84_work_train(struct train *train, void (*run)(struct bb84_data *), void (*then)(struct train *)) {
    struct job *job = job_new(train->block->session, train->block->number, train->number, train->rank);
    if (job == NULL) {
        bb84_block_fail(train->block, -QN_ENOMEM, "");
        return;
    }
    job->data = train->data;
    job->run_train = run;
    job->then_train = then;
    train->data = NULL;
    submit(train->block->session->node, job);
}

void bb84_work_block(struct block *block, void (*run)(struct bb84_key *), void (*then)(struct block *)) {
    struct job *job = job_new(block->session, block->number, NO_TRAIN, block->rank);
    if (job == NULL) {
        bb84_block_fail(block, -QN_ENOMEM, "");
        return;
    }
    job->key = block->key;
    job->run_block = run;
    job->then_block = then;
    block->key = NULL;
    submit(block->session->node, job);
}

static void on_train_job(struct qn_node *node, struct job *job, struct train *train) {
    train->data = job->data;
    job->data = NULL;
    if (train->data->error < 0) {
        bb84_block_fail(train->block, train->data->error, "");
        return;
    }
    uint32_t session_id = job->session;
    job->then_train(train);
    /* That may have ended it. */
    struct session *session = bb84_find_session(node, job->peer, session_id);
    struct block *block = session != NULL ? bb84_find_block(session, job->block) : NULL;
    train = block != NULL ? bb84_find_train(block, job->train) : NULL;
    if (train != NULL) bb84_serve(train);
}

void bb84_on_job(struct qn_node *node, struct qn_job *base) {
    struct job *job = (struct job *)(void *)base;
    node->n_jobs--;
    struct session *session = bb84_find_session(node, job->peer, job->session);
    struct block *block = session != NULL ? bb84_find_block(session, job->block) : NULL;
    if (job->then_choice != NULL) {
        if (session != NULL) job->then_choice(session, &job->choice);
    } else if (job->train == NO_TRAIN) {
        if (block != NULL && block->key == NULL) {
            block->key = job->key;
            job->key = NULL;
            if (block->key->error < 0)
                bb84_block_fail(block, block->key->error, "");
            else
                job->then_block(block);
        }
    } else {
        struct train *train = block != NULL ? bb84_find_train(block, job->train) : NULL;
        if (train != NULL && train->data == NULL) on_train_job(node, job, train);
    }
    job_free(base);
}
