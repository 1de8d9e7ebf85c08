/* placeholder until the module lands */
typedef int qn_wire_placeholder;
