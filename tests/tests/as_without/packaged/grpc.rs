//! gRPC: the libraries for Python, Go and Java, each on both ends.

use super::case::{CONNECTS, Server, case};

pub(super) const SERVERS: &[Server] = &[
    Server {
        name: "grpc-python",
        protocol: "grpc",
        ports: &[50051],
        prepare: "",
        start: "exec /usr/bin/python3 $FILES/grpc_calls.py serve $PORT",
        ready: CONNECTS,
        programs: &[("/usr/lib/python3/dist-packages/grpc", "python3-grpcio")],
        modules: &[],
        cases: &[
            case(
                "grpc",
                "gRPC for Python: calls, streams both ways, cancelled ones and deadlines, metadata, \
                 compression, keepalive pings",
                "/usr/bin/python3 $FILES/grpc_calls.py $SERVER:$PORT $CASE",
            )
            .logged(2),
            case(
                "grpc_ipv6",
                "the same over IPv6",
                "/usr/bin/python3 $FILES/grpc_calls.py \"[$SERVER]:$PORT\" $CASE",
            )
            .over_ipv6()
            .logged(2),
        ],
    },
    Server {
        name: "grpc-go",
        protocol: "grpc",
        ports: &[50052],
        prepare: "",
        start: "exec $FILES/grpc-interop-server --port=$PORT",
        ready: CONNECTS,
        programs: &[("go", "golang-go")],
        modules: &["grpc-interop/client", "grpc-interop/server"],
        cases: &[case(
            "grpc_interop",
            "gRPC for Go: its interoperability tests, with its client and its server",
            // Reports of load are read by a balancer of the client's own.
            "balancer='{\"loadBalancingConfig\":[{\"test_backend_metrics_load_balancer\":{}}]}'
             call() { $FILES/grpc-interop-client --server_host=$SERVER --server_port=$PORT --test_case=\"$@\" \
               > said 2>&1; echo $1 $?; sed -n 's/.*FATAL: //p' said; }
             for test in empty_unary large_unary client_streaming server_streaming ping_pong empty_stream \
               timeout_on_sleeping_server cancel_after_begin cancel_after_first_response \
               status_code_and_message special_status_message custom_metadata unimplemented_method \
               unimplemented_service; do call $test; done
             for test in rpc_soak channel_soak; do call $test --soak_iterations=50 --soak_overall_timeout_seconds=60 \
               --soak_per_iteration_max_acceptable_latency_ms=10000; done
             for test in orca_per_rpc orca_oob; do call $test --service_config_json=$balancer; done",
        )],
    },
    Server {
        name: "grpc-java",
        protocol: "grpc",
        // Netty watches one buffer of a hundred, and says by chance, with the mesh or without,
        // which its client hadn't released when it ended.
        ports: &[50053],
        prepare: "jars=$(printf '/usr/share/java/%s.jar:' grpc-{api,context,core,netty,stub} guava perfmark-api \
              netty-{buffer,codec,codec-http,codec-http2,codec-socks,common,handler,handler-proxy} \
              netty-{resolver,transport,transport-native-unix-common})
            javac -cp $jars GrpcCalls.java
            echo -XX:TieredStopAtLevel=1 -Dio.netty.leakDetection.level=disabled -cp $jars$PWD > grpc_calls.options",
        start: "exec java @$FILES/grpc_calls.options GrpcCalls serve $PORT",
        ready: CONNECTS,
        programs: &[
            ("javac", "default-jdk-headless"),
            ("/usr/share/java/grpc-netty.jar", "libgrpc-java"),
            ("/usr/share/java/guava.jar", "libguava-java"),
            ("/usr/share/java/netty-transport.jar", "libnetty-java"),
            ("/usr/share/java/perfmark-api.jar", "libperfmark-java"),
        ],
        modules: &[],
        cases: &[case(
            "grpc_java",
            "gRPC for Java, with Netty: calls, streams both ways, cancelled ones and deadlines, metadata, \
             compression, connections that their server ends for their age",
            "java @$FILES/grpc_calls.options GrpcCalls $SERVER $PORT $CASE",
        )
        .logged(2)],
    },
];
