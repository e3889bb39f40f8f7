#!/bin/busybox sh
# The guest's first process: what the lab expects of a machine, then the tests, one word of how they ended, and off.
/bin/busybox --install -s /bin 2>/dev/null
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root RUST_BACKTRACE=0 ENFORCER_EMULATED=1
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp
mount -t tmpfs run /run
mount -t bpf bpf /sys/fs/bpf
mkdir -p /dev/shm /run/netns /sbin /var/lib/enforcer
# By this name the kernel asks for modules.
ln -sf /bin/busybox /sbin/modprobe
modprobe tun
ip link set lo up
echo "guest begins $(uname -r) $(cut -d' ' -f1 /proc/uptime)"
. /tests/run
echo "guest ends $failed $(cut -d' ' -f1 /proc/uptime)"
poweroff -f
