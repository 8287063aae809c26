#!/usr/bin/env bash
# A container engine for the image tests: `start` runs dockerd if no engine answers, `stop` ends the dockerd
# that `start` ran, and no other. It installs and enables nothing.
set -euo pipefail
cd "$(dirname "$0")/.."

pid_file=build/engine.pid
log=build/engine.log

answers() { timeout 10 docker info --format '{{.ServerVersion}}' >/dev/null 2>&1; }

# A pid file survives a reboot, and pids are reused: check the process name as well.
started_here() {
    [ -f "$pid_file" ] && [ "$(cat "/proc/$(cat "$pid_file")/comm" 2>/dev/null)" = dockerd ]
}

start() {
    if answers; then
        echo "engine: already running"
        return
    fi
    for program in docker dockerd; do
        command -v "$program" >/dev/null || { echo "engine: no $program (Debian package docker.io)" >&2; return 1; }
    done
    [ "$(id -u)" = 0 ] || { echo "engine: not running, and only root can start one" >&2; return 1; }
    mkdir -p build
    # A second engine on the same directories would destroy the containers of the first. If one is still
    # starting, wait for it.
    (
        flock 9
        if ! pidof dockerd >/dev/null; then
            # A session of its own, so that Ctrl-C reaches the tests only. No inherited descriptors, so that
            # a reader of this script's output sees its end.
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
    echo "engine: dockerd does not answer; end of its log:" >&2
    tail -n 5 "$log" >&2 || true
    stop
    return 1
}

stop() {
    if started_here; then
        local pid
        pid=$(cat "$pid_file")
        kill "$pid"
        # dockerd stops its containers first, which takes up to 10 s each.
        for _ in $(seq 150); do
            started_here || break
            sleep 0.2
        done
        if started_here; then
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
