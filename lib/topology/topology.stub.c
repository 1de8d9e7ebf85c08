/* placeholder until the module lands */
typedef int qn_topology_placeholder;
