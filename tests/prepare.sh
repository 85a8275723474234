#!/usr/bin/env bash
# Makes this machine ready for the integration and end-to-end tests. As root on Debian or Ubuntu it installs the Docker
# Engine, nftables, Prometheus, a registry, busybox and kubectl, and starts dockerd if none answers. Elsewhere it only tells
# what is missing: without TILLERMAN_REQUIRE_DOCKER=1 the tests that need Docker are then skipped, with it they fail.
set -euo pipefail

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  packages=()
  command -v dockerd >/dev/null || packages+=(docker.io)
  command -v nft >/dev/null || packages+=(nftables)
  command -v ip >/dev/null || packages+=(iproute2)
  command -v prometheus >/dev/null || packages+=(prometheus)
  command -v docker-registry >/dev/null || packages+=(docker-registry)
  command -v kubectl >/dev/null || packages+=(kubernetes-client)
  [ -x /bin/busybox ] || packages+=(busybox-static)
  if [ "${#packages[@]}" -gt 0 ]; then
    echo "installing ${packages[*]}"
    apt-get update -qq
    # policy-rc.d: the packages' own services need not start.
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
  fi
  if ! docker info >/dev/null 2>&1; then
    log=$(mktemp /tmp/dockerd.XXXXXX.log)
    echo "starting dockerd (log: $log)"
    setsid nohup dockerd >"$log" 2>&1 </dev/null &
    for _ in $(seq 100); do docker info >/dev/null 2>&1 && break; sleep 0.3; done
    docker info >/dev/null 2>&1 || { echo "dockerd does not answer:"; tail -n 20 "$log"; }
  fi
fi

if ! docker info >/dev/null 2>&1; then
  echo "no Docker Engine answers"
  [ "${TILLERMAN_REQUIRE_DOCKER:-}" != 1 ] || exit 1
fi
