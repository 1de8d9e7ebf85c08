/* placeholder until the module lands */
typedef int qn_qkd_placeholder;
