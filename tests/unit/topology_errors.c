/* SPDX-License-Identifier: Apache-2.0 */
/* What is wrong with a network file, said at the place. */
#include "topology_support.h"

/* ---- Bad files: one error each, at the place marked ^ (which is taken out before reading) ---- */

static const struct {
    const char *text, *message;
} bad[] = {
    /* YAML itself */
    {"^", "the file is empty"},
    {"^# only a comment\n", "the file is empty"},
    {"^hello", "the file is a text; valid: a mapping"},
    {"^[1, 2]", "the file is a list; valid: a mapping"},
    {HEAD "  a: {role: memory\n^",
     "not valid YAML: did not find expected ',' or '}' while parsing a flow mapping that starts at line 4"},
    {HEAD "  a: {role: memory}\n ^b: {role: memory}\n", "not valid YAML"},
    {HEAD "  a: {role: \"mem^\xFFory\"}\n", "valid: UTF-8 text"},
    {HEAD "^\ta: {role: memory}\n", "not valid YAML: found character that cannot start any token"},
    {HEAD "  a: ^&m {role: memory}\n", "anchor \"m\": anchors and aliases are not supported"},
    {HEAD "  a: {role: memory}\n  b: ^*a\n", "alias \"a\": anchors and aliases are not supported"},
    {HEAD "  a: {role: ^!!str memory}\n", "tag \"tag:yaml.org,2002:str\": tags are not supported"},
    {HEAD "  a: {role: memory}\n^---\nversion: 1\n", "second document: a file describes one network"},
    {HEAD "  a: [[[[[[^[1]]]]]]]\n", "nested too deeply: at most 8 levels"},
    {HEAD "  a: {role: ^\"mem\\nory\"}\n", "text with a line break or control character"},
    {HEAD "  a: {role: ^\"mem\\0ory\"}\n", "text with a line break or control character"},

    /* The top */
    {"^network: t\nnodes: {a: {role: memory}}\n", "the file has no key \"version\""},
    {"^version: 1\nnodes: {a: {role: memory}}\n", "the file has no key \"network\"; valid: Name of the network."},
    {"^version: 1\nnetwork: t\n", "the file has no key \"nodes\""},
    {"version: ^2\nwhatever: 3\n", "version \"2\" is not known; valid: 1"},
    {"version: ^1.0\nnodes: 7\n", "version \"1.0\" is not known; valid: 1"},
    {"version: 1\nnetwork: ^My_Net\nnodes: {a: {role: memory}}\n",
     "network name \"My_Net\" is not valid; valid: a-z, 0-9"},
    {"version: 1\nnetwork: t\n^nodes:\nlinks:\n", "no nodes; valid: at least one"},
    {"^nods: {}\n" PAIR, "unknown key \"nods\" in the file: did you mean \"nodes\"? valid: version, network, seed"},
    {PAIR "seed: 1\n^seed: 2\n", "duplicate key \"seed\" in the file: first given at line 6"},
    {PAIR "seed: ^-1\n", "seed \"-1\" is not a whole number from 0 to 18446744073709551615"},
    {PAIR "seed: ^18446744073709551616\n", "is not a whole number"},
    {PAIR "seed: ^007\n", "is not a whole number"},
    {PAIR "seed: ^[1]\n", "seed is a list; valid: one value"},
    {PAIR "time_scale: ^0\n", "time_scale \"0\" is out of range; valid: 1e-6 to 1000000"},
    {PAIR "time_scale: ^1s\n", "time_scale \"1s\" has an unknown unit; valid: a number without unit"},
    {PAIR "time_scale: ^.inf\n", "time_scale \".inf\" is not a number"},
    {PAIR "links: ^[a, b]\n", "links is a list; valid: a mapping"},
    {PAIR "defaults: {^nodes: {}}\n", "unknown key \"nodes\" in defaults: did you mean \"node\"? valid: node, link"},
    {PAIR "defaults: {node: {^key: x}}\n", "key \"key\" has no place in defaults of node: give it to each node"},
    {PAIR "defaults: {node: {t1: ^5}}\n", "t1 \"5\" has no unit; valid: a time in s, ms, us or ns"},
    {PAIR "defaults: {link: {^lenght: 5km}}\n", "unknown key \"lenght\" in defaults of link: did you mean \"length\"?"},

    /* Nodes */
    {HEAD "  ^alice:\n", "node \"alice\" has no key \"role\"; valid: source, repeater, detector, memory"},
    {HEAD "  alice: ^memory\n", "node \"alice\" is a text; valid: a mapping"},
    {HEAD "  bob: {role: ^detecter}\n",
     "unknown role \"detecter\": did you mean \"detector\"? valid: source, repeater, detector, memory"},
    {HEAD "  bob: {role: ^}\n", "key \"role\" has no value"},
    {HEAD "  ^Bob: {role: memory}\n",
     "node name \"Bob\" is not valid; valid: a-z, 0-9 and - (not at either end), at most 63"},
    {HEAD "  ^bob-: {role: memory}\n", "node name \"bob-\" is not valid"},
    {HEAD "  ^x123456789012345678901234567890123456789012345678901234567890123: {role: memory}\n", "is not valid"},
    {HEAD "  bob: {role: memory}\n  ^bob: {role: memory}\n", "duplicate node \"bob\": first given at line 4"},
    {HEAD "  bob: {role: memory, ^role: memory}\n", "duplicate key \"role\" in node \"bob\": first given at line 4"},
    {HEAD "  bob: {role: memory, ^memorys: 4}\n",
     "unknown key \"memorys\" in node \"bob\": did you mean \"memories\"?"},
    {HEAD "  bob: {role: memory, ^zzzzzz: 4}\n", "unknown key \"zzzzzz\" in node \"bob\"; valid: role, profile"},
    {HEAD "  bob: {role: memory, ^[a]: 4}\n", "a key of node \"bob\" is a collection"},
    {HEAD "  bob: {role: memory, profile: ^vn}\n", "unknown profile \"vn\": did you mean \"nv\"? valid: ideal, nv"},
    {HEAD "  bob: {role: memory, memories: ^4.5}\n", "memories \"4.5\" is not a whole number from 0 to 65536"},
    {HEAD "  bob: {role: memory, memories: ^65537}\n", "memories \"65537\" is not a whole number from 0 to 65536"},
    {HEAD "  bob: {role: memory, t1: ^-1s}\n", "t1 \"-1s\" is negative"},
    {HEAD "  bob: {role: memory, t1: ^-0s}\n", "t1 \"-0s\" is a negative zero"},
    {HEAD "  bob: {role: memory, t1: ^1e30s}\n", "t1 \"1e30s\" is too large"},
    {HEAD "  bob: {role: memory, t1: ^1e-40s}\n", "t1 \"1e-40s\" is too small to tell from 0"},
    {HEAD "  bob: {role: memory, t1: ^1e99999s}\n", "is not a number"},
    {HEAD "  bob: {role: memory, t1: ^2e9s}\n", "t1 \"2e9s\" is out of range; valid: 0s to 1000000000s"},
    {HEAD "  bob: {role: memory, t1: ^NaN}\n", "t1 \"NaN\" is not a number"},
    {HEAD "  bob: {role: memory, t1: ^1 S econd}\n",
     "unknown unit \"S econd\" in t1 \"1 S econd\"; valid: s, ms, us, ns"},
    {HEAD "  bob: {role: memory, t1: ^20mS2}\n",
     "unknown unit \"mS2\" in t1 \"20mS2\": did you mean \"ms\"? valid: s, ms, us, ns"},
    {HEAD "  bob: {role: memory, t1: 1s, t2: ^2.1s}\n",
     "has t2 2.1s with t1 1s, which no memory can; valid: t2 up to 2 t1, 2s"},
    {HEAD "  bob: {role: memory, t1: 1s, t2: ^0}\n", "has t2 0 (no decay) with t1 1s"},
    {HEAD "  bob: {role: memory, t1: ^1s}\ndefaults: {node: {t2: 3s}}\n", "has t2 3s with t1 1s"},
    {HEAD "  bob: {role: memory, gate_error: ^1.5}\n",
     "gate_error \"1.5\" is too large; valid: a fraction from 0 to 1, such as 0.01 or 1%"},
    {HEAD "  bob: {role: memory, readout_error: ^101%}\n", "readout_error \"101%\" is too large"},
    {HEAD "  bob: {role: memory, cutoff: ^1.5ns}\n",
     "cutoff \"1.5ns\" is finer than the clock; valid: whole nanoseconds"},
    {HEAD "  bob: {role: memory, bsm: ^linear}\n",
     "unknown bsm \"linear\": did you mean \"linear-optics\"? valid: deterministic, linear-optics"},
    {HEAD "  bob: {role: detector, efficiency: ^0}\n", "efficiency \"0\" is out of range; valid: 1e-6 to 1"},
    {HEAD "  bob: {role: detector, dark_rate: ^10}\n",
     "dark_rate \"10\" has no unit; valid: a frequency in Hz, kHz, MHz or GHz"},
    {HEAD "  bob: {role: source, clock: ^0}\n", "clock \"0\" is out of range; valid: 0.001Hz to 1000GHz"},
    {HEAD "  bob: {role: source, clock: ^5Mhzz}\n", "did you mean \"MHz\"? valid: GHz, MHz, kHz, Hz"},
    {HEAD "  bob: {role: source, source: ^pair}\n", "unknown source \"pair\": did you mean \"pairs\"?"},
    {HEAD "  bob: {role: source, ^x: 1}\n", "node \"bob\" has x without y"},
    {HEAD "  bob: {role: source, classical: ^localhost}\n",
     "classical address \"localhost\" is not valid; valid: \"host:port\""},
    {HEAD "  bob: {role: source, classical: ^localhost:0}\n", "is not valid"},
    {HEAD "  bob: {role: source, classical: ^localhost:65536}\n", "is not valid"},
    {HEAD "  bob: {role: source, classical: ^256.0.0.1:80}\n", "is not valid"},
    {HEAD "  bob: {role: source, classical: ^\"[::g]:80\"}\n", "is not valid"},
    {HEAD "  bob: {role: source, classical: ^\"::1:80\"}\n", "is not valid"},
    {HEAD "  bob: {role: source, classical: \"H:1\", quantum: ^\"h:1\"}\n",
     "quantum of node \"bob\" is already taken by classical of node \"bob\" at line 4; valid: another port or host"},
    {HEAD "  a: {role: memory, operations: \"h:1\"}\n  b: {role: memory, quantum: ^\"h:1\"}\n",
     "quantum of node \"b\" is already taken by operations of node \"a\" at line 4"},
    {HEAD "  bob: {role: source, key: ^abcd}\n",
     "key is not 32 bytes; valid: 44 characters of base64 or 64 hexadecimal"},
    {HEAD "  bob: {role: source, key: ^AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=}\n", "key is all zeros"},
    {HEAD "  a: {role: source, key: ABEiM0RVZneImaq7zN3u/wARIjNEVWZ3iJmqu8zd7v8=}\n"
          "  b: {role: source, key: ^00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff}\n",
     "key of node \"b\" is already taken by key of node \"a\" at line 4; valid: a key of its own for each node"},

    /* Links */
    {PAIR "links:\n  ^ab: {length: 1km}\n", "link \"ab\" has no key \"between\""},
    {PAIR "links:\n  ab: {between: ^[a]}\n", "link \"ab\" needs two ends; valid: between: [node, node]"},
    {PAIR "links:\n  ab: {between: ^a}\n", "link \"ab\" needs two ends"},
    {PAIR "links:\n  ab: {between: [a, ^[b]]}\n", "an end of link \"ab\" is a collection"},
    {PAIR "links:\n  ab: {between: [a, ^c]}\n", "unknown node \"c\"; valid: a, b"},
    {PAIR "links:\n  ab: {between: [a, ^a]}\n", "link \"ab\" ends where it starts, at \"a\""},
    {PAIR "links:\n  ab: {between: [a, b]}\n  ^ab: {between: [a, b]}\n",
     "duplicate link \"ab\": first given at line 7"},
    {PAIR "links:\n  ^a_b: {between: [a, b]}\n", "link name \"a_b\" is not valid"},
    {PAIR "links:\n  ab: {between: [a, b], length: ^20}\n",
     "length \"20\" has no unit; valid: a length in km or m, such as 20km"},
    {PAIR "links:\n  ab: {between: [a, b], length: ^20kn}\n",
     "unknown unit \"kn\" in length \"20kn\": did you mean \"km\"? valid: km, m"},
    {PAIR "links:\n  ab: {between: [a, b], length: ^}\n", "key \"length\" has no value"},
    {PAIR "links:\n  ab: {between: [a, b], loss: ^0.2dB}\n",
     "unknown unit \"dB\" in loss \"0.2dB\": did you mean \"dB/km\"?"},
    {PAIR "links:\n  ab: {between: [a, b], light_speed: ^300000km/s}\n",
     "is out of range; valid: 1km/s to 299792.458km/s"},
    {PAIR "links:\n  ab: {between: [a, b], model: ^doubleclick}\n",
     "unknown model \"doubleclick\": did you mean \"double-click\"?"},
    {PAIR "links:\n  ab: {between: [a, b], probability: ^0}\n", "probability \"0\" is out of range"},
    {PAIR "links:\n  ab: {between: [a, b], kind: ^bb48}\n", "unknown kind \"bb48\": did you mean \"bb84\"?"},
    {LAB "  x: {between: ^[a, s]}\n", "link \"x\" joins a memory and a source, from which its kind does not follow"},
    {LAB "  x: {between: [a, ^d], kind: entanglement}\n",
     "node \"d\" (detector) has no memories, and link \"x\" needs them"},
    {LAB "  x: {between: ^[a, d], kind: bb84}\n",
     "link \"x\" is bb84, and neither \"a\" nor \"d\" sends single pulses"},
    {LAB "  x: {between: [s, ^p], kind: bb84}\n", "node \"p\" (source) has no detectors, and link \"x\" needs them"},
    {LAB "  x: {between: ^[p, d]}\n", "link \"x\" is bb84, and neither \"p\" nor \"d\" sends single pulses"},
    {LAB "  x: {between: [a, b], via: ^a}\n", "link \"x\" goes via its own end \"a\"; valid: a third node"},
    {LAB "  x: {between: [a, b], via: ^e}\n", "unknown node \"e\""},
    {LAB "  x: {between: [a, b], via: ^s}\n", "node \"s\" (source without pairs) cannot be the station of link \"x\""},
    {LAB "  x: {between: [s, d], via: ^p}\n", "link \"x\" is bb84 and has no station"},
    {HEAD "  a: {role: memory}\n  b: {role: memory}\n  c: {role: repeater}\nlinks:\n  ab: {between: [a, b], via: ^c}\n "
          " bc: {between: [b, c]}\n",
     "node \"c\" (repeater) cannot be the station of link \"ab\"; valid: a detector, or a source with source: pairs"},
    {HEAD
     "  a: {role: memory}\n  s: {role: source, memories: 2}\nlinks:\n  as: {between: [a, ^s], model: double-click}\n",
     "node \"s\" has no detectors for the photons of link \"as\""},
};

Test(topology, blames_the_exact_place) {
    size_t n = 0;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        char text[4096], place[64];
        const char *mark = strchr(bad[i].text, '^');
        cr_assert_not_null(mark, "%s", bad[i].text);
        size_t before = (size_t)(mark - bad[i].text);
        snprintf(text, sizeof(text), "%.*s%s", (int)before, bad[i].text, mark + 1);
        unsigned line = 1, column = 1;
        for (size_t c = 0; c < before; c++) {
            column = text[c] == '\n' ? 1 : column + 1;
            line += text[c] == '\n';
        }
        struct qn_topology untouched = {.n_nodes = 77};
        struct qn_buf diagnostics = {0};
        int rc = qn_topology_parse("net.yaml", text, strlen(text), &untouched, &diagnostics);
        const char *said = text_of(&diagnostics);
        cr_expect_eq(rc, -QN_EPARSE, "%s", text);
        cr_assert_eq(untouched.n_nodes, 77u);
        snprintf(place, sizeof(place), "net.yaml:%u:%u: error: ", line, column);
        cr_expect(strncmp(said, place, strlen(place)) == 0, "expected at %u:%u\n%s%s", line, column, said, text);
        cr_expect(strstr(said, bad[i].message) != NULL, "expected: %s\n%s%s", bad[i].message, said, text);
        cr_expect(strchr(said, '\n') == said + strlen(said) - 1, "one error expected\n%s%s", said, text);
        qn_buf_release(&diagnostics);
        n++;
    }
    cr_assert_geq(n, 50u);
}

Test(topology, reports_all_errors_in_one_run_in_order) {
    const char *text = "version: 1\nnetwork: t\nseed: x\nlinks:\n  l: {between: [a, z], length: 5}\n  m: {between: [a, "
                       "b], length: 1km}\n"
                       "nodes:\n  a: {role: memry, t1: 1, t2: x}\n  b: {role: detector, colour: red}\n";
    struct qn_topology t;
    struct qn_buf diagnostics = {0};
    cr_assert_eq(qn_topology_parse("f", text, strlen(text), &t, &diagnostics), -QN_EPARSE);
    const char *said = text_of(&diagnostics), *at = said;
    const char *const expected[] = {"f:3:7: error: seed",        "f:5:20: error: unknown node \"z\"",
                                    "f:5:32: error: length",     "f:8:13: error: unknown role \"memry\"",
                                    "f:8:24: error: t1",         "f:8:31: error: t2",
                                    "f:9:23: error: unknown key"};
    for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++) {
        cr_assert_eq(strncmp(at, expected[i], strlen(expected[i])), 0, "%s\n%s", expected[i], said);
        at = strchr(at, '\n') + 1;
    }
    cr_assert_eq(*at, '\0', "%s", said);
    qn_buf_release(&diagnostics);
}

static size_t count_lines(struct qn_buf *buf) {
    size_t n = 0;
    for (const char *at = text_of(buf); (at = strchr(at, '\n')) != NULL; at++) n++;
    return n;
}

Test(topology, stops_at_its_limits) {
    struct qn_buf text = {0}, diagnostics = {0};
    struct qn_topology t;
    /* 150 errors: 100 lines and a count. */
    cr_assert_eq(qn_buf_printf(&text, HEAD), 0);
    for (int i = 0; i < 150; i++) cr_assert_eq(qn_buf_printf(&text, "  n%d: {role: x}\n", i), 0);
    cr_assert_eq(qn_topology_parse("f", (const char *)text.data, text.len, &t, &diagnostics), -QN_EPARSE);
    cr_assert_eq(count_lines(&diagnostics), 101u);
    cr_assert_not_null(strstr(text_of(&diagnostics), "f: 50 more errors are not shown\n"));
    /* The largest number of nodes and links, and one more. */
    for (size_t extra = 0; extra < 3; extra++) {
        text.len = diagnostics.len = 0;
        cr_assert_eq(qn_buf_printf(&text, HEAD), 0);
        for (size_t i = 0; i < QN_MAX_NODES + (extra == 1); i++)
            cr_assert_eq(qn_buf_printf(&text, "  n%zu: {role: memory}\n", i), 0);
        cr_assert_eq(qn_buf_printf(&text, "links:\n"), 0);
        for (size_t i = 0; i < QN_MAX_LINKS + (extra == 2); i++)
            cr_assert_eq(
                qn_buf_printf(&text, "  l%zu: {between: [n%zu, n%zu]}\n", i, i % QN_MAX_NODES, (i + 1) % QN_MAX_NODES),
                0);
        int rc = qn_topology_parse("f", (const char *)text.data, text.len, &t, &diagnostics);
        cr_assert_eq(rc, extra == 0 ? 0 : -QN_EPARSE, "%.300s", text_of(&diagnostics));
        if (extra == 0) {
            cr_assert_eq(t.n_links, (size_t)QN_MAX_LINKS);
            expect_round_trip(&t);
            qn_topology_release(&t);
        } else {
            cr_assert_not_null(strstr(text_of(&diagnostics), extra == 1 ? "f:4:3: error: 4097 nodes: at most 4096"
                                                                        : "error: 16385 links: at most 16384"));
        }
    }
    /* Too many bytes. */
    text.len = diagnostics.len = 0;
    cr_assert_eq(qn_buf_printf(&text, PAIR "#%*s", (int)QN_TOPOLOGY_BYTES_MAX, ""), 0);
    cr_assert_eq(qn_topology_parse("f", (const char *)text.data, text.len, &t, &diagnostics), -QN_EPARSE);
    cr_assert_not_null(strstr(text_of(&diagnostics), "bytes: at most 16777216"));
    qn_buf_release(&text);
    qn_buf_release(&diagnostics);
}

/* ---- Protocols of BB84 links ---- */

/* Exactly these lines. */
static void expect_bad(const char *text, const char *lines) {
    struct qn_topology t;
    struct qn_buf diagnostics = {0};
    cr_assert_eq(qn_topology_parse("f", text, strlen(text), &t, &diagnostics), -QN_EPARSE);
    cr_assert_str_eq(text_of(&diagnostics), lines);
    qn_buf_release(&diagnostics);
}

#define PULSES HEAD "  s: {role: source}\n  d: {role: detector}\nlinks:\n"

Test(bb84, protocol_follows_from_the_intensities) {
    static const struct {
        const char *link;
        enum qn_protocol protocol;
        uint32_t n;
    } rows[] = {
        {"", QN_PROTOCOL_PLAIN, 0},
        {", intensities: 0.3", QN_PROTOCOL_PLAIN, 1},
        {", intensities: [0.5, 0.1], probabilities: [80%, 0.2]", QN_PROTOCOL_ONE_DECOY, 2},
        {", intensities: [0.5, 0.1, 0], probabilities: [0.7, 0.2, 0.1]", QN_PROTOCOL_TWO_DECOY, 3},
        {", protocol: two-decoy", QN_PROTOCOL_TWO_DECOY, 0},
        {", preset: lim2014", QN_PROTOCOL_TWO_DECOY, 3},
        {", preset: lim2014, protocol: one-decoy", QN_PROTOCOL_ONE_DECOY, 0}, /* Its intensities are of two decoys. */
        {", preset: lim2014, intensities: [0.5, 0.1], probabilities: [0.8, 0.2]", QN_PROTOCOL_ONE_DECOY, 2},
        {", aperture: 0.3m, beam_waist: 1m, divergence: 0.1mrad", QN_PROTOCOL_PLAIN, 0},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char text[512];
        snprintf(text, sizeof(text), PULSES "  l: {between: [s, d]%s}\n", rows[i].link);
        struct qn_topology t = parse_good(text);
        cr_assert_eq(t.links[0].protocol, rows[i].protocol, "%s", rows[i].link);
        cr_assert_eq(t.links[0].intensities.n, rows[i].n, "%s", rows[i].link);
        cr_assert_eq(t.links[0].probabilities.n, rows[i].n, "%s", rows[i].link);
        expect_round_trip(&t);
        qn_topology_release(&t);
    }
}

Test(bb84, says_what_is_wrong_with_its_decoys) {
    expect_bad(
        PULSES "  a: {between: [s, d], intensities: [0.1, 0.5], probabilities: [0.5, 0.5]}\n"
               "  b: {between: [s, d], protocol: two-decoy, intensities: [0.5, 0.1], probabilities: [0.5, 0.5]}\n"
               "  c: {between: [s, d], intensities: [0.5, 0.1]}\n"
               "  e: {between: [s, d], intensities: [0.5, 0.1], probabilities: [0.5, 0.4]}\n"
               "  f: {between: [s, d], intensities: [0.5, 0], probabilities: [0.5, 0.5]}\n"
               "  g: {between: [s, d], intensities: [0.5, 0.3, 0.2], probabilities: [0.5, 0.3, 0.2]}\n"
               "  h: {between: [s, d], intensities: [], probabilities: {a: b}}\n"
               "  i: {between: [s, d], intensities: [0.5, [0.1]], probabilities: [0.5, 2]}\n"
               "  j: {between: [s, d], aperture: 1m}\n"
               "  k: {between: [s, d], divergence: 1urad}\n"
               "  l: {between: [s, d], preset: lim}\n"
               "  m: {between: [s, d], intensities: [9, 8, 7, 6, 5, 4, 3, 2, 1]}\n",
        "f:7:37: error: intensity 0.5 of link \"a\" does not lie below 0.1; valid: strongest first\n"
        "f:8:58: error: link \"b\" has 2 intensities with protocol two-decoy; valid: 3, strongest first\n"
        "f:9:37: error: link \"c\" has 2 intensities and 0 probabilities; valid: as many\n"
        "f:10:64: error: the probabilities of link \"e\" sum to 0.9; valid: 1\n"
        "f:11:37: error: link \"f\" sends vacuum with protocol one-decoy; valid: above 0, or three intensities\n"
        "f:12:37: error: the strongest intensity of link \"g\" is not above the sum of the others; valid: above "
        "0.5\n"
        "f:13:37: error: intensities is empty; valid: a list, intensities: [value, value]\n"
        "f:13:56: error: probabilities is a mapping; valid: a list, probabilities: [value, value]\n"
        "f:14:43: error: a value of intensities is a collection; valid: a number\n"
        "f:14:72: error: probabilities \"2\" is too large; valid: a fraction from 0 to 1, such as 0.01 or 1%\n"
        "f:15:34: error: link \"j\" is in free space with a beam of no width; valid: beam_waist or divergence "
        "above 0\n"
        "f:16:36: error: link \"k\" has a beam but no telescope to catch it; valid: aperture above 0\n"
        "f:17:32: error: unknown preset \"lim\": did you mean \"lim2014\"? valid: none, gys, lim2014, rusca2018, "
        "yuan2018, li2023, boaron2018\n"
        "f:18:62: error: intensities has more than 8 values\n");
}

Test(bb84, a_preset_reaches_the_ends_but_not_what_they_give) {
    struct qn_topology t = parse_good(HEAD "  s: {role: source, clock: 10MHz}\n  d: {role: detector, dark_rate: 5Hz}\n"
                                           "links:\n  l: {between: [d, s], preset: rusca2018}\n");
    cr_assert_eq(t.nodes[0].clock_hz, 10e6);
    cr_assert_eq(t.nodes[1].dark_rate_hz, 5);
    cr_assert_eq(t.nodes[1].detector_efficiency, 0.5);
    cr_assert_eq(t.nodes[1].dead_s, 100e-9);
    cr_assert_eq(t.nodes[1].dead_scope, QN_DEAD_TIME_RECEIVER);
    cr_assert_eq(t.links[0].a, 0u);
    expect_round_trip(&t);
    qn_topology_release(&t);
    t = parse_good(HEAD "  s: {role: source}\n  d: {role: detector}\n  m: {role: memory}\ndefaults: {node: {clock: "
                        "1MHz}, link: {preset: li2023}}\nlinks:\n  l: {between: [d, s]}\n  w: {between: [s, m], kind: "
                        "classical}\n");
    cr_assert_eq(t.nodes[0].clock_hz, 1e6);
    cr_assert_eq(t.links[0].intensities.value[0], 0.707);
    cr_assert_eq(t.links[1].intensities.n, 0u);
    qn_topology_release(&t);
}

Test(bb84, a_node_has_the_hardware_of_one_preset) {
    expect_bad(HEAD "  s: {role: source, source: single-photon}\n  t: {role: source}\n  d: {role: detector}\nlinks:\n"
                    "  l: {between: [t, d], preset: gys}\n  m: {between: [s, d], preset: li2023}\n",
               "f:9:32: error: node \"d\" would have the hardware of li2023 by link \"m\", but has that of gys by link "
               "\"l\"; valid: one preset a node\n"
               "f:9:32: error: link \"m\" has intensities or decoys, and \"s\" is no laser (source: single-photon); "
               "valid: source: weak-coherent\n");
}
