# Shared by the scripts that measure between tables of a DynamoDB Local, which they start for themselves.
source "$(dirname "${BASH_SOURCE[0]}")/../scripts/lib.sh"

# start_dynamodb: starts the server in a session of its own, and stops both when the script ends; sets REHOME_DYNAMODB_PORT.
start_dynamodb() {
    mkdir -p "$cache"
    open_session
    REHOME_DYNAMODB_PORT=$(free_port)
    export REHOME_DYNAMODB_PORT
    # In a process group of its own, as what it starts: Ctrl-C reaches only this script, which stops both in order.
    set -m
    "$checkout/compose/native" dynamodb >"$session/server" 2>&1 </dev/null &
    server=$!
    set +m
    trap stop_server EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    until grep -q '^dynamodb ' "$session/server"; do
        kill -0 "$server" 2>/dev/null || die "DynamoDB Local did not start: $(tail -n 1 "$session/server")"
        sleep 0.1
    done
}

stop_server() {
    local status=$?
    trap '' INT TERM HUP
    signal_child TERM
    kill -TERM "$server" 2>/dev/null || true
    wait "$server" || true
    close_session_with "$status"
}

# measure PROGRAM ARGUMENT...: runs a program of this folder beside the server.
measure() {
    export BENCH_REHOME=$CARGO_TARGET_DIR/release/rehome BENCH_SCHEMAS=$checkout/schemas
    trap 'interrupted=130; signal_child INT' INT
    trap 'interrupted=143; signal_child TERM' TERM HUP
    run_in_session python3 "$checkout/benches/$1" "${@:2}"
}
