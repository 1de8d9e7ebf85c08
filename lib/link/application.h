/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_LINK_APPLICATION_H
#define QN_LINK_APPLICATION_H

/* What applications get out of a noisy pair: closed forms to compare a running network with. Weights: link/bell.h. */
void qn_teleport_by_axis(const double p[4], double ret_zxy[3]); /* Fidelity of states along Z, X, Y. */
double qn_superdense_bit_error(const double p[4]);              /* Mean of the two bits. */
double qn_superdense_information(const double p[4]);            /* Bits a pair. */

/* Secret bits a sifted pair, one-way and asymptotic; negative if there are none. */
double qn_key_fraction(double qber_z, double qber_x); /* BB84, BBM92. */
double qn_key_fraction_six_state(const double p[4]);
double qn_key_fraction_device_independent(double qber, double s); /* s: CHSH, above 2. */

/* GHZ state of n qubits of which `noisy` went through a depolarising channel that keeps them with weight w. */
double qn_ghz_fidelity(unsigned n, unsigned noisy, double w);
/* Of three qubits, made by a CNOT between the halves that a node holds of two pairs. */
double qn_ghz_fused(const double p[4], const double q[4]);

#endif
