//! Files, mail and plain bytes: FTP, rsync, SMTP, and iperf3.

use super::case::{CONNECTS, Server, case};

pub(super) const SERVERS: &[Server] = &[
    Server {
        name: "vsftpd",
        protocol: "tcp",
        ports: &[21, 30021, 30022, 30023],
        prepare: "",
        start: "mkdir -p root/in /var/run/vsftpd/empty; seq 300000 > root/large
            chown ftp root/in; chmod a+rx /tmp $PWD/.. .
            for setting in listen=YES listen_ipv6=NO anonymous_enable=YES anon_root=$PWD/root \\
              write_enable=YES anon_upload_enable=YES anon_other_write_enable=YES \\
              pasv_min_port=30021 pasv_max_port=30023 xferlog_enable=YES xferlog_std_format=NO \\
              vsftpd_log_file=$PWD/log connect_from_port_20=YES background=NO \\
              ftpd_banner=welcome; do echo $setting; done > vsftpd.conf
            touch log; tail -f log | sed -u -e 's/.*] //' -e 's/, [0-9.]*Kb.*//' > server.log &
            exec vsftpd $PWD/vsftpd.conf",
        ready: CONNECTS,
        programs: &[("vsftpd", "vsftpd"), ("curl", "curl"), ("python3", "python3")],
        modules: &[],
        cases: &[
            case(
                "ftp_passive",
                "FTP: files there and back, passive",
                "seq 300000 > file; curl -sS -T file ftp://$SERVER/in/$CASE
                 curl -sS ftp://$SERVER/large | sha256sum
                 curl -sS --disable-epsv ftp://$SERVER/large | sha256sum
                 curl -sS -Q \"-DELE in/$CASE\" -l ftp://$SERVER/",
            )
            .logged(2),
            case(
                "ftp_active",
                "FTP: files there and back, active: the server connects to the client",
                "python3 $FILES/ftp_active.py $SERVER $CASE",
            )
            .logged(2),
        ],
    },
    Server {
        name: "rsync",
        protocol: "tcp",
        ports: &[873],
        prepare: "",
        start: "mkdir root; for i in $(seq 300); do seq $i > root/$i; done
            printf 'use chroot = no\\nreverse lookup = no\\nlog file = %s\\n[files]\\npath = %s\\n' \\
              $PWD/server.log $PWD/root > rsyncd.conf
            exec rsync --daemon --no-detach --config=$PWD/rsyncd.conf --port=$PORT",
        ready: CONNECTS,
        programs: &[("rsync", "rsync")],
        modules: &[],
        cases: &[case(
            "rsync",
            "rsync with a server of its own",
            "rsync rsync://$SERVER/; rsync -a rsync://$SERVER/files/ got
             cat $(ls got/* | sort) | sha256sum; rsync rsync://$SERVER/none 2>&1; echo $?",
        )],
    },
    Server {
        name: "postfix",
        protocol: "tcp",
        // With one of its own, it and the machine's don't know of each other.
        ports: &[2525],
        prepare: "openssl req -x509 -newkey rsa:2048 -nodes -keyout postfix.key -out postfix.pem -days 30 \
            -subj /CN=server 2> /dev/null",
        start: "mkdir etc queue data; chown postfix data; chmod a+x .. .; touch log
            for part in main master
            do sed -e \"s,FOLDER,$PWD,; s,FILES,$FILES,; s,PORT,$PORT,\" $FILES/postfix_$part.cf > etc/$part.cf
            done
            tail -f log | sed -uE -e 's/.*postfix.([a-z]*)[^ ]* (NOQUEUE|[0-9A-F]*):/\\1/' \
              -e 's/delays?=[^ ]* //g' > server.log &
            exec postfix -c $PWD/etc start-fg",
        ready: CONNECTS,
        programs: &[("postfix", "postfix"), ("swaks", "swaks"), ("curl", "curl"), ("openssl", "openssl")],
        modules: &[],
        cases: &[
            case(
                "postfix_mail",
                "Postfix: a mail with an attachment, one that is too large, and one to nobody",
                "mail() { swaks --server $SERVER:$PORT --helo client --from b@example.org --header 'Date: now' \
                   --header 'Message-Id: a' --suppress-data --no-hints \"$@\" 2>&1 | sed 's/queued as.*//'; echo $?; }
                 seq 100000 > file; mail --to $CASE@example.org --attach @file
                 mail --to nobody@example.org --pipeline; mail --to $CASE@example.org --pipeline
                 seq 600000 > large; mail --to c@example.org --attach @large",
            )
            .logged(4),
            case(
                "postfix_tls",
                "Postfix: curl sends a mail after STARTTLS",
                "seq 100000 > file; curl -sSk --ssl-reqd smtp://$SERVER:$PORT/client --mail-from a@example.org \
                 --mail-rcpt $CASE@example.org -T file -v 2>&1 | grep -e '^[<>]' | sed 's/queued as.*//'",
            )
            .logged(2),
            case(
                "postfix_ipv6",
                "Postfix: curl sends a mail over IPv6",
                "seq 100000 > file; curl -sS smtp://[$SERVER]:$PORT/client --mail-from a@example.org \
                 --mail-rcpt $CASE@example.org -T file -v 2>&1 | grep -e '^[<>]' | sed 's/queued as.*//'",
            )
            .over_ipv6()
            .logged(2),
        ],
    },
    Server {
        name: "iperf3",
        protocol: "tcp",
        ports: &[5201],
        prepare: "",
        start: "exec iperf3 -s -p $PORT --forceflush",
        ready: CONNECTS,
        programs: &[("iperf3", "iperf3")],
        modules: &[],
        cases: &[case(
            "iperf3",
            "iperf3: several streams, each way",
            // It takes one test at a time, and the one before may just be ending.
            "run() { until iperf3 -c $SERVER -p $PORT \"$@\" > said 2>&1 || ! grep -q busy said; do sleep 0.02; done
               grep -o -e 'iperf Done' -e error.* said; }
             run -n 8M -P 4; run -n 8M -R",
        )],
    },
];
