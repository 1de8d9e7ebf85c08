/* placeholder until the module lands */
typedef int qn_link_placeholder;
