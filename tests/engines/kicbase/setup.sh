#!/bin/sh
# Makes of a Debian with systemd what minikube's image kicbase is, by the recipe in minikube's own module
# (deploy/kicbase/Dockerfile), as far as containerd needs it. A customize hook of mmdebstrap.
# Usage: RECIPE=… CRICTL=… setup.sh ROOT
#   RECIPE: the folder deploy/kicbase of minikube's module.
#   CRICTL: the program.
set -eu
root=$1
inside() { chroot "$root" "$@"; }

install -m 0755 "$RECIPE/entrypoint" "$CRICTL" "$root/usr/local/bin/"
install -m 0644 "$RECIPE"/1*.conf "$root/etc/sysctl.d/"
mkdir -p "$root/etc/containerd" "$root/etc/kubernetes/manifests" "$root/opt/cni" "$root/kind"
install -m 0644 "$RECIPE/containerd.toml" "$root/etc/containerd/config.toml"
# As in the role's containerd.config.toml.j2: minikube's sed turns it back where it finds spaces around the sign.
sh -c 'echo -998 > /proc/self/oom_score_adj' 2>/dev/null ||
  sed -i 's/restrict_oom_score_adj = false/restrict_oom_score_adj=true/' "$root/etc/containerd/config.toml"
ln -s /usr/lib/cni "$root/opt/cni/bin"

# Units that have no business in a container.
rm -f "$root"/lib/systemd/system/sysinit.target.wants/systemd-tmpfiles-setup.service \
  "$root"/lib/systemd/system/multi-user.target.wants/* \
  "$root"/etc/systemd/system/*.wants/* \
  "$root"/lib/systemd/system/local-fs.target.wants/* \
  "$root"/lib/systemd/system/sockets.target.wants/*udev* \
  "$root"/lib/systemd/system/sockets.target.wants/*initctl* \
  "$root"/lib/systemd/system/basic.target.wants/*
echo "ReadKMsg=no" >> "$root/etc/systemd/journald.conf"
inside systemctl mask systemd-binfmt.service udev.service systemd-udevd.service
inside systemctl disable containerd
# They set the kernel of the whole machine.
rm "$root"/usr/lib/sysctl.d/*
inside systemctl enable ssh
# The control plane is found by /etc/hosts, whatever a name server says.
sed -i -E 's/^(hosts:\s*).*/\1files dns/' "$root/etc/nsswitch.conf"

# minikube comes by ssh, as this user.
cat >> "$root/etc/ssh/sshd_config" <<'SSH'
PubkeyAcceptedAlgorithms +ssh-rsa
HostkeyAlgorithms +ssh-rsa
PasswordAuthentication no
SSH
inside groupadd --force docker
inside useradd --create-home --shell /bin/bash --gid docker --groups sudo --password '*' docker
inside install -d -m 0700 -o docker -g docker /home/docker/.ssh
echo '%sudo ALL=(ALL) NOPASSWD:ALL' > "$root/etc/sudoers.d/20-passwordless-sudo"
chmod 0440 "$root/etc/sudoers.d/20-passwordless-sudo"
