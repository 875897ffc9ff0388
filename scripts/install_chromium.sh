#!/usr/bin/env bash
# Provides Chromium for the tests of the web demo. On Debian as root it installs the package; elsewhere it prints what
# to install.
#
# Exits with 0 if Chromium is available afterwards.
set -euo pipefail

if command -v chromium >/dev/null; then
    exit 0
fi

os_release() { (. /etc/os-release 2>/dev/null && eval "echo \${$1:-}"); }

if [ "$(os_release ID)" = debian ] && [ "$(id -u)" = 0 ]; then
    echo "Installing Debian package chromium for the tests of the web demo"
    export DEBIAN_FRONTEND=noninteractive
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium >/dev/null; } || true
fi
if ! command -v chromium >/dev/null; then
    echo "The tests of the web demo need chromium, which is missing. On Debian as root: \`apt-get install chromium\`."
    exit 1
fi
