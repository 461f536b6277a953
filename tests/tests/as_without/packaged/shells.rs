//! OpenSSH, and rsync through it.

use super::case::{CONNECTS, Server, case};

pub(super) const SERVERS: &[Server] = &[
    Server {
        name: "ssh",
        protocol: "tcp",
        ports: &[22],
        prepare: "ssh-keygen -qN '' -t ed25519 -f key; ssh-keygen -qN '' -t ed25519 -f host",
        // A shell that takes itself for an inner one reads no ~/.bashrc.
        start: "mkdir -p /run/sshd;
            exec /usr/sbin/sshd -D -e -p $PORT -h $FILES/host -o PidFile=none -o UsePAM=no \\
              -o StrictModes=no -o SetEnv=SHLVL=2 -o AuthorizedKeysFile=$FILES/key.pub -o PermitRootLogin=yes",
        ready: CONNECTS,
        programs: &[("sshd", "openssh-server"), ("ssh", "openssh-client"), ("rsync", "rsync")],
        modules: &[],
        cases: &[
            case(
                "ssh",
                "SSH: commands, their input and exit codes, and the client's address",
                "run() { ssh -F $FILES/ssh_config -i $FILES/key $SERVER \"$@\"; }
                 run 'echo $SSH_CONNECTION' | cut -d' ' -f1,3,4; run exit 3; echo $?
                 seq 500000 | run sha256sum; run seq 500000 | sha256sum",
            ),
            case(
                "ssh_forward",
                "SSH: a port that is forwarded, and one that nobody listens on",
                "ssh -F $FILES/ssh_config -i $FILES/key -W 127.0.0.1:22 $SERVER < /dev/null | grep -ao '^SSH-2.0'
                 ssh -F $FILES/ssh_config -i $FILES/key -W 127.0.0.1:9 $SERVER < /dev/null; echo $?",
            ),
            case(
                "rsync_ssh",
                "rsync over SSH: a folder there and back",
                "mkdir out; for i in $(seq 200); do seq $i > out/$i; done
                 target=$(ssh -F $FILES/ssh_config -i $FILES/key $SERVER mktemp -d)
                 for i in 1 2; do rsync -ai -e \"ssh -F $FILES/ssh_config -i $FILES/key\" out/ $SERVER:$target | wc -l; done
                 rsync -a -e \"ssh -F $FILES/ssh_config -i $FILES/key\" $SERVER:$target/ back; diff -r out back
                 ssh -F $FILES/ssh_config -i $FILES/key $SERVER rm -r $target",
            ),
            case(
                "sftp",
                "SFTP: a large file there and back",
                "seq 500000 > file; target=$(ssh -F $FILES/ssh_config -i $FILES/key $SERVER mktemp)
                 printf \"put file $target\\nget $target back\\nrm $target\\n\" \\
                 | sftp -qb - -F $FILES/ssh_config -i $FILES/key $SERVER > /dev/null; cmp file back",
            ),
        ],
    },
];
