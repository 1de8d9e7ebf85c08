/* placeholder until the module lands */
typedef int qn_plane_placeholder;
