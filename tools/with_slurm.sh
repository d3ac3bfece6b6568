#!/usr/bin/env bash
# Run a command beside a Slurm of two nodes on this one machine, which ends with it:
#   tools/with_slurm.sh .venv/bin/pytest -m slurm
# Needs root and Debian's packages slurm-wlm and munge; changes nothing outside a temporary folder.
set -euo pipefail
[ $# -gt 0 ] || { sed -n 2,4p "$0" >&2; exit 2; }
for program in munged slurmctld slurmd; do
    command -v "$program" >/dev/null || { echo "$program is missing: apt-get install slurm-wlm munge" >&2; exit 2; }
done
[ "$(id -u)" -eq 0 ] || { echo "the daemons of Slurm need root" >&2; exit 2; }

folder=$(mktemp -d /tmp/slurm.XXXXXX)
daemons=()
stop() {
    for pid in "${daemons[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait
    rm -rf "$folder"
}
trap stop EXIT
chmod 755 "$folder"
mkdir -m 755 "$folder/munge" "$folder/state"
head -c 1024 /dev/urandom >"$folder/munge/key"
chmod 400 "$folder/munge/key"
host=$(hostname -s)
export SLURM_CONF=$folder/slurm.conf
cat >"$SLURM_CONF" <<CONF
ClusterName=one
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=16817
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge/socket
CryptoType=crypto/munge
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool-%n
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd-%n.pid
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
KillWait=5
NodeName=one NodeHostname=$host NodeAddr=127.0.0.1 Port=16818 CPUs=4 RealMemory=64000
NodeName=two NodeHostname=$host NodeAddr=127.0.0.1 Port=16819 CPUs=4 RealMemory=64000
PartitionName=short Nodes=one,two Default=YES MaxTime=60 State=UP
CONF
start() { # PROGRAM ...: in the background, its messages in a file
    "$@" >>"$folder/daemons.log" 2>&1 &
    daemons+=($!)
}
# The first to start is the last that the others miss.
start munged --foreground --force --key-file "$folder/munge/key" --socket "$folder/munge/socket" \
    --pid-file "$folder/munge/pid" --log-file "$folder/munge/log" --seed-file "$folder/munge/seed"
until [ -S "$folder/munge/socket" ]; do sleep 0.1; done
start slurmctld -D
start slurmd -D -N one
start slurmd -D -N two
for _ in $(seq 300); do
    [ "$(sinfo --noheader --format %T 2>/dev/null)" = idle ] && break
    sleep 0.1
done
if [ "$(sinfo --noheader --format %T 2>/dev/null)" != idle ]; then
    cat "$folder/daemons.log" >&2
    exit 1
fi
"$@"
