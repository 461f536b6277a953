//! Redis and memcached.

use std::time::Duration;

use super::case::{Server, case};

/// A loaded machine's.
const MARGIN: Duration = Duration::from_millis(900);

pub(super) const SERVERS: &[Server] = &[
    Server {
        name: "redis",
        protocol: "tcp",
        ports: &[6379],
        prepare: "",
        start: "exec redis-server --port $PORT --bind 0.0.0.0 :: --protected-mode no --save ''",
        ready: "redis-cli -p $PORT ping",
        programs: &[("redis-server", "redis-server"), ("redis-cli", "redis-tools")],
        modules: &[],
        cases: &[
            case(
                "redis",
                "Redis: values, and the client's address",
                "cli() { redis-cli -h $SERVER -p $PORT \"$@\"; }
                 cli SET key value EX 100; cli GET key; cli INCR number; cli DEL number; cli NOSUCH
                 cli CLIENT INFO | tr ' ' '\\n' | grep addr= | sed 's/:.*//'",
            ),
            case(
                "redis_ipv6",
                "Redis over IPv6",
                "seq 100000 | redis-cli -h $SERVER -p $PORT -x SET large
                 redis-cli -h $SERVER -p $PORT GET large | sha256sum
                 redis-cli -h $SERVER -p $PORT CLIENT INFO | tr ' ' '\\n' | grep addr= | sed 's/:[0-9]*$//'",
            )
            .over_ipv6(),
            case(
                "redis_pipeline",
                "Redis: 5,000 commands in one go",
                "redis-cli -h $SERVER -p $PORT FLUSHALL
                 seq -f 'SET key%.0f value' 5000 | redis-cli -h $SERVER -p $PORT --pipe
                 redis-cli -h $SERVER -p $PORT DBSIZE",
            ),
            case(
                "redis_large",
                "Redis: a value of 3 MB",
                "seq 400000 | redis-cli -h $SERVER -p $PORT -x SET large
                 redis-cli -h $SERVER -p $PORT GET large | sha256sum",
            ),
            case(
                "redis_subscribe",
                "Redis: a subscriber and who publishes",
                "timeout 20 redis-cli -h $SERVER -p $PORT SUBSCRIBE channel > got &
                 until [ \"$(redis-cli -h $SERVER -p $PORT PUBLISH channel hello)\" = 1 ]; do sleep 0.02; done
                 until grep -sq hello got; do sleep 0.02; done; cat got",
            ),
            case(
                "redis_blocking_pop",
                "Redis: who waits for a value, and for none",
                "redis-cli -h $SERVER -p $PORT BLPOP nothing 1
                 redis-cli -h $SERVER -p $PORT BLPOP list 20 > got & waiting=$!
                 redis-cli -h $SERVER -p $PORT RPUSH list value; wait $waiting; cat got",
            )
            .within(MARGIN),
            case(
                "redis_kill",
                "Redis: the server ends a waiting client's connection",
                "redis-cli -h $SERVER -p $PORT BLPOP nothing 20 > got 2>&1 & waiting=$!
                 until [ \"$(redis-cli -h $SERVER -p $PORT CLIENT LIST | grep -c cmd=blpop)\" = 1 ]; do sleep 0.02; done
                 redis-cli -h $SERVER -p $PORT CLIENT KILL TYPE normal > /dev/null
                 wait $waiting; echo $?; cat got",
            ),
            case(
                "redis_benchmark",
                "redis-benchmark, with and without pipelining",
                "redis-benchmark -h $SERVER -p $PORT -q -t set,get -n 500 -c 20 > /dev/null; echo $?
                 redis-benchmark -h $SERVER -p $PORT -q -t get -n 5000 -P 50 > /dev/null",
            ),
        ],
    },
    Server {
        name: "memcached",
        protocol: "tcp",
        ports: &[11211],
        prepare: "",
        start: "exec memcached -u nobody -p $PORT -U 0 -I 8m",
        ready: super::case::CONNECTS,
        programs: &[("memcached", "memcached")],
        modules: &[],
        cases: &[
            case(
                "memcached",
                "memcached: values, several in one packet, and the client's address",
                "exec 3<>/dev/tcp/$SERVER/$PORT
                 printf 'set key 0 100 5\\r\\nvalue\\r\\nget key\\r\\nget none\\r\\nincr none 1\\r\\n\
                 nonsense\\r\\nstats conns\\r\\nquit\\r\\n' >&3
                 cat <&3 | grep -v -e secs -e ':fd' -e ':UDP' | sed -e 's/STAT [0-9]*:/STAT /' -e 's/:[0-9]*\\r/\\r/' | sort -u",
            ),
            case(
                "memcached_large",
                "memcached: a value of 3 MB",
                "seq 400000 > file; exec 3<>/dev/tcp/$SERVER/$PORT
                 { printf 'set large 0 0 %d\\r\\n' $(stat -c %s file); cat file
                   printf '\\r\\nget large\\r\\nquit\\r\\n'; } >&3
                 cat <&3 | sha256sum",
            ),
        ],
    },
];
