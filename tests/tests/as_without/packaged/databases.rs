//! PostgreSQL and MariaDB.

use std::time::Duration;

use super::case::{Server, case};

/// A loaded machine's.
const MARGIN: Duration = Duration::from_millis(2500);

pub(super) const SERVERS: &[Server] = &[
    Server {
        name: "postgres",
        protocol: "tcp",
        ports: &[5432],
        // Neither runs as root.
        prepare: "mkdir postgres; chown nobody postgres; chmod a+x ..
            PATH=$PATH:$(echo /usr/lib/postgresql/*/bin)
            setpriv --reuid nobody --clear-groups initdb -NA trust -U app -D postgres > /dev/null
            echo 'host all all all trust' >> postgres/pg_hba.conf",
        start: "cp -a $FILES/postgres data; PATH=$PATH:$(echo /usr/lib/postgresql/*/bin)
            exec setpriv --reuid nobody --clear-groups postgres -D $PWD/data -p $PORT \\
              -c listen_addresses=0.0.0.0 -c unix_socket_directories= -c fsync=off \\
              -c shared_buffers=8MB -c autovacuum=off",
        ready: "psql -qh 127.0.0.1 -U app -d postgres -c ''",
        programs: &[("psql", "postgresql-client"), ("pg_ctlcluster", "postgresql")],
        modules: &[],
        cases: &[
            case(
                "postgres",
                "PostgreSQL: queries, the client's address, errors, COPY both ways",
                "export PGHOST=$SERVER PGUSER=app PGDATABASE=postgres
                 psql -qAtc 'select inet_client_addr(), 1+1'; psql -c 'select wrong'; echo $?
                 seq 300000 > file
                 psql -qc 'create temp table t(n int)' -c '\\\\copy t from file' -c 'select sum(n) from t'
                 psql -qAtc 'select generate_series(1, 300000)' | sha256sum",
            ),
            case(
                "postgres_listen",
                "PostgreSQL: a session that listens, and one that notifies",
                "export PGHOST=$SERVER PGUSER=app PGDATABASE=postgres
                 mkfifo in; psql -qAt < in > got & exec 3> in
                 printf \"listen channel; select 'ready';\\n\" >&3; until grep -sq ready got; do sleep 0.02; done
                 psql -qc \"notify channel, 'hello'\"
                 until grep -sq hello got; do echo 'select 1;' >&3; done
                 grep -o 'payload .* received' got",
            ),
            case(
                "postgres_cancel",
                "PostgreSQL: a query that is cancelled, over a connection of its own",
                "export PGHOST=$SERVER PGUSER=app PGDATABASE=postgres
                 psql -c \"set application_name to 'a$$'\" -c 'select pg_sleep(20)' & query=$!
                 until [ \"$(psql -qAtc \"select count(*) from pg_stat_activity
                   where application_name = 'a$$' and query ~ 'sleep'\")\" = 1 ]; do sleep 0.02; done
                 kill -INT $query; wait $query; echo $?",
            )
            .within(MARGIN),
        ],
    },
    Server {
        name: "mariadb",
        protocol: "tcp",
        ports: &[3306],
        prepare: "mkdir mariadb; chown nobody mariadb; chmod a+x ..
            options=\"--no-defaults --datadir=$PWD/mariadb --user=nobody --innodb-log-file-size=4M\"
            mariadb-install-db $options --auth-root-authentication-method=normal --skip-test-db
            printf '%s\\n' 'flush privileges;' 'create user app;' 'grant all on *.* to app;' \
              | mariadbd $options --bootstrap",
        start: "cp -a $FILES/mariadb data; chmod a+x .
            exec mariadbd --no-defaults --datadir=$PWD/data --user=nobody --port=$PORT \\
              --socket=$PWD/data/socket --innodb-buffer-pool-size=8M --innodb-log-file-size=4M --skip-name-resolve \\
              --innodb-flush-log-at-trx-commit=0 --max-allowed-packet=64M",
        ready: "mariadb --no-defaults -h 127.0.0.1 -P $PORT -u app -e ''",
        programs: &[("mariadbd", "mariadb-server-core"), ("mariadb", "mariadb-client-core")],
        modules: &[],
        cases: &[case(
            "mariadb",
            "MariaDB: queries, the client's address, errors, large values",
            "run() { mariadb --no-defaults -h $SERVER -P $PORT -u app -D mysql --max-allowed-packet=64M -Ne \"$1\"; }
             run 'select user(), 1+1'; run 'select wrong'; echo $?
             run \"select repeat('a', 8000000)\" | sha256sum
             run \"select length('$(printf %0100000d 0)')\"
             run 'select seq from seq_1_to_200000' | sha256sum",
        )],
    },
];
