#!/usr/bin/env bash
# Makes a Vulkan device available to ManiSkill, which needs one even where nothing is drawn: on Debian as root, by
# installing Mesa's software device. Anywhere else, and where that does not help, it says what to install.
#
#     scripts/install_vulkan.sh [python that has ManiSkill]
#
# It exits with 0 if there is a device at the end.
set -euo pipefail
python=${1:-python3}
check() { "$python" -m nnit_diffusers.tasks.maniskill.environments; }

if check 2>/dev/null; then
    exit 0
fi

os_release() { (. /etc/os-release 2>/dev/null && eval "echo \${$1:-}"); }

install_mesa() {
    local codename target=()
    codename=$(os_release VERSION_CODENAME)
    export DEBIAN_FRONTEND=noninteractive
    if [ "$codename" = bookworm ]; then
        # Its own Mesa, 22.3, lacks what SAPIEN asks for. The backports come from the mirror that the machine uses.
        if ! grep -rqs bookworm-backports /etc/apt/sources.list /etc/apt/sources.list.d; then
            local mirror
            mirror=$(grep -rhosE 'https?://[^ ]*/debian/?( |$)' /etc/apt/sources.list /etc/apt/sources.list.d | head -1)
            echo "deb ${mirror:-http://deb.debian.org/debian} bookworm-backports main" \
                >/etc/apt/sources.list.d/bookworm-backports.list
        fi
        target=(-t bookworm-backports)
    fi
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends "${target[@]}" mesa-vulkan-drivers libvulkan1 >/dev/null
}

if [ "$(os_release ID)" = debian ] && [ "$(id -u)" = 0 ] && [ ! -e /proc/driver/nvidia/version ]; then
    echo "Installing a software Vulkan device for ManiSkill (Debian packages mesa-vulkan-drivers and libvulkan1)"
    install_mesa || true
fi
check 2>&1 | tail -n 1
exit "${PIPESTATUS[0]}"
