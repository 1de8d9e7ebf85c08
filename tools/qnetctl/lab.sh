# shellcheck shell=sh disable=SC2154
# SPDX-License-Identifier: Apache-2.0
# What a lab of network namespaces does. export_netns.c puts before it: here, qnetd, qnetctl, user, prefix, run, nodes,
# wires().

fail() { echo "lab.sh: error: $*" >&2; exit 1; }
is_running() { [ -s "$run/$1.pid" ] && kill -0 "$(cat "$run/$1.pid")" 2>/dev/null; }
ctl() { node=$1; shift; "$qnetctl" --socket "$run/$node/control.sock" "$@"; }

start() {
    is_running "$1" && fail "$1 is running"
    setsid ip netns exec "$prefix-$1" "$qnetd" --topology "$run/topology.yaml" --node "$1" \
        --state "$run/$1" --bind 0.0.0.0 --log-format json ${user:+--user "$user"} \
        </dev/null >>"$run/$1.log" 2>&1 &
    echo $! >"$run/$1.pid"
}

add_node() {
    ip netns add "$prefix-$1"
    ip -n "$prefix-$1" link set dev lo up
    mkdir -p "/etc/netns/$prefix-$1"
    { echo 127.0.0.1 localhost "$1"
      wires | while read -r a b at_a at_b _ _; do
          [ "$a" != "$1" ] || echo "$at_b $b"
          [ "$b" != "$1" ] || echo "$at_a $a"
      done; } >"/etc/netns/$prefix-$1/hosts"
    cp -R "$here/nodes/$1" "$run/$1"
    chmod -R go= "$run/$1"
    chown -R "${user:-$(id -u)}" "$run/$1"
}

add_wires() {
    wires | while read -r a b at_a at_b if_a if_b; do
        ip link add "$if_a" netns "$prefix-$a" type veth peer name "$if_b" netns "$prefix-$b"
        ip -n "$prefix-$a" address add "$at_a/29" dev "$if_a"
        ip -n "$prefix-$b" address add "$at_b/29" dev "$if_b"
        ip -n "$prefix-$a" link set dev "$if_a" up
        ip -n "$prefix-$b" link set dev "$if_b" up
    done
}

up() {
    [ "$(id -u)" -eq 0 ] || fail "namespaces need root; for a lab without it: qnetctl lab up topology.yaml"
    [ ! -e "$run" ] || fail "it is up, or was left behind: $0 down"
    for program in ip "$qnetd" "$qnetctl"; do
        command -v "$program" >/dev/null || fail "$program is not found; set QNETD and QNETCTL, install iproute2"
    done
    trap 'tail -n 5 "$run"/*.log >&2; down; exit 1' EXIT
    mkdir -m 755 "$run"
    cp "$here/topology.yaml" "$run/topology.yaml"
    for node in $nodes; do add_node "$node"; done
    add_wires
    for node in $nodes; do start "$node"; done
    for node in $nodes; do wait_ready "$node"; done
    trap - EXIT
    echo "up; try: $0 ctl ${nodes%% *} status"
}

wait_ready() {
    tries=0
    until ctl "$1" health --quiet 2>/dev/null; do
        is_running "$1" || fail "$1 has ended; see its log"
        tries=$((tries + 1))
        [ $tries -lt 300 ] || fail "$1 is not ready: $(ctl "$1" health 2>&1)"
        sleep 0.1
    done
}

end() {
    is_running "$1" || fail "$1 is not running"
    kill -KILL "$(cat "$run/$1.pid")"
    while is_running "$1"; do sleep 0.01; done
}

down() {
    for node in $nodes; do if is_running "$node"; then kill "$(cat "$run/$node.pid")"; fi; done
    for node in $nodes; do
        tries=0
        while is_running "$node"; do
            tries=$((tries + 1))
            [ $tries -ne 80 ] || kill -KILL "$(cat "$run/$node.pid")"
            sleep 0.1
        done
        ip netns delete "$prefix-$node" 2>/dev/null || true
        rm -rf "/etc/netns/$prefix-$node"
    done
    rmdir /etc/netns 2>/dev/null || true
    rm -rf "$run"
}

status() {
    for node in $nodes; do ctl "$node" health || true; done
    wires | while read -r a b _ _ if_a if_b; do
        echo "$a - $b: $(ip -n "$prefix-$a" -br link show dev "$if_a" | awk '{ print $2 }')"
    done
}

# Both ends of the wire between two nodes: "namespace interface" lines.
ends() {
    found=$(wires | awk -v x="$1" -v y="$2" -v p="$prefix" \
        '($1 == x && $2 == y) || ($1 == y && $2 == x) { print p "-" $1, $5; print p "-" $2, $6 }')
    [ -n "$found" ] || fail "$1 and $2 are no neighbours"
    echo "$found"
}
set_link() { ends "$1" "$2" | while read -r ns interface; do ip -n "$ns" link set dev "$interface" "$3"; done; }
slow() {
    ends "$1" "$2" | while read -r ns interface; do
        if [ "$3" = off ]; then
            tc -n "$ns" qdisc delete dev "$interface" root
        else
            tc -n "$ns" qdisc replace dev "$interface" root tbf rate "$3" burst 8kb latency 400ms
        fi
    done
}
usage() { sed -n '3,11s/^# \{0,1\}//p' "$0"; exit 2; }

command=${1:-}
[ $# -eq 0 ] || shift
case $command in
up) [ $# -eq 0 ] || usage; up ;;
down) [ $# -eq 0 ] || usage; down ;;
status) [ $# -eq 0 ] || usage; status ;;
cut) [ $# -eq 2 ] || usage; ends "$@" >/dev/null; set_link "$1" "$2" down ;;
mend) [ $# -eq 2 ] || usage; ends "$@" >/dev/null; set_link "$1" "$2" up ;;
slow) [ $# -eq 3 ] || usage; ends "$1" "$2" >/dev/null; slow "$@" ;;
kill) [ $# -eq 1 ] || usage; end "$1" ;;
start) [ $# -eq 1 ] || usage; start "$1"; wait_ready "$1" ;;
ctl) [ $# -ge 1 ] || usage; ctl "$@" ;;
exec) [ $# -ge 2 ] || usage; node=$1; shift; exec ip netns exec "$prefix-$node" "$@" ;;
*) usage ;;
esac
