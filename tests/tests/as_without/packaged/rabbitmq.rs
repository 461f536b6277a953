//! RabbitMQ.

use super::case::{CONNECTS, Server, case};

pub(super) const SERVERS: &[Server] = &[Server {
    name: "rabbitmq",
    protocol: "tcp",
    ports: &[5672],
    prepare: "",
    // A node and a port mapper (epmd) of its own; all of it in its folder.
    start: "export HOME=$PWD RABBITMQ_MNESIA_BASE=$PWD/mnesia RABBITMQ_LOG_BASE=$PWD/log RABBITMQ_LOGS=- \
          RABBITMQ_NODENAME=rabbit@localhost RABBITMQ_CONFIG_FILE=$PWD/rabbitmq RABBITMQ_NODE_PORT=$PORT \
          RABBITMQ_ENABLED_PLUGINS_FILE=$PWD/plugins RABBITMQ_CONF_ENV_FILE=$PWD/none RABBITMQ_PID_FILE=$PWD/pid \
          RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS='+sbwt none +S 1:1'
        printf '%s\\n' 'loopback_users = none' 'log.console.level = info' > rabbitmq.conf; echo '[].' > plugins
        epmd &
        exec /usr/lib/rabbitmq/bin/rabbitmq-server > >(sed -uE -e 's/.*<[0-9.]+> //' -e 's/<[0-9.]+> //' \
          -e 's/:[0-9]+ -> [^ ]*//' > server.log)",
    ready: CONNECTS,
    programs: &[
        ("rabbitmq-server", "rabbitmq-server"),
        ("amqp-get", "amqp-tools"),
        ("/usr/lib/python3/dist-packages/pika", "python3-pika"),
    ],
    modules: &[],
    cases: &[
        case(
            "amqp_tools",
            "RabbitMQ: small and large messages with the tools of librabbitmq",
            "url=amqp://$SERVER:$PORT; amqp-declare-queue -u $url -q $CASE
             seq 400000 | amqp-publish -u $url -r $CASE; amqp-get -u $url -q $CASE | sha256sum
             amqp-publish -u $url -r $CASE -b hello; amqp-consume -u $url -q $CASE -c 1 cat
             amqp-get -u $url -q $CASE; echo $?; amqp-delete-queue -u $url -q $CASE",
        ),
        case(
            "pika",
            "RabbitMQ: a consumer and a publisher in Python, heartbeats, an error, the client's address",
            "/usr/bin/python3 $FILES/amqp.py $SERVER $PORT $CASE",
        )
        .logged(3),
    ],
}];
