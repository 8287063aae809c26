#!/usr/bin/env bash
# Lends the image tests a container engine: `start` starts dockerd by hand where none answers,
# `stop` ends the one that `start` started, and no other. Nothing is installed or enabled.
set -euo pipefail
cd "$(dirname "$0")/.."

pid_file=build/engine.pid
log=build/engine.log

answers() { timeout 10 docker info --format '{{.ServerVersion}}' >/dev/null 2>&1; }

# A pid file outlives a machine's restart, and pids are used again: trust it only with the name.
ours() {
    [ -f "$pid_file" ] && [ "$(cat "/proc/$(cat "$pid_file")/comm" 2>/dev/null)" = dockerd ]
}

start() {
    if answers; then
        echo "engine: one answers already"
        return
    fi
    for program in docker dockerd; do
        command -v "$program" >/dev/null || { echo "engine: no $program (Debian package docker.io)" >&2; return 1; }
    done
    [ "$(id -u)" = 0 ] || { echo "engine: none answers, and only root can start one" >&2; return 1; }
    mkdir -p build
    # A second engine on the same directories would destroy the first one's containers. So one that
    # is still starting (or was started by the run next door) is waited for, never joined by another.
    (
        flock 9
        if ! pidof dockerd >/dev/null; then
            # In a session of its own: an interrupt at the keyboard must reach the tests first. Its
            # descriptors are closed, or whoever reads our output would wait for its end.
            setsid dockerd --log-level=warn </dev/null >"$log" 2>&1 9>&- &
            echo $! >"$pid_file"
        fi
    ) 9>/run/wylis-engine.lock
    for _ in $(seq 150); do
        if answers; then
            echo "engine: started"
            return
        fi
        if ! pidof dockerd >/dev/null; then break; fi
        sleep 0.2
    done
    echo "engine: dockerd does not answer; the end of its log:" >&2
    tail -n 5 "$log" >&2 || true
    stop
    return 1
}

stop() {
    if ours; then
        local pid
        pid=$(cat "$pid_file")
        kill "$pid"
        # It stops its containers first; each gets ten seconds.
        for _ in $(seq 150); do
            ours || break
            sleep 0.2
        done
        if ours; then
            echo "engine: dockerd ($pid) does not stop" >&2
            return 1
        fi
        echo "engine: stopped"
    fi
    rm -f "$pid_file"
}

case "${1:-}" in
    start) start ;;
    stop) stop ;;
    *) echo "usage: $0 start|stop" >&2; exit 2 ;;
esac
