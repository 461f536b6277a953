//! Brokers of messages: MQTT and NATS.

use super::case::{CONNECTS, Server, case};

pub(super) const SERVERS: &[Server] = &[
    Server {
        name: "mosquitto",
        protocol: "tcp",
        ports: &[1883],
        prepare: "",
        start: "printf '%s\\n' \"listener $PORT 0.0.0.0\" 'allow_anonymous true' > mosquitto.conf
            exec mosquitto -c $PWD/mosquitto.conf",
        ready: CONNECTS,
        programs: &[("mosquitto", "mosquitto"), ("mosquitto_sub", "mosquitto-clients")],
        modules: &[],
        cases: &[
            case(
                "mqtt",
                "MQTT: a message that is kept, and a large one to who subscribes, exactly once",
                "mosquitto_pub -h $SERVER -p $PORT -t kept -r -m hello
                 mosquitto_sub -h $SERVER -p $PORT -t kept -C 1
                 stdbuf -oL mosquitto_sub -h $SERVER -p $PORT -t large -q 2 -C 1 -d > got & subscriber=$!
                 until grep -sq SUBACK got; do sleep 0.02; done
                 seq 200000 > file; mosquitto_pub -h $SERVER -p $PORT -t large -q 2 -f file
                 wait $subscriber; grep -c ^1999 got",
            ),
            case(
                "mqtt_will",
                "MQTT: the last will of who is killed",
                "stdbuf -oL mosquitto_sub -h $SERVER -p $PORT -t will -C 1 -d > got & reader=$!
                 until grep -sq SUBACK got; do sleep 0.02; done
                 stdbuf -oL mosquitto_sub -h $SERVER -p $PORT -t a -d --will-topic will --will-payload gone > b &
                 until grep -sq SUBACK b; do sleep 0.02; done; { kill -KILL $!; wait $!; } 2> /dev/null
                 wait $reader; grep ^gone got",
            ),
        ],
    },
    Server {
        name: "nats",
        protocol: "tcp",
        ports: &[4222],
        prepare: "",
        start: "exec nats-server -a 0.0.0.0 -p $PORT",
        ready: CONNECTS,
        programs: &[("nats-server", "nats-server")],
        modules: &[],
        cases: &[case(
            "nats",
            "NATS: the server speaks first, and says the client's address",
            "exec 3<>/dev/tcp/$SERVER/$PORT; read -r info <&3
             grep -o '\"client_ip\":\"[^\"]*' <<< \"$info\"
             printf 'CONNECT {\"verbose\":false}\\r\\nSUB a 1\\r\\nPUB a 5\\r\\nhello\\r\\nPING\\r\\n' >&3
             until read -r line <&3; echo \"$line\"; [[ $line = PONG* ]]; do :; done",
        )],
    },
];
