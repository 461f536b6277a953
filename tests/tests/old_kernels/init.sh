#!/bin/busybox sh
# Process 1 of the virtual machine: takes this machine's own files as its root, read-only with a
# layer of memory above them, runs one test there, and switches the machine off. The kernel hands
# on WEFT_TEST, the test's program, from its command line.
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
fail() {
    echo "machine: $1"
    echo o > /proc/sysrq-trigger
    sleep 60
}
# Of crc32c others can't load without, and don't say so to busybox.
for module in crc32c_generic virtio_pci 9pnet_virtio 9p overlay veth bridge nft_chain_nat \
    nft_redir nft_fib_inet nft_ct nft_tproxy; do
    modprobe "$module" || echo "machine: no module $module"
done
mount -t 9p -o trans=virtio,version=9p2000.L,ro,msize=262144,cache=loose host /lower || fail "no 9p"
mount -t tmpfs -o mode=755 layer /layer
mkdir -p /layer/files/usr/lib/modules /layer/work
cp -a /lib/modules/* /layer/files/usr/lib/modules/
mount -t overlay -o lowerdir=/lower,upperdir=/layer/files,workdir=/layer/work root /root || fail "no overlay"
for directory in proc sys dev; do mount --move "/$directory" "/root/$directory"; done
mount -t tmpfs run /root/run
mount -t tmpfs tmp /root/tmp
mount -t cgroup2 cgroup2 /root/sys/fs/cgroup
mount -t bpf bpf /root/sys/fs/bpf
ip link set lo up
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
exec switch_root /root /bin/sh -c '
    "$WEFT_TEST" --ignored --exact guest::in_the_machine --nocapture
    echo "machine: the test ended with $?"
    echo o > /proc/sysrq-trigger
    sleep 60'
