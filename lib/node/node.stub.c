/* placeholder until the module lands */
typedef int qn_node_placeholder;
