/* SPDX-License-Identifier: Apache-2.0 */
/* Identity keys as filters, the same as qnetd's: a private key is 32 bytes in base64 (or hexadecimal) on a line. */
#include <sodium.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "command.h"
#include "secret_pairs.h"

#define BASE64 sodium_base64_VARIANT_ORIGINAL
#define KEY_TEXT sodium_base64_ENCODED_LEN(32, BASE64)

int run_genkey(struct ctl *ctl, const struct args *args) {
    uint8_t private_key[32], public_key[32];
    char text[KEY_TEXT], public_text[KEY_TEXT];
    struct stat out;
    (void)args;
    if (fstat(STDOUT_FILENO, &out) == 0 && S_ISREG(out.st_mode) && (out.st_mode & 077) != 0)
        ctl_warn(ctl, "others can read this file; use (umask 077; qnetctl genkey > FILE)");
    crypto_box_keypair(public_key, private_key);
    private_key[0] &= 248; /* Clamped, as Curve25519 does itself: two files that differ are two keys. */
    private_key[31] = (uint8_t)((private_key[31] & 127) | 64);
    sodium_bin2base64(text, sizeof text, private_key, sizeof private_key, BASE64);
    sodium_bin2base64(public_text, sizeof public_text, public_key, sizeof public_key, BASE64);
    int status = STATUS_OK;
    if (ctl->json)
        status = ctl_json(ctl, json_pack("{s:s,s:s}", "private_key", text, "public_key", public_text));
    else
        puts(text);
    fflush(stdout);
    sodium_memzero(private_key, sizeof private_key);
    sodium_memzero(text, sizeof text);
    return status;
}

int run_gensecret(struct ctl *ctl, const struct args *args) {
    uint8_t secret[SECRET_BYTES_MAX];
    char text[sodium_base64_ENCODED_LEN(sizeof secret, BASE64)];
    int status = STATUS_OK;
    (void)args;
    if (!ctl->json && isatty(STDOUT_FILENO))
        return ctl_usage(ctl, "the secret is not for a terminal: (umask 077; qnetctl gensecret > FILE)");
    randombytes_buf(secret, sizeof secret);
    if (ctl->json) {
        sodium_bin2base64(text, sizeof text, secret, sizeof secret, BASE64);
        status = ctl_json(ctl, json_pack("{s:s}", "secret", text));
        sodium_memzero(text, sizeof text);
    } else if (fwrite(secret, 1, sizeof secret, stdout) != sizeof secret || fflush(stdout) != 0) {
        status = ctl_fail(ctl, STATUS_RUNTIME, "system", QN_ESYSTEM, "it cannot be written; make room");
    }
    sodium_memzero(secret, sizeof secret);
    return status;
}

static bool parse_key(const char *text, size_t len, uint8_t ret_key[32]) {
    size_t n = 0;
    while (len > 0 && strchr(" \t\r\n", text[0]) != NULL) text++, len--;
    while (len > 0 && strchr(" \t\r\n", text[len - 1]) != NULL) len--;
    int rc = -1;
    if (len == 64) rc = sodium_hex2bin(ret_key, 32, text, len, NULL, &n, NULL);
    if (len == KEY_TEXT - 1) rc = sodium_base642bin(ret_key, 32, text, len, NULL, &n, NULL, BASE64);
    return rc == 0 && n == 32;
}

int run_pubkey(struct ctl *ctl, const struct args *args) {
    uint8_t private_key[32], public_key[32];
    char input[256], text[KEY_TEXT];
    (void)args;
    size_t n = fread(input, 1, sizeof input, stdin);
    bool ok = parse_key(input, n, private_key);
    sodium_memzero(input, sizeof input);
    if (!ok) return ctl_usage(ctl, "standard input is not a private key; make one: qnetctl genkey");
    crypto_scalarmult_base(public_key, private_key);
    sodium_memzero(private_key, sizeof private_key);
    sodium_bin2base64(text, sizeof text, public_key, sizeof public_key, BASE64);
    if (ctl->json) return ctl_json(ctl, json_pack("{s:s}", "public_key", text));
    puts(text);
    return STATUS_OK;
}
