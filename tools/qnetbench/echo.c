/* SPDX-License-Identifier: Apache-2.0 */
/* The yardstick: what this machine does with nothing but libuv, two processes and TCP on loopback. */
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uv.h>

#include "bench.h"

enum { MESSAGE = 64, WINDOW = 256, READ_BYTES = 65536 };

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf) {
    static char bytes[READ_BYTES];
    (void)handle, (void)suggested;
    *buf = uv_buf_init(bytes, sizeof bytes);
}

struct write {
    uv_write_t request;
    char bytes[];
};

static void on_written(uv_write_t *request, int status) {
    (void)status;
    free(request->data);
}

static void send_bytes(uv_stream_t *stream, const char *bytes, size_t len) {
    uv_buf_t buf = uv_buf_init((char *)(uintptr_t)bytes, (unsigned)len);
    int n = uv_try_write(stream, &buf, 1);
    size_t sent = n > 0 ? (size_t)n : 0;
    if (sent == len) return;
    struct write *write = malloc(sizeof *write + len - sent);
    if (write == NULL) abort();
    memcpy(write->bytes, bytes + sent, len - sent);
    write->request.data = write;
    buf = uv_buf_init(write->bytes, (unsigned)(len - sent));
    if (uv_write(&write->request, stream, &buf, 1, on_written) < 0) free(write);
}

/* ---- server ---- */

static void on_server_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf) {
    if (n < 0)
        uv_stop(stream->loop);
    else if (n > 0)
        send_bytes(stream, buf->base, (size_t)n);
}

static void on_connection(uv_stream_t *listener, int status) {
    static uv_tcp_t peer;
    if (status < 0) return;
    uv_tcp_init(listener->loop, &peer);
    if (uv_accept(listener, (uv_stream_t *)&peer) < 0) return;
    uv_tcp_nodelay(&peer, 1);
    uv_read_start((uv_stream_t *)&peer, on_alloc, on_server_read);
}

static _Noreturn void serve(int port_fd) {
    uv_loop_t loop;
    uv_tcp_t listener;
    struct sockaddr_in address;
    int len = sizeof address;
    uv_ip4_addr("127.0.0.1", 0, &address);
    if (uv_loop_init(&loop) < 0 || uv_tcp_init(&loop, &listener) < 0 ||
        uv_tcp_bind(&listener, (struct sockaddr *)&address, 0) < 0 ||
        uv_listen((uv_stream_t *)&listener, 1, on_connection) < 0 ||
        uv_tcp_getsockname(&listener, (struct sockaddr *)&address, &len) < 0 ||
        write(port_fd, &address.sin_port, sizeof address.sin_port) != sizeof address.sin_port)
        _exit(1);
    uv_run(&loop, UV_RUN_DEFAULT);
    _exit(0);
}

/* ---- client ---- */

struct client_state {
    uv_tcp_t tcp;
    uv_connect_t connect;
    bool is_pipelined;
    double start_s, end_s, sent_s;
    size_t waiting; /* Bytes of the message still to come back. */
    uint64_t bytes;
    struct samples latencies;
};

static const char zeros[MESSAGE * WINDOW];

static void ping(struct client_state *client) {
    client->waiting = MESSAGE;
    client->sent_s = bench_now_s();
    send_bytes((uv_stream_t *)&client->tcp, zeros, MESSAGE);
}

static void on_client_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf) {
    struct client_state *client = stream->data;
    if (n == 0) return;
    double now_s = bench_now_s();
    if (n < 0 || now_s >= client->end_s) {
        uv_close((uv_handle_t *)stream, NULL);
        return;
    }
    client->bytes += (uint64_t)n;
    if (client->is_pipelined) {
        send_bytes(stream, buf->base, (size_t)n);
        return;
    }
    client->waiting -= (size_t)n;
    if (client->waiting > 0) return;
    samples_add(&client->latencies, now_s - client->sent_s);
    ping(client);
}

static void on_connected(uv_connect_t *connect, int status) {
    struct client_state *client = connect->data;
    if (status < 0) {
        uv_close((uv_handle_t *)&client->tcp, NULL);
        return;
    }
    uv_tcp_nodelay(&client->tcp, 1);
    uv_read_start((uv_stream_t *)&client->tcp, on_alloc, on_client_read);
    client->start_s = bench_now_s();
    if (client->is_pipelined)
        send_bytes((uv_stream_t *)&client->tcp, zeros, sizeof zeros);
    else
        ping(client);
}

static int run_client(struct bench *bench, in_port_t port, struct client_state *client) {
    uv_loop_t loop;
    struct sockaddr_in address;
    uv_ip4_addr("127.0.0.1", ntohs(port), &address);
    if (uv_loop_init(&loop) < 0 || uv_tcp_init(&loop, &client->tcp) < 0) return bench_fail(bench, "libuv");
    client->tcp.data = client->connect.data = client;
    client->end_s = bench_now_s() + bench->seconds;
    if (uv_tcp_connect(&client->connect, &client->tcp, (struct sockaddr *)&address, on_connected) < 0)
        uv_close((uv_handle_t *)&client->tcp, NULL);
    uv_run(&loop, UV_RUN_DEFAULT);
    uv_loop_close(&loop);
    return client->bytes > 0 ? 0 : bench_fail(bench, "the echo server did not answer");
}

static int run_pair(struct bench *bench, struct client_state *client) {
    int fds[2];
    in_port_t port;
    if (pipe(fds) < 0) return bench_fail(bench, "pipe failed");
    pid_t pid = fork();
    if (pid == 0) serve(fds[1]);
    close(fds[1]);
    int rc = pid > 0 && read(fds[0], &port, sizeof port) == sizeof port ? run_client(bench, port, client)
                                                                        : bench_fail(bench, "no echo server");
    close(fds[0]);
    if (pid > 0) waitpid(pid, NULL, 0); /* Its connection is closed: it ends. */
    return rc;
}

int bench_echo(struct bench *bench) {
    struct client_state client = {0};
    int rc = run_pair(bench, &client);
    if (rc == 0) {
        const char *note = "two processes waking each other; 64 bytes";
        bench_row(bench, "echo-p50", samples_quantile(&client.latencies, 0.5) * 1e6, "us", "", note);
        bench_row(bench, "echo-p99", samples_quantile(&client.latencies, 0.99) * 1e6, "us", "", note);
    }
    samples_release(&client.latencies);
    client = (struct client_state){.is_pipelined = true};
    if (rc == 0) rc = run_pair(bench, &client);
    if (rc == 0)
        bench_row(bench, "echo-pipelined", (double)client.bytes / MESSAGE / bench->seconds, "msg/s", "",
                  "system calls and copies; 64 bytes, 256 on the way");
    return rc;
}
