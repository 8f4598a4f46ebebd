#!/bin/sh
# Ends every process and removes every mount, network part and rule that a cluster with the driver none leaves on its
# host. Files stay, so does containerd's store of images. Does nothing where there is nothing left.
# With the argument `kubelet` it ends the kubelet alone, and containers go on.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

# Prints the ids of the processes whose command line has this in it, but not of this script's own.
processes() {
  for directory in /proc/[0-9]*; do
    pid=${directory#/proc/}
    [ "$pid" != $$ ] || continue
    if tr '\0' ' ' < "$directory/cmdline" 2>/dev/null | grep -q -- "$1"; then echo "$pid"; fi
  done
}
end() {
  for pid in $(processes "$1"); do kill -9 "$pid" 2>/dev/null; done
}

# The loop first, which would start kubelet again.
end '^[^ ]*bash /var/lib/minikube/openrc-restart-wrapper.sh '
service kubelet stop >/dev/null 2>&1
end '^/var/lib/minikube/binaries/[^ ]*/kubelet '
[ "${1-}" != kubelet ] || exit 0

if command -v crictl >/dev/null && [ -S /run/containerd/containerd.sock ]; then
  timeout 60 crictl --runtime-endpoint unix:///run/containerd/containerd.sock rmp --all --force >/dev/null 2>&1
fi
service containerd stop >/dev/null 2>&1
# Containers outlive containerd, under their shims.
containers=/run/containerd/runc/k8s.io
if [ -d $containers ] && command -v runc >/dev/null; then
  for container in $(runc --root $containers list --quiet); do
    runc --root $containers delete --force "$container"
  done
fi
end '^[^ ]*containerd-shim-runc-v2 -namespace k8s.io '

# Unmounted before anyone deletes the directories: some are bind mounts of volumes. kubelet mounts its own directory on
# itself; the root of a file system, field 4, is a disk of the host's and stays.
for directory in /var/lib/kubelet /run/containerd /var/lib/containerd; do
  awk -v path="$directory" 'index($5, path "/") == 1 || $5 == path && $4 != "/" {print $5}' /proc/self/mountinfo |
    sort -r | while read -r mount; do
    umount "$mount" || umount --lazy "$mount"
  done
done

for namespace in /run/netns/cni-*; do
  [ ! -e "$namespace" ] || ip netns delete "${namespace##*/}"
done
# The bridge of minikube's CNI configuration.
ip link delete bridge 2>/dev/null
for family in iptables ip6tables; do
  command -v $family-save >/dev/null || continue
  if $family-save | grep -q 'KUBE-\|CNI-'; then $family-save | grep -v 'KUBE-\|CNI-' | $family-restore; fi
done
exit 0
