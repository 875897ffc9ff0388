#!/usr/bin/env bash
# Provides a Vulkan device for ManiSkill, which needs one even without rendering. On Debian as root it installs Mesa's
# software device. Elsewhere, or if that fails, it prints what to install.
#
#     scripts/install_vulkan.sh [python with ManiSkill]
#
# Exits with 0 if a device is available afterwards.
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
        # Mesa 22.3 of bookworm lacks features that SAPIEN needs. Use backports, from the machine's own mirror.
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
    echo "Installing a software Vulkan device for ManiSkill: Debian packages mesa-vulkan-drivers and libvulkan1"
    install_mesa || true
fi
check 2>&1 | tail -n 1
exit "${PIPESTATUS[0]}"
