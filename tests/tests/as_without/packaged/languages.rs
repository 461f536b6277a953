//! Clients and servers of languages' own libraries: Python, Java, Node, Go.

use super::case::{CONNECTS, Server, case};
use super::web::START_NGINX;

pub(super) const SERVERS: &[Server] = &[
    Server {
        name: "go",
        protocol: "http",
        ports: &[8086],
        prepare: "mkdir go; cp asks.go go/main.go; cd go
            GO111MODULE=off go build -o ../asks main.go",
        start: "exec $FILES/asks serve $PORT",
        ready: CONNECTS,
        programs: &[("go", "golang-go")],
        modules: &[],
        cases: &[case(
            "go",
            "Go: net/http on both ends, bodies, trailers, a deadline, a response in parts",
            "$FILES/asks $SERVER $PORT",
        )],
    },
    Server {
        name: "java",
        protocol: "http",
        ports: &[8087],
        prepare: "javac Asks.java",
        start: "exec java -XX:TieredStopAtLevel=1 -cp $FILES Asks serve $PORT",
        ready: CONNECTS,
        programs: &[("javac", "default-jdk-headless")],
        modules: &[],
        cases: &[case(
            "java",
            "Java: HttpClient, which asks for an upgrade to h2c with and without a body, and HttpURLConnection",
            "java -XX:TieredStopAtLevel=1 -cp $FILES Asks $SERVER $PORT",
        )],
    },
    Server {
        name: "node",
        protocol: "http",
        ports: &[8088],
        prepare: "",
        start: "exec node $FILES/asks.js serve $PORT",
        ready: CONNECTS,
        programs: &[("node", "nodejs")],
        modules: &[],
        cases: &[case(
            "node",
            "Node: http and net on both ends, an agent that keeps connections, an upgrade",
            "node $FILES/asks.js $SERVER $PORT",
        )],
    },
    Server {
        name: "python",
        protocol: "http",
        ports: &[8089],
        prepare: "",
        start: START_NGINX,
        ready: CONNECTS,
        programs: &[("nginx", "nginx-light"), ("python3", "python3")],
        modules: &[],
        cases: &[case(
            "python",
            "Python: http.client, urllib and asyncio",
            "python3 $FILES/asks.py $SERVER $PORT",
        )],
    },
];
