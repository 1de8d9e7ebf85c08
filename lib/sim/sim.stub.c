/* placeholder until the module lands */
typedef int qn_sim_placeholder;
