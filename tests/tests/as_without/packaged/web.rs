//! Servers of HTTP, and clients of others that ask them.

use super::case::{CONNECTS, Server, case};

pub(super) const START_NGINX: &str = "seq 300000 > large
    sed \"s/PORT/$PORT; listen [::]:$PORT/\" $FILES/nginx.conf > nginx.conf
    exec nginx -p $PWD -c $PWD/nginx.conf";
const START_NGINX_HTTP2: &str = "seq 300000 > large
    sed \"s/PORT/$PORT http2/\" $FILES/nginx.conf > nginx.conf
    exec nginx -p $PWD -c $PWD/nginx.conf";

const START_NGINX_TLS: &str = "listen=\"$PORT ssl http2; ssl_certificate $FILES/tls.pem\"
    sed \"s,PORT,$listen; ssl_certificate_key $FILES/tls.key,\" $FILES/nginx.conf > nginx.conf
    exec nginx -p $PWD -c $PWD/nginx.conf";
const START_APACHE: &str = "export FOLDER=$PWD MODULES=/usr/lib/apache2/modules
    mkdir root; echo secret > root/secret; htpasswd -bc users user password
    for name in curl_apache curl_upgrade curl_upgrade_with_body curl_apache_http2
    do echo page > root/$name; done; chmod a+x ..
    exec apache2 -DFOREGROUND -f $FILES/apache.conf";

pub(super) const SERVERS: &[Server] = &[
    Server {
        name: "nginx",
        protocol: "http",
        ports: &[8080],
        prepare: "",
        start: START_NGINX,
        ready: CONNECTS,
        programs: &[("nginx", "nginx-light"), ("curl", "curl")],
        modules: &[],
        cases: &[
            case(
                "curl",
                "curl",
                "curl -sv http://$SERVER:$PORT/$CASE 2>&1 | grep -v -e '^[*{}]' -e ^..Date -e -Length",
            )
            .logged(1),
            case(
                "curl_ipv6",
                "curl over IPv6",
                "curl -sw '%{num_connects} %{remote_ip}\\n' http://[$SERVER]:$PORT/{1,2}/$CASE
                 curl -s --interface $CLIENT http://[$SERVER]:$PORT/$CASE
                 curl -sS http://[$SERVER]:$PORT/large | sha256sum",
            )
            .over_ipv6()
            .logged(3),
            case("curl_http10", "curl in HTTP/1.0", "curl -s0 http://$SERVER:$PORT/$CASE | sed 's/HTTP.1../HTTP/'").logged(1),
            case(
                "curl_twice",
                "curl on a connection that stays open",
                "curl -sw '%{num_connects} %{http_version}\\n' http://$SERVER:$PORT/{1,2}/$CASE",
            )
            .logged(2),
            case(
                "curl_interface",
                "curl from an address of its choice",
                "curl -s --interface $CLIENT http://$SERVER:$PORT/$CASE",
            )
            .logged(1),
            case(
                "curl_upload",
                "curl, large files there and back",
                "seq 300000 > file; curl -sS -T file -w '%{http_code} %{size_upload}\\n' \
                 http://$SERVER:$PORT/kept/$CASE
                 curl -sS http://$SERVER:$PORT/kept/$CASE | sha256sum
                 curl -sS -X DELETE http://$SERVER:$PORT/kept/$CASE
                 curl -sS http://$SERVER:$PORT/large | sha256sum",
            )
            .logged(3),
            case(
                "curl_expect",
                "curl, which waits for 100 before it sends a body",
                "seq 100 > file; curl -sSv --expect100-timeout 30 -H 'Expect: 100-continue' -T file \
                 http://$SERVER:$PORT/kept/$CASE 2>&1 | grep -e '^[<>] [HPE]'
                 curl -sSv --expect100-timeout 30 -H 'Expect: 100-continue' -T file http://$SERVER:$PORT/refused/$CASE \
                 2>&1 | grep -e '^[<>] [HPE]'
                 curl -sS -X DELETE http://$SERVER:$PORT/kept/$CASE",
            )
            .logged(3),
            case(
                "curl_chunks",
                "curl, a body whose length isn't known",
                "seq 100000 | curl -sS -T - http://$SERVER:$PORT/kept/$CASE
                 curl -sS http://$SERVER:$PORT/kept/$CASE | sha256sum
                 curl -sS -X DELETE http://$SERVER:$PORT/kept/$CASE",
            )
            .logged(3),
            case(
                "curl_head",
                "curl, HEAD and OPTIONS and a redirect that is followed",
                "curl -sSI http://$SERVER:$PORT/large | grep -v -e Date -e Modified -e ETag -e Connection
                 curl -sS -X OPTIONS http://$SERVER:$PORT/$CASE
                 curl -sSL -w '%{num_redirects} %{num_connects}\\n' http://$SERVER:$PORT/moved",
            )
            .logged(1),
            case(
                "curl_compressed",
                "curl, compressed responses and parts of a file",
                "curl -sS --compressed http://$SERVER:$PORT/large | sha256sum
                 curl -sS -r 1000-2000 http://$SERVER:$PORT/large | sha256sum
                 curl -sS -r -100,0-10 http://$SERVER:$PORT/large | grep -v ^--",
            ),
            case(
                "curl_parallel",
                "curl, a hundred requests at a time",
                "curl -sSZ --no-progress-meter --parallel-max 20 -o /dev/null -w '%{http_code}\\n' \
                 \"http://$SERVER:$PORT/[1-100]/$CASE\" | sort | uniq -c",
            ).logged(100),
        ],
    },
    Server {
        name: "load",
        protocol: "http",
        ports: &[8084],
        prepare: "",
        start: START_NGINX,
        ready: CONNECTS,
        programs: &[("nginx", "nginx-light"), ("ab", "apache2-utils"), ("wrk", "wrk")],
        modules: &[],
        cases: &[
            case(
                "ab",
                "ApacheBench",
                "ab -q -n 300 -c 10 http://$SERVER:$PORT/$CASE \
                 | grep -e Server -e Complete -e Failed -e Non -e Write",
            )
            .logged(300),
            case(
                "wrk",
                "wrk",
                "wrk -t1 -c8 -d1s http://$SERVER:$PORT/$CASE | grep -e Non-2xx -e errors; echo $?",
            ),
        ],
    },
    Server {
        name: "nginx-h2c",
        protocol: "http",
        ports: &[8081],
        prepare: "",
        start: START_NGINX_HTTP2,
        ready: CONNECTS,
        programs: &[("h2load", "nghttp2-client")],
        modules: &[],
        cases: &[
            case(
                "curl_http2",
                "curl in HTTP/2 from the first byte on",
                "curl -sv --http2-prior-knowledge http://$SERVER:$PORT/$CASE 2>&1 | grep -v -e '^[*{}]' -e ^..date -e -length",
            )
            .logged(1),
            case(
                "curl_http2_upload",
                "the same with large bodies",
                "seq 300000 > file; curl -sS --http2-prior-knowledge -T file \
                 -w '%{http_code} %{size_upload}\\n' http://$SERVER:$PORT/kept/$CASE
                 curl -sS --http2-prior-knowledge http://$SERVER:$PORT/kept/$CASE | sha256sum
                 curl -sS --http2-prior-knowledge -X DELETE http://$SERVER:$PORT/kept/$CASE",
            )
            .logged(3),
            case(
                "h2load",
                "h2load, with many streams",
                "h2load -n500 -c4 -m20 http://$SERVER:$PORT/$CASE | grep -e ^requests -e ^status",
            )
            .logged(500),
        ],
    },
    Server {
        name: "apache",
        protocol: "http",
        ports: &[8082],
        prepare: "",
        start: START_APACHE,
        ready: CONNECTS,
        programs: &[("apache2", "apache2-bin"), ("ab", "apache2-utils"), ("curl", "curl")],
        modules: &[],
        cases: &[
            case(
                "curl_apache",
                "curl to Apache's server, and with a password",
                "curl -sSi http://$SERVER:$PORT/$CASE | grep -e ^HTTP -e ^page -e ^X-Seen
                 curl -sSi http://$SERVER:$PORT/secret | grep -e ^HTTP -e ^WWW
                 curl -sS -u user:password http://$SERVER:$PORT/secret
                 curl -sS --digest --anyauth -u user:wrong -o /dev/null -w '%{http_code}\\n' \
                 http://$SERVER:$PORT/secret",
            ),
            case(
                "curl_upgrade",
                "curl, which asks for an upgrade to h2c",
                "curl -sS --http2 -w '%{http_version}\\n' http://$SERVER:$PORT/$CASE",
            )
            .logged(1),
            case(
                "curl_upgrade_with_body",
                "the same with a body",
                "seq 1000 | curl -sS --http2 --data-binary @- http://$SERVER:$PORT/$CASE",
            )
            .logged(1),
            case(
                "curl_apache_http2",
                "curl to Apache's server in HTTP/2 from the first byte on",
                "curl -sS --http2-prior-knowledge -w '%{http_version}\\n' http://$SERVER:$PORT/$CASE",
            )
            .logged(1),
        ],
    },
    Server {
        name: "proxied",
        protocol: "http",
        ports: &[8083],
        prepare: "",
        start: START_NGINX,
        ready: CONNECTS,
        programs: &[("nginx", "nginx-light"), ("haproxy", "haproxy"), ("curl", "curl")],
        modules: &[],
        cases: &[
            case(
                "nginx_as_proxy",
                "nginx as a reverse proxy, in HTTP/1.0 as by default, and with connections it keeps",
                "sed \"s/SERVER:PORT/$SERVER:$PORT/\" $FILES/nginx_proxy.conf > nginx.conf
                 nginx -p $PWD -c $PWD/nginx.conf 2> /dev/null &
                 until curl -so /dev/null http://127.0.0.1:9000/; do sleep 0.02; done
                 curl -s http://127.0.0.1:9000/{1,2}/$CASE | sed 's/HTTP.1../HTTP/'
                 seq 200000 > file; curl -sS -T file http://127.0.0.1:9000/kept/$CASE
                 curl -sS http://127.0.0.1:9000/kept/$CASE | sha256sum
                 curl -sS -X DELETE http://127.0.0.1:9000/kept/$CASE; curl -s http://127.0.0.1:9000/large | sha256sum",
            )
            .logged(5),
            case(
                "haproxy",
                "HAProxy, which checks its servers",
                "haproxy -f $FILES/haproxy.cfg > /dev/null 2>&1 &
                 until curl -sf http://127.0.0.1:9002/\\;csv > csv && grep -q nobody,.*DOWN csv; do sleep 0.02; done
                 grep -o -e ^servers,first,.*UP -e ^plain,first,.*UP csv | cut -d, -f1,2
                 curl -s http://127.0.0.1:9000/{1,2}/$CASE; curl -s http://127.0.0.1:9001/3/$CASE
                 curl -s http://127.0.0.1:9000/large | sha256sum",
            )
            .logged(3),
        ],
    },
    Server {
        name: "tls",
        protocol: "https",
        ports: &[8443],
        prepare: "openssl req -x509 -newkey rsa:2048 -nodes -keyout tls.key -out tls.pem -days 30 \
            -subj /CN=server 2> /dev/null",
        start: START_NGINX_TLS,
        ready: CONNECTS,
        programs: &[("openssl", "openssl"), ("nginx", "nginx-light"), ("curl", "curl")],
        modules: &[],
        cases: &[
            case(
                "curl_tls",
                "curl with TLS of its own, in HTTP/1.1 and HTTP/2",
                "for version in --http1.1 --http2; do seq 200000 > file
                 curl -sSk $version -w '%{http_version}\\n' https://$SERVER:$PORT/{1,2}/$CASE
                 curl -sSk $version -T file https://$SERVER:$PORT/kept/$CASE
                 curl -sSk $version https://$SERVER:$PORT/kept/$CASE | sha256sum
                 curl -sSk $version -X DELETE https://$SERVER:$PORT/kept/$CASE; done",
            )
            .logged(10),
            case(
                "curl_tls_refused",
                "curl, which refuses the server's certificate",
                "curl -sS https://$SERVER:$PORT/$CASE 2>&1 | head -1; true",
            ),
        ],
    },
    Server {
        name: "websocket",
        protocol: "http",
        ports: &[8085],
        prepare: "",
        start: "exec /usr/bin/python3 $FILES/websocket.py serve $PORT",
        ready: CONNECTS,
        programs: &[("/usr/lib/python3/dist-packages/websockets", "python3-websockets")],
        modules: &[],
        cases: &[
            case(
                "websocket",
                "WebSocket: texts and bytes, large and in fragments, compressed, pings, who ends and why",
                "/usr/bin/python3 $FILES/websocket.py $SERVER $PORT $CASE",
            )
            .logged(21),
            case(
                "websocket_ipv6",
                "the same over IPv6",
                "/usr/bin/python3 $FILES/websocket.py \"[$SERVER]\" $PORT $CASE",
            )
            .over_ipv6()
            .logged(21),
        ],
    },
];
