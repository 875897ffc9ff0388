#!/usr/bin/env bash
# Makes a Chromium available to the tests of the web demo: on Debian as root, by installing the package. Anywhere else it
# says what to install.
#
# It exits with 0 if there is one at the end.
set -euo pipefail

if command -v chromium >/dev/null; then
    exit 0
fi

os_release() { (. /etc/os-release 2>/dev/null && eval "echo \${$1:-}"); }

if [ "$(os_release ID)" = debian ] && [ "$(id -u)" = 0 ]; then
    echo "Installing a browser for the tests of the web demo (Debian package chromium)"
    export DEBIAN_FRONTEND=noninteractive
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium >/dev/null; } || true
fi
if ! command -v chromium >/dev/null; then
    echo "The web demo is tested in chromium, and there is none: on Debian, as root, \`apt-get install chromium\`."
    exit 1
fi
