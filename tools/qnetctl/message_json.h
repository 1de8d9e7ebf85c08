/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QNETCTL_MESSAGE_JSON_H
#define QNETCTL_MESSAGE_JSON_H

#include <jansson.h>
#include <protobuf-c/protobuf-c.h>

/* Any message as a JSON object. Fields keep the names they have in proto/, and are there even when zero. Numbers are
 * numbers, but identifiers (fixed64) are strings such as "0x1f00000003", since JSON readers round large numbers, and
 * bytes are strings of hexadecimal digits. A number JSON cannot hold (NaN) is null. NULL when out of memory. */
json_t *message_to_json(const ProtobufCMessage *message);

json_t *bytes_to_json(const uint8_t *bytes, size_t len);

#endif
