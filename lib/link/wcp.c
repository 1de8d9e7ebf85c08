/* SPDX-License-Identifier: Apache-2.0 */
#include "link/wcp.h"

#include <math.h>

#include "link/internal.h"

double qn_wcp_photons(double mean, unsigned n) {
    double p = exp(-mean);
    for (unsigned k = 1; k <= n; k++) p *= mean / k;
    return p;
}

double qn_wcp_gain(const struct qn_wcp *channel, double mean) {
    return channel->vacuum_yield - expm1(-channel->transmittance * mean);
}

double qn_wcp_qber(const struct qn_wcp *channel, double mean) {
    double wrong = channel->vacuum_yield / 2 - channel->misalignment * expm1(-channel->transmittance * mean);
    return wrong / qn_wcp_gain(channel, mean);
}

double qn_wcp_single_yield(const struct qn_wcp *channel) { return channel->vacuum_yield + channel->transmittance; }

double qn_wcp_single_qber(const struct qn_wcp *channel) {
    return (channel->vacuum_yield / 2 + channel->misalignment * channel->transmittance) / qn_wcp_single_yield(channel);
}

void qn_wcp_decoy_bounds(double signal, double signal_gain, double decoy, double decoy_gain, double decoy_qber,
                         double vacuum_yield, double *ret_yield, double *ret_qber) {
    double ratio = decoy * decoy / (signal * signal);
    double lit = decoy_gain * exp(decoy) - signal_gain * exp(signal) * ratio - (1 - ratio) * vacuum_yield;
    double yield = signal / (signal * decoy - decoy * decoy) * lit;
    *ret_yield = yield;
    *ret_qber = (decoy_qber * decoy_gain * exp(decoy) - vacuum_yield / 2) / (yield * decoy);
}

void qn_wcp_two_decoy_bounds(double signal, double signal_gain, double strong, double strong_gain, double strong_qber,
                             double weak, double weak_gain, double weak_qber, double *ret_yield, double *ret_qber) {
    double s = strong_gain * exp(strong), w = weak_gain * exp(weak), span = strong - weak;
    double squares = strong * strong - weak * weak;
    double vacuum = fmax((strong * w - weak * s) / span, 0);
    double lit = s - w - squares / (signal * signal) * (signal_gain * exp(signal) - vacuum);
    *ret_yield = signal / (signal * span - squares) * lit;
    *ret_qber = (strong_qber * s - weak_qber * w) / (span * *ret_yield);
}

void qn_wcp_one_decoy_bounds(double signal, double signal_gain, double decoy, double decoy_gain, double decoy_qber,
                             double *ret_yield, double *ret_qber) {
    double wrong = decoy_qber * decoy_gain * exp(decoy), most = 2 * wrong;
    double unused;
    qn_wcp_decoy_bounds(signal, signal_gain, decoy, decoy_gain, decoy_qber, most, ret_yield, &unused);
    *ret_qber = wrong / (*ret_yield * decoy);
}

double qn_wcp_key_rate(double mean, double gain, double qber, double single_yield, double single_qber,
                       double inefficiency) {
    double single_gain = single_yield * mean * exp(-mean);
    return (single_gain * (1 - entropy_of_bit(single_qber)) - gain * inefficiency * entropy_of_bit(qber)) / 2;
}

double qn_wcp_key_rate_limit(const struct qn_wcp *channel, double mean, double inefficiency) {
    return qn_wcp_key_rate(mean, qn_wcp_gain(channel, mean), qn_wcp_qber(channel, mean), qn_wcp_single_yield(channel),
                           qn_wcp_single_qber(channel), inefficiency);
}

double qn_wcp_best_mean(double misalignment, double inefficiency) {
    double h = entropy_of_bit(misalignment), target = inefficiency * h / (1 - h), low = 0, high = 1;
    for (int i = 0; i < 60; i++) { /* (1 - mean) e^-mean falls from 1 to 0. */
        double middle = (low + high) / 2;
        if ((1 - middle) * exp(-middle) > target)
            low = middle;
        else
            high = middle;
    }
    return low;
}
